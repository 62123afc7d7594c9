"""The integer approximations against numbers worked by hand, and what differs from the released codes."""

from __future__ import annotations

import math

import pytest

from tests.spec import derive_unary, functions
from tests.spec.derive_unary import constants
from tests.spec.numbers import Affine, float32
from tests.spec.unary import IbertErf, IbertExp, IvitExp, Nnlut, Poly, scaled


def s8(scale: float, zero_point: int = 0) -> Affine:
    return Affine(float32(scale), zero_point, -128, 127)


def values(function: str, method: str, scale: float, **parameters: int) -> list[tuple[float, float]]:
    """(x, f(x)) in real numbers, before the result is rounded to a grid."""
    x, y = s8(scale), s8(2.0**-12)
    made = constants(function, method, x, y, parameters)
    unit = float(made.requant.value()) * y.scale
    return [(v * x.scale, made.apply(v) * unit) for v in range(-127, 128)]


def gelu(x: float) -> float:
    return x / 2 * (1 + math.erf(x / math.sqrt(2)))


def worst(pairs: list[tuple[float, float]]) -> float:
    return max(abs(got - gelu(x)) for x, got in pairs)


def test_ibert_erf() -> None:
    """S = 1/4: b = floor(-1.769 * 4) = -8. With a = -1/4, 1 would be c = 1 / (a S^2) = -64."""
    curve = IbertErf(up=0, n=0, b=-8, c=-64, one=-64)
    assert [curve.value(v) for v in (0, 3, -3, 8, 9, 200)] == [0, 25 - 64, 64 - 25, -64, -64, -64]
    assert curve.gate(-200) == (0, 128)
    assert curve.gate(200) == (128, 128)
    shifted = IbertErf(up=1, n=3, b=-8, c=-64, one=-8)
    assert [shifted.value(v) for v in (2, 3, -3)] == [-6, -8, 7]  # -6, -7.5 and 7.5, floored


def test_ibert_exp() -> None:
    """An octave of 4 units; exp(p) ~ (p (p + 12) + 64) / 64 is 64, 53, 44, 37 at p = 0 .. -3."""
    curve = IbertExp(up=0, shift=0, clip=30, bits=8, unit=4, b=12, c=64)
    assert [curve.exp(t) for t in (0, -1, -2, -3, -4, -9, 4, 1)] == [64, 53, 44, 37, 32, 13, 128, 74]
    assert [curve.gate(v)[0] for v in (0, 4, -4)] == [128, 171, 85]  # 64 / 96 and 32 / 96 of 256


def test_shift_exp() -> None:
    """16 units an octave; -16 + (-16 >> 1) - (-16 >> 4) = -23, one octave and 7: (16 - 3.5) / 2."""
    curve = IvitExp(up=0, shift=4, clip=4, bits=8, division=31, unit=16)
    assert [curve.exp(t) for t in (0, -16, -1, -3, 16)] == [256, 100, 248, 224, 23 * 32]
    assert curve.gate(0) == (63, 128)  # (2^31 - 1) // 512 is one below 2^22, and 64 floors to 63
    assert IvitExp(0, 4, 4, 8, 62, 16).gate(0) == (63, 128)


def test_poly() -> None:
    curve = Poly(up=1, square=2, n=1, b=-8, c=-256, one=-128)
    assert [curve.value(v) for v in (0, 1, -1, 100)] == [0, -88, 88, -128]  # w = -6, h = 9, -175 / 2


def test_nnlut() -> None:
    curve = Nnlut((-100, 0, 10), (0, 2, -1), (7, 1, 50))
    assert [curve.value(v) for v in (-255, -1, 0, 9, 10)] == [7, 7, 1, 19, 40]


def test_shifts_saturate() -> None:
    assert [scaled(3, k) for k in (-1, 0, 29, 30, 400, -400)] == [1, 3, 3 << 29, 2**31 - 1, 2**31 - 1, 0]
    assert scaled(2**40, -2) == 2**31 - 1


def test_constants_of_ibert() -> None:
    """S = s_x / sqrt 2; at s_x = sqrt(2) / 256 the constants are 1.769 * 256 = 452.9 and 2^16 / 0.2888."""
    curve = constants("gelu", "ibert", s8(math.sqrt(2) / 256), s8(1.0)).curve
    assert isinstance(curve, IbertErf)
    assert (curve.up, curve.n, curve.b) == (0, 0, -453)
    assert abs(curve.c + 65536 / 0.2888) < 2
    coarse = constants("gelu", "ibert", s8(math.sqrt(2)), s8(1.0)).curve
    assert isinstance(coarse, IbertErf)
    assert (coarse.up, coarse.b) == (8, -453)
    published = constants("gelu", "ibert", s8(math.sqrt(2)), s8(1.0), {"x_bits": 0}).curve
    assert isinstance(published, IbertErf)
    assert (published.up, published.b, published.c) == (0, -2, -4)  # 1.769 and 3.46 as 2 and 4


def test_constants_of_ivit() -> None:
    curve = constants("silu", "ivit", s8(1 / 12), s8(1.0), {"x_bits": 0}).curve
    assert curve == IvitExp(up=0, shift=23, clip=23, bits=8, division=62, unit=12)


def test_the_shift_of_the_released_ibert_needs_a_fine_unit() -> None:
    """It divides L by 2^14, which suits the accumulators that it is given; an int8 grid has L of 2^11."""
    assert worst(values("gelu", "ibert", 4 / 127, n=14, x_bits=0)) > 2
    assert worst(values("gelu", "ibert", 4 / 127, n=14, x_bits=12)) < 0.02
    assert worst(values("gelu", "ibert", 4 / 127)) < 0.0185


def test_the_reciprocal_of_the_released_ivit_has_few_bits() -> None:
    """e + e' lies near 2^30 and (2^31 - 1) // (e + e') in 1 .. 21: the sigmoid loses up to half. The equation
    in the paper has 2^M there, with M left open; 62 bits make the division exact but for the last floor."""
    released = values("gelu", "ivit", 1 / 127, division=31, x_bits=0)
    assert worst(released) > 0.2
    assert worst(values("gelu", "ivit", 1 / 127)) < 0.012


def test_the_row_maximum_of_the_released_ivit_makes_neighbours_matter() -> None:
    """The same element beside a small and beside a large one; element by element, nothing changes."""
    curve = constants("gelu", "ivit", s8(4 / 127), s8(1.0)).curve
    assert isinstance(curve, IvitExp)
    alone = [curve.gate(v)[0] for v in range(-127, 128)]
    for v, gate in zip(range(-127, 128), alone, strict=True):
        assert curve.rows([v, 0])[0] == gate  # the row's maximum is max(v, 0)
    beside = [curve.rows([v, 127])[0] for v in range(-127, 128)]
    assert beside[-1] == alone[-1]
    differing = [abs(a - b) for a, b in zip(alone, beside, strict=True)]
    assert sum(d > 0 for d in differing) > 50
    assert 3 <= max(differing) <= 8  # of 128: the two approximate quotients have errors of their own


def test_a_large_neighbour_reaches_the_clip_of_the_released_ivit() -> None:
    """exp stops at 2^-23: beside an 8, the gate of -4 is 2^-23 / (2^-23 + exp(-8 * 1.702)), not 0.0011."""
    curve = constants("gelu", "ivit", s8(8 / 127), s8(1.0), {"x_bits": 0, "bits": 16}).curve
    assert isinstance(curve, IvitExp)
    alone, beside_4, beside_8 = (
        g / 2**15 for g in (curve.gate(-64)[0], *(curve.rows([-64, v])[0] for v in (64, 127)))
    )
    assert 0.0016 < beside_4 < 0.0018
    assert 0.0016 < alone < 0.0018
    assert 0.034 < beside_8 < 0.037


@pytest.mark.parametrize("beta", [2.5, 2.7, 3.0])
def test_poly_gelu_as_printed_is_no_erf(beta: float) -> None:
    """sign(x) [a (clip(|x|) + b)]^4 + 1 is at least 1 for x > 0, whatever a is, and not odd.

    Odd, 0 at 0 and 1 at the end fix the form: sign(x) (1 + a (min(|x|, beta) - beta)^4), a near -1 / beta^4.
    """
    for a in (-0.5, -0.1, 0.1, 0.5):
        assert all((a * (min(x, beta) - beta)) ** 4 + 1 >= 1 > math.erf(x) for x in (0.1, 0.5, 1.0, 2.0))
    points = (0.0, 0.5, 1.0, 2.0, beta, 9.0)
    form = [1 - (min(x, beta) - beta) ** 4 / beta**4 for x in points]
    assert form[0] == 0
    assert form[-2:] == [1.0, 1.0]
    assert max(abs(f - math.erf(x)) for f, x in zip(form, points, strict=True)) < 0.09


@pytest.mark.parametrize("target", [math.erf, math.tanh])
@pytest.mark.parametrize("scale", [0.001, 0.02, 0.05, 0.3])
def test_poly_fit_is_the_best_there_is(target: object, scale: float) -> None:
    """No other a and beta near it has a smaller error."""
    assert callable(target)
    x = s8(1.0)
    a, beta = derive_unary.fit_poly(target, scale, x)
    points = [abs(q) * scale for q in range(-128, 128) if q != 0]

    def error(a: float, beta: float) -> float:
        return sum((1 + a * (min(t, beta) - beta) ** 4 - target(t)) ** 2 for t in points)

    least = error(a, beta)
    for da in (-1e-3, 0.0, 1e-3):
        for db in (-1 / 64, 0.0, 1 / 64):
            assert error(a * (1 + da), beta + db) >= least * (1 - 1e-6) - 1e-15


def test_every_form_is_of_a_known_function() -> None:
    assert {name for forms in derive_unary.FORMS.values() for name in forms} <= set(functions.NAMES)
