"""The number definitions against values worked by hand, and float32 against the machine's."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from tests.spec.numbers import (
    INT32_MAX,
    Affine,
    Clamp,
    Dyadic,
    dequantize,
    dyadic,
    float32,
    quantize,
    requantize,
    rne,
    rnu,
)


def test_rne_takes_the_even_neighbour() -> None:
    halves = [Fraction(n, 2) for n in (-5, -3, -1, 1, 3, 5)]
    assert [rne(v) for v in halves] == [-2, -2, 0, 0, 2, 2]


def test_rnu_rounds_half_up() -> None:
    # m / 2^s = 1/2
    assert [rnu(x, 2**30, 31) for x in (-5, -3, -1, 1, 3, 5)] == [-2, -1, 0, 1, 2, 3]


def test_rnu_reaches_both_ends_of_int32() -> None:
    assert rnu(INT32_MAX, 2**31 - 1, 1) == ((2**31 - 1) ** 2 + 1) >> 1
    assert rnu(-(2**31), 2**31 - 1, 62) == -1


@pytest.mark.parametrize(
    ("real", "multiplier", "shift"),
    [
        (1.0, 2**30, 30),
        (0.75, 1610612736, 31),  # 0.75 * 2^31
        (1 / 3, 1431655765, 32),  # 2^32 / 3 = 1431655765.33
        (2.0**29, 2**30, 1),  # the largest shift-1 power of two
        (math.nextafter(1.0, 0.0), 2**30, 30),  # rounds up to 2^31, renormalised
        (2.0**-32, 2**30, 62),  # the smallest that is exact
        (2.0**-33, 2**30, 62),  # too small: encoded as nothing
        (5e-324, 2**30, 62),
    ],
)
def test_dyadic(real: float, multiplier: int, shift: int) -> None:
    assert dyadic(real) == Dyadic(multiplier, shift)


def test_the_smallest_dyadic_number_is_zero_for_every_int32() -> None:
    smallest = dyadic(2.0**-40)
    assert [rnu(x, smallest.multiplier, smallest.shift) for x in (-(2**31), -1, 0, INT32_MAX)] == [0] * 4


def test_dyadic_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(OverflowError):
        dyadic(2.0**30)
    for bad in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="multiplier"):
            dyadic(bad)


def test_dyadic_relative_error_is_at_most_2_to_minus_31() -> None:
    """m >= 2^30 and it is off by at most 1/2."""
    for real in np.random.default_rng(0).uniform(2.0**-20, 2.0**8, 2000).tolist():
        assert abs(dyadic(real).value() / Fraction(real) - 1) <= Fraction(1, 2**31)


def test_requantize_adds_the_zero_point_then_clamps() -> None:
    half = Dyadic(2**30, 31)
    assert [requantize(x, half, Clamp(-3, -8, 7)) for x in (-20, -1, 0, 1, 40)] == [-8, -3, -3, -2, 7]


def test_float32_is_the_machines() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate(
        [rng.normal(size=500) * 10.0 ** rng.integers(-46, 39, 500), [1e-46, 1.5e-45, 3.5e38, -3.5e38, 0.0]]
    )
    with np.errstate(over="ignore"):
        expected = values.astype(np.float32).astype(np.float64).tolist()
    assert [float32(v) for v in values.tolist()] == expected


def test_float32_takes_ties_to_even() -> None:
    step = Fraction(1, 2**23)
    assert float32(1 + step / 2) == 1.0
    assert float32(1 + 3 * step / 2) == 1 + 2 * step


def test_quantize_by_hand() -> None:
    grid = Affine(0.5, 10, -128, 127)
    # x / scale = 2.5, 3.5, -2.5: ties to even, then + 10
    assert [quantize(x, grid) for x in (1.25, 1.75, -1.25, 0.0)] == [12, 14, 8, 10]
    assert [quantize(x, grid) for x in (1e30, -1e30, math.inf, -math.inf)] == [127, -128, 127, -128]
    with pytest.raises(ValueError, match="NaN"):
        quantize(math.nan, grid)


def test_quantize_divides_and_does_not_multiply_by_a_reciprocal() -> None:
    """At x = fl32((n + 1/2) s) many quotients are ties, which a product with fl32(1/s) misses."""
    scale = Fraction(float32(0.37))
    reciprocal = Fraction(float32(1 / scale))
    differing = 0
    for n in range(-128, 128):
        x = Fraction(float32((n + Fraction(1, 2)) * scale))
        differing += rne(float32(x * reciprocal)) != quantize(float(x), Affine(float(scale), 0, -129, 129))
    assert differing > 256 // 10


def test_quantize_is_numpys_float32_division() -> None:
    rng = np.random.default_rng(2)
    for scale in (0.1, 1 / 3, 2.0**-7, 1.7e-20):
        scale32 = np.float32(scale)
        ties = (rng.integers(-400, 400, 300) / np.float32(2)).astype(np.float32) * scale32
        x = np.concatenate([ties, (rng.normal(size=200) * 100 * scale).astype(np.float32)])
        expected = np.clip(np.rint(x / scale32), -131, 124).astype(int) + 3
        got = [quantize(float(v), Affine(float(scale32), 3, -128, 127)) for v in x]
        assert got == expected.tolist()


def test_dequantize_rounds_the_product_once() -> None:
    grid = Affine(float32(0.1), -7, -32768, 32767)
    for q in (-32768, -8, -7, 0, 12345, 32767):
        assert dequantize(q, grid) == float(np.float32(q + 7) * np.float32(0.1))
