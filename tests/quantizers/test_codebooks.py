"""Codebooks: levels worked by hand, and a logarithm in 60 digits that says where rounding switches."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from pyquant import ops
from pyquant.quantizers import codebooks
from pyquant.quantizers.codebooks import Codebook

HALF = Fraction(1, 2)


def decimal_log2(v: Fraction) -> Decimal:
    with localcontext(Context(prec=60)):
        return (Decimal(v.numerator) / Decimal(v.denominator)).ln() / Decimal(2).ln()


def rounded_log(v: float, step: Fraction, shift: float = 0.0) -> int:
    """``rne(-log2(v + shift) / step)``, exactly: a power of two has an exact logarithm, any other
    float an irrational one, which is no tie."""
    exact = Fraction(v) + Fraction(shift)
    mantissa, exponent = math.frexp(float(exact))
    if exact == Fraction(float(exact)) and mantissa == 0.5:
        return round(-Fraction(exponent - 1) / step)
    with localcontext(Context(prec=60)):
        scaled = -decimal_log2(exact) * step.denominator / step.numerator
        return int(scaled.to_integral_value(rounding="ROUND_HALF_EVEN"))


def probes(book: Codebook) -> np.ndarray:
    """Every threshold and level, and the floats beside them."""
    at = np.concatenate([book.thresholds, book.levels])
    up, down = (np.nextafter(at, np.float32(end)) for end in (np.inf, -np.inf))
    return np.concatenate([at, up, down])


def codes(book: Codebook, v: np.ndarray) -> np.ndarray:
    return ops.levels(v, 1.0, book.levels, book.thresholds, codes=True)


BASES: list[tuple[Callable[[int], Codebook], Fraction]] = [
    (codebooks.log2, Fraction(1)),
    (codebooks.log_sqrt2, HALF),
    (lambda bits: codebooks.logarithmic(bits, 13, 37), Fraction(13, 37)),
    (lambda bits: codebooks.logarithmic(bits, 74, 37), Fraction(2)),
    (lambda bits: codebooks.logarithmic(bits, 5, 128), Fraction(5, 128)),
]


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("make", "step"), BASES, ids=["log2", "log_sqrt2", "13/37", "2", "5/128"])
def test_logarithms_round_as_the_paper_says(
    make: Callable[[int], Codebook], step: Fraction, bits: int
) -> None:
    book = make(bits)
    count = min(2**bits, math.floor(126 / step) + 1)
    assert len(book) == count
    v = probes(book)
    v = v[v > 0]
    want = [count - 1 - min(max(rounded_log(float(x), step), 0), count - 1) for x in v]
    assert codes(book, v).tolist() == want
    for k, level in enumerate(book.levels[::-1].tolist()):
        with localcontext(Context(prec=60)):
            exact = Decimal(2) ** (Decimal(-k * step.numerator) / step.denominator)
            gap = Decimal(float(np.spacing(np.float32(level))))
            assert abs(Decimal(level) - exact) <= gap / 2


def test_levels_by_hand() -> None:
    assert codebooks.log2(2).levels.tolist() == [1 / 8, 1 / 4, 1 / 2, 1]
    assert codebooks.log2(3).levels.tolist() == [2.0**-k for k in range(7, -1, -1)]
    assert codebooks.log2(4).levels[0] == 2.0**-15
    sqrt2 = np.float32(2**0.5)
    assert codebooks.log_sqrt2(2).levels.tolist() == [sqrt2 / 4, 0.5, sqrt2 / 2, 1]
    assert codebooks.log_sqrt2(3).levels.tolist()[::2] == [sqrt2 / 16, sqrt2 / 8, sqrt2 / 4, sqrt2 / 2]
    # PTQ4ViT with 4 bits, second step 4 times the first: 0..7, then 8, 12, .., 28
    book = codebooks.twin_softmax(4, 2)
    assert book.levels.tolist() == [*range(8), *range(8, 29, 4)]
    assert codebooks.twin_softmax(2, 1).levels.tolist() == [0, 1, 2]
    assert codebooks.twin_softmax(3, 2).levels.tolist() == [0, 1, 2, 3, 4, 8, 12]
    assert codebooks.twin_gelu(3, 3).levels.tolist() == [-4, -3, -2, -1, 0, 8, 16, 24]
    assert codebooks.twin_gelu(2, 1).levels.tolist() == [-2, -1, 0, 2]
    assert len(codebooks.twin_gelu(8, 5)) == 256
    # base 2, eta 1/4: exponents 0 .. 3, less eta; the last is below 0
    book = codebooks.shift_uniform_log2(2, 0.25, Fraction(1), 0)
    assert book.levels.tolist() == [0, 0.25, 0.75]


def test_ties_go_to_the_even_code() -> None:
    # base 4: between 4^-k and 4^-(k+1) lies 2^-(2k+1), a float; k even keeps it
    book = codebooks.logarithmic(2, 2, 1)
    assert book.levels.tolist() == [1 / 64, 1 / 16, 1 / 4, 1]
    assert codes(book, np.array([0.5, 0.125, 1 / 32], np.float32)).tolist() == [3, 1, 1]


def twin_value(x: float, half: int, coarse: int) -> int:
    """PTQ4ViT's equation in units of the first step; where its second range would round to 0,
    the last value of the first."""
    if x < half:
        return min(max(round(x), 0), half - 1)
    code = min(round(x / coarse), half - 1)
    return coarse * code if code > 0 else half - 1


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("ratio", [1, 2, 3, 5, 7, 12])
def test_twin_ranges_round_half_to_even(bits: int, ratio: int) -> None:
    half, coarse = 2 ** (bits - 1), 2**ratio
    book = codebooks.twin_softmax(bits, ratio)
    v = probes(book)
    got = book.levels[codes(book, v)]
    assert got.tolist() == [twin_value(x, half, coarse) for x in v.tolist()]
    book = codebooks.twin_gelu(bits, ratio)
    v = probes(book)
    got = book.levels[codes(book, v)]
    want = [max(round(x), -half) if x < 0 else coarse * min(round(x / coarse), half - 1) for x in v.tolist()]
    assert got.tolist() == want


@pytest.mark.parametrize("powers", [True, False])
@pytest.mark.parametrize(
    ("bits", "eta", "step", "zero"),
    [(2, 0.25, Fraction(1), 0), (3, 0.01, Fraction(3, 4), 1), (4, 2.0**-9, Fraction(613, 1024), -1)],
)
def test_shift_uniform_log2(bits: int, eta: float, step: Fraction, zero: int, powers: bool) -> None:
    book = codebooks.shift_uniform_log2(bits, eta, step, zero, powers=powers)
    shift = float(np.float32(eta))
    v = probes(book)
    v = v[v + shift > 0]
    got = book.levels[codes(book, v)]
    for x, level in zip(v.tolist(), got.tolist(), strict=True):
        q = min(max(rounded_log(x, step, shift) + zero, 0), 2**bits - 1)
        y = step * (q - zero)
        exponent = Fraction(round(y)) if powers else y
        with localcontext(Context(prec=60)):
            exact = Decimal(2) ** (-Decimal(exponent.numerator) / exponent.denominator) - Decimal(shift)
        assert (
            abs(Decimal(level) - max(exact, Decimal(0))) <= Decimal(float(np.spacing(np.float32(level)))) / 2
        )


def test_codebooks_are_on_their_own_grid() -> None:
    books = [make(bits) for make, _ in BASES for bits in range(2, 9)]
    books += [codebooks.twin_softmax(8, m) for m in range(1, 17)]
    books += [codebooks.twin_gelu(8, m) for m in range(1, 17)]
    for book in books:
        assert codes(book, book.levels).tolist() == list(range(len(book)))


@pytest.mark.parametrize("bits", [1, 9, -3])
def test_bits_have_a_range(bits: int) -> None:
    for make in (codebooks.log2, codebooks.log_sqrt2):
        with pytest.raises(ValueError, match=rf"{make.__name__}: expected bits in \[2, 8\], got {bits}"):
            make(bits)
    for twin in (codebooks.twin_softmax, codebooks.twin_gelu):
        with pytest.raises(ValueError, match="expected bits"):
            twin(bits, 1)


def test_other_rules() -> None:
    with pytest.raises(ValueError, match="expected numerator in"):
        codebooks.logarithmic(4, 0, 37)
    with pytest.raises(ValueError, match=r"expected ratio in \[1, 16\], got 17"):
        codebooks.twin_gelu(4, 17)
    with pytest.raises(ValueError, match="expected eta"):
        codebooks.shift_uniform_log2(4, 0.0, Fraction(1), 0)
    with pytest.raises(ValueError, match="a multiple of 1/1024, got 1/3"):
        codebooks.shift_uniform_log2(4, 0.1, Fraction(1, 3), 0)
    with pytest.raises(ValueError, match="ascending"):
        Codebook(levels=np.array([1, 1], np.float32), thresholds=np.array([1], np.float32))
    with pytest.raises(ValueError, match="a threshold less, got 2 and 2"):
        Codebook(levels=np.array([1, 2], np.float32), thresholds=np.array([1, 2], np.float32))
