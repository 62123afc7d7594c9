"""Numbers: rounding, dyadic multipliers, the affine map between floats and integers.

Python integers have no width, so a bound that the C code relies on is an assertion here: `fits_int64` fails
where the C expression would overflow.

Explained in docs/numerics/numbers.md and quantize.md; contracts: csrc/include/pyquant/{rnu,types,quantize}.h.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Dyadic:
    """The number multiplier / 2^shift."""

    multiplier: int
    shift: int

    def value(self) -> Fraction:
        return Fraction(self.multiplier, 2**self.shift)


@dataclass(frozen=True)
class Clamp:
    """The output side of an integer op (types.h, pq_clamp)."""

    zero_point: int
    quant_min: int
    quant_max: int

    def apply(self, value: int) -> int:
        return clamp(value + self.zero_point, self.quant_min, self.quant_max)


@dataclass(frozen=True)
class Affine:
    """A grid: x ~ (q - zero_point) * scale (types.h, pq_affine). `scale` is a float32 value."""

    scale: float
    zero_point: int
    quant_min: int
    quant_max: int

    @property
    def out(self) -> Clamp:
        return Clamp(self.zero_point, self.quant_min, self.quant_max)


def fits_int64(value: int) -> int:
    """The value itself, which the C code holds in an int64."""
    assert -(2**63) <= value < 2**63, f"{value} leaves int64"
    return value


def fits_int32(value: int) -> int:
    """The value itself, which the C code holds in an int32."""
    assert -(2**31) <= value < 2**31, f"{value} leaves int32"
    return value


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def rne(value: Fraction | float) -> int:
    """Round to nearest, ties to the even integer. Python's round() of an exact Fraction is that."""
    return round(value)


def rnu(x: int, multiplier: int, shift: int) -> int:
    """(x * m + 2^(s-1)) >> s: round half up (rnu.h). `>>` floors, as an arithmetic shift does."""
    assert 1 <= shift <= 62
    return fits_int64(fits_int64(x * multiplier) + 2 ** (shift - 1)) >> shift


def requantize(x: int, dyadic: Dyadic, out: Clamp) -> int:
    """clamp(rnu(x) + zero_point): the one requantization (rnu.h, pq_requantize)."""
    return out.apply(rnu(x, dyadic.multiplier, dyadic.shift))


def dyadic(real: float) -> Dyadic:
    """M = f * 2^e with f in [1/2, 1): m = rne(f * 2^31), s = 31 - e (derive.h, pq_derive_dyadic)."""
    if not (math.isfinite(real) and real > 0):
        raise ValueError(f"expected a finite multiplier > 0, got {real}")
    fraction, exponent = math.frexp(real)
    multiplier = rne(Fraction(fraction) * 2**31)
    if multiplier == 2**31:  # f just below 1: the next power of two
        multiplier, exponent = 2**30, exponent + 1
    shift = 31 - exponent
    if shift < 1:
        raise OverflowError(f"multiplier {real} is too large")
    if shift > 62:
        return Dyadic(2**30, 62)  # below 2^-32: nothing, for every int32
    return Dyadic(multiplier, shift)


def float32(value: Fraction | float) -> float:
    """The float32 nearest to an exact value, ties to even, subnormals and overflow included."""
    exact = Fraction(value)
    if exact == 0:
        return 0.0
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1  # now 2^exponent <= |value| < 2^(exponent + 1)
    step = Fraction(2) ** (max(exponent, -126) - 23)
    rounded = rne(size / step) * step
    if rounded >= 2**128:
        return math.copysign(math.inf, exact)
    return float(rounded if exact > 0 else -rounded)


def quantize(x: float, grid: Affine) -> int:
    """clamp(rne(x / scale) + zero_point), the quotient rounded to float32 first (quantize.h).

    Hence two roundings: a quotient so near a tie that float32 cannot tell is a tie. An infinity saturates.
    """
    if math.isnan(x):
        raise ValueError("NaN cannot be quantized")
    if math.isinf(x):
        return grid.quant_max if x > 0 else grid.quant_min
    quotient = float32(Fraction(x) / Fraction(grid.scale))
    if math.isinf(quotient):
        return grid.quant_max if quotient > 0 else grid.quant_min
    return grid.out.apply(rne(quotient))


def dequantize(q: int, grid: Affine) -> float:
    """fl32((q - zero_point) * scale): one float32 multiplication (quantize.h)."""
    return float32((q - grid.zero_point) * Fraction(grid.scale))


def fake_quantize(x: float, grid: Affine) -> float:
    """dequantize(quantize(x)) (quantize.h)."""
    return dequantize(quantize(x, grid), grid)
