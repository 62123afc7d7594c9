"""Codebooks of non-uniform quantizers: what a paper's rounding of a logarithm means, in float32.

A codebook is a list of levels and the thresholds between them, in units of the scale (``levels.h``):
the code of v is the number of thresholds ``<= v``. Levels ascend, so that code 0 is the *smallest*
value; a paper that counts from the largest has code ``m - 1 - k`` here.

Every number is the correctly rounded float32 of an exact one, found in Python integers: a power
``2**(-p/d)`` with integers p and d is an integer root, and no logarithm is ever taken. So a codebook
is the same on every machine, which ``math.log2`` and ``np.exp2`` do not promise. A threshold is the
least float32 that the paper's rounding sends up, so that a tie goes where round-half-to-even sends it.

Numbers below the least normal float32, 2**-126, are nobody's probability: levels end there, so
that 8 bits of base 2 are 127 levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Codebook",
    "log2",
    "log_sqrt2",
    "logarithmic",
    "shift_uniform_log2",
    "twin_gelu",
    "twin_softmax",
]

_BITS = 160  # all of a float32's: its least is 2**-149
_LARGEST = 24  # levels and thresholds are at most 2**24 (levels.h)
_SMALLEST = 126  # levels are at least 2**-126


@dataclass(frozen=True, kw_only=True, eq=False)
class Codebook:
    """Levels and the thresholds between them.

    Attributes
    ----------
    levels : float32 [m]
        Strictly ascending, 1 <= m <= 256.
    thresholds : float32 [m - 1]
        Strictly ascending; a value on a threshold belongs above it.
    """

    levels: NDArray[np.float32]
    thresholds: NDArray[np.float32]

    def __post_init__(self) -> None:
        if not 1 <= len(self.levels) <= 256 or len(self.thresholds) != len(self.levels) - 1:
            raise ValueError(
                f"Codebook: expected 1 to 256 levels and a threshold less, "
                f"got {len(self.levels)} and {len(self.thresholds)}"
            )
        for name, values in (("levels", self.levels), ("thresholds", self.thresholds)):
            if not (np.isfinite(values).all() and (np.diff(values) > 0).all()):
                raise ValueError(f"Codebook: expected finite {name} in ascending order")

    def __len__(self) -> int:
        return len(self.levels)


def _check_bits(name: str, bits: int) -> None:
    if not 2 <= bits <= 8:
        raise ValueError(f"{name}: expected bits in [2, 8], got {bits}")


def _root(n: int, d: int, start: int) -> int:
    """``floor(n ** (1/d))`` by Newton's iteration in integers from `start`, which is not below it."""
    if d == 1:
        return n
    if d % 2 == 0:
        return _root(math.isqrt(n), d // 2, start)  # a floor of a root of a floor is the floor of the root
    x = start
    while True:
        y = ((d - 1) * x + n // x ** (d - 1)) // d
        if y >= x:
            return x
        x = y


def _of_halvings(rest: int, d: int, bits: int) -> tuple[int, int]:
    """Bounds of ``2**(rest/d) * 2**bits`` for d a power of two: a product of repeated square roots."""
    root, product, factors = 2 << bits, 1 << bits, 0
    while d > 1:
        d //= 2
        root = math.isqrt(root << bits)
        if rest & d:
            product, factors = (product * root) >> bits, factors + 1
    # Each root lacks less than 2 units (half of what the one before lacks, and its own floor). A
    # product lacks less than 5 more than root times what its factor lacked; all roots together
    # are below 2, so that nothing grows beyond 2 * 5 units a factor.
    return product, product + 16 * factors + 1


@lru_cache(maxsize=8192)
def _fraction(rest: int, d: int) -> int:
    """``floor(2**(rest/d) * 2**(_BITS + _LARGEST))`` for 0 < rest < d, which is never exact."""
    wanted = _BITS + _LARGEST
    if d & (d - 1) == 0:
        guard = 64
        while True:
            low, high = (bound >> guard for bound in _of_halvings(rest, d, wanted + guard))
            if low == high:
                return low
            guard *= 2
    # The float is good to some units of 2**-52, so that 2**-40 more is above the root.
    start = math.ceil(math.ldexp(2.0 ** (rest / d) * (1 + 2.0**-40), 52)) << wanted - 52
    return _root(1 << rest + wanted * d, d, start)


def _power(exponent: Fraction) -> tuple[int, bool]:
    """``floor(2**exponent * 2**_BITS)`` for an exponent up to _LARGEST, and whether that is exact."""
    whole = math.floor(exponent)
    rest = exponent - whole
    if rest == 0:
        return (1 << whole + _BITS, True) if whole >= -_BITS else (0, False)
    return _fraction(rest.numerator, rest.denominator) >> _LARGEST - whole, False


def _nearest(value: Fraction) -> float:
    """The nearest float32, ties to even, subnormal ones included; a float holds it."""
    if value == 0:
        return 0.0
    numerator, denominator = abs(value.numerator), value.denominator
    exponent = max(numerator.bit_length() - denominator.bit_length() - 24, -149)
    shifted = Fraction(numerator, denominator) / Fraction(2) ** exponent
    exponent += max(0, math.floor(shifted).bit_length() - 24)
    mantissa = round(Fraction(numerator, denominator) / Fraction(2) ** exponent)  # half to even
    return math.copysign(math.ldexp(mantissa, exponent), value)


def _least_above(value: Fraction, *, strictly: bool) -> float:
    """The least float32 that is ``>= value``, or ``> value``."""
    t = _nearest(value)
    exact = Fraction(t)
    if exact < value or (strictly and exact == value):
        return float(np.nextafter(np.float32(t), np.float32(np.inf)))
    return t


def _power_level(exponent: Fraction) -> float:
    """The nearest float32 to ``2**exponent >= 2**-126``; ties do not occur for irrational numbers."""
    floor, exact = _power(exponent)
    # One more bit says "a little more than the floor", so that nothing looks like a tie.
    return _nearest(Fraction(2 * floor + (not exact), 2 ** (_BITS + 1)))


def _power_threshold(exponent: Fraction, shift: Fraction, *, up: bool) -> float:
    """The least float32 v with ``v + shift >= 2**exponent``; where `up` is False, ``>`` at equality."""
    floor, exact = _power(exponent)
    bound = Fraction(floor, 2**_BITS) - shift
    return _least_above(bound, strictly=not (exact and up))


def _make(levels: list[float], thresholds: list[float]) -> Codebook:
    return Codebook(levels=np.array(levels, np.float32), thresholds=np.array(thresholds, np.float32))


def logarithmic(bits: int, numerator: int, denominator: int) -> Codebook:
    """Levels ``2**(-k q / r)``, k = 0 .. 2**bits - 1: the logarithm to base ``2**(q / r)``.

    ``k = clamp(rne(-log_b(v)), 0, 2**bits - 1)`` switches at ``b**-(k + 1/2)``, where for even k a tie
    goes to k, the larger level, and for odd k to k + 1.

    Parameters
    ----------
    bits : int
        2 to 8.
    numerator, denominator : int
        q and r, both in [1, 256].

    Raises
    ------
    ValueError
        A parameter out of its range.

    References
    ----------
    AdaLog, arXiv 2407.12951, section 3.2: base ``2**(q/r)`` with r = 37. The paper dequantizes by a
    shift of a table of the r fractional powers; here the level is that number, correctly rounded.
    """
    _check_bits("logarithmic", bits)
    for name, value in (("numerator", numerator), ("denominator", denominator)):
        if not 1 <= value <= 256:
            raise ValueError(f"logarithmic: expected {name} in [1, 256], got {value}")
    step = Fraction(numerator, denominator)
    count = min(1 << bits, math.floor(_SMALLEST / step) + 1)
    ks = range(count - 1, -1, -1)
    zero = Fraction(0)
    return _make(
        [_power_level(-k * step) for k in ks],
        [_power_threshold(-(k + Fraction(1, 2)) * step, zero, up=k % 2 == 0) for k in ks if k + 1 < count],
    )


def log2(bits: int) -> Codebook:
    """Powers of two: ``clamp(rne(-log2 v), 0, 2**bits - 1)``.

    References
    ----------
    FQ-ViT, arXiv 2111.13824, eq. 9 and 10 (log2 quantization of attention maps). The paper's code
    turns what is rounded to ``2**bits`` and beyond into 0; its equation clamps, and so does this.

    Examples
    --------
    >>> log2(2).levels.tolist()
    [0.125, 0.25, 0.5, 1.0]
    """
    _check_bits("log2", bits)
    return logarithmic(bits, 1, 1)


def log_sqrt2(bits: int) -> Codebook:
    """Powers of the square root of two: ``clamp(rne(-2 log2 v), 0, 2**bits - 1)``.

    References
    ----------
    RepQ-ViT, arXiv 2212.08254, eq. 13 to 15: dequantized as ``2**floor(-q/2)`` times 1 or sqrt(2),
    which is this number.
    """
    _check_bits("log_sqrt2", bits)
    return logarithmic(bits, 1, 2)


def shift_uniform_log2(bits: int, eta: float, step: Fraction, zero: int, *, powers: bool = True) -> Codebook:
    """Uniform steps of ``-log2(v + eta)``.

    Code q of 0 .. 2**bits - 1 stands for ``y = step * (q - zero)``; the level is ``2**-y - eta``, or
    with `powers` ``2**-rne(y) - eta``, so that a shift dequantizes it. Codes that give one level are
    merged; a level below 0 is 0.

    Parameters
    ----------
    bits : int
        2 to 8.
    eta : float
        The shift, in ``[2**-24, 1]``.
    step : Fraction
        Of the uniform grid, in (0, 32], a multiple of 1/1024: then every level is an integer root.
    zero : int
        The uniform quantizer's zero point, in [-65536, 65536].
    powers : bool
        Round the exponent.

    Raises
    ------
    ValueError
        A parameter out of its range.

    References
    ----------
    I&S-ViT, arXiv 2311.10126, eq. 6 and 7 (SULQ). That dequantization rounds the exponent, and that
    the grid is a multiple of 1/1024, is our reading: the paper's step is any float.
    """
    op = "shift_uniform_log2"
    _check_bits(op, bits)
    if not 2.0**-24 <= eta <= 1:
        raise ValueError(f"{op}: expected eta in [2^-24, 1], got {eta}")
    if not 0 < step <= 32 or 1024 % step.denominator != 0:
        raise ValueError(f"{op}: expected step in (0, 32], a multiple of 1/1024, got {step}")
    if not -65536 <= zero <= 65536:
        raise ValueError(f"{op}: expected zero in [-65536, 65536], got {zero}")
    shift = Fraction(float(np.float32(eta)))
    levels: list[float] = []
    thresholds: list[float] = []
    for q in range((1 << bits) - 1, -1, -1):
        y = step * (q - zero)
        if not -24 <= y <= _SMALLEST:
            continue  # beyond 2**24, or beyond what float32 tells from eta
        level = max(_shifted_level(Fraction(-round(y)) if powers else -y, shift), 0.0)
        at = _power_threshold(-(y + step / 2), shift, up=(q - zero) % 2 == 0)
        if levels and level <= levels[-1]:
            continue
        if levels:
            thresholds.append(at)
        levels.append(level)
    if not levels or any(b <= a for a, b in pairwise(thresholds)):
        raise ValueError(f"{op}: expected a grid that float32 resolves, got step {step}, zero {zero}")
    return _make(levels, thresholds)


def _shifted_level(exponent: Fraction, shift: Fraction) -> float:
    floor, exact = _power(exponent)
    return _nearest(Fraction(2 * floor + (not exact), 2 ** (_BITS + 1)) - shift)


def _integers(levels: list[int], thresholds: list[tuple[Fraction, bool]]) -> Codebook:
    return _make(
        [float(level) for level in levels],
        [_least_above(value, strictly=not up) for value, up in thresholds],
    )


def _check_ratio(op: str, bits: int, ratio: int) -> None:
    _check_bits(op, bits)
    if not 1 <= ratio <= 16:
        raise ValueError(f"{op}: expected ratio in [1, 16], got {ratio}")


def twin_softmax(bits: int, ratio: int) -> Codebook:
    """Two uniform ranges for probabilities, in units of the fine step d.

    ``[0, 2**(bits-1) d)`` in steps of d, and from there in steps of ``2**ratio d``: one bit says which,
    ``bits - 1`` count the steps, halves to even. The coarse codes that lie inside the fine range are
    never used, so there are fewer than ``2**bits`` levels. Where the fine range ends below half a coarse
    step (ratio >= bits), what lies between keeps the last fine level: the equation would round it to 0.

    Parameters
    ----------
    bits : int
        2 to 8.
    ratio : int
        m of ``step 2 = 2**m step 1``, in [1, 16].

    Raises
    ------
    ValueError
        A parameter out of its range.

    References
    ----------
    PTQ4ViT, arXiv 2111.12293, eq. 7 and 8: with steps of ``2**-(bits-1)`` in the second range, 1.0
    itself is rounded to the last level, ``1 - 2**-(bits-1)``.
    """
    _check_ratio("twin_softmax", bits, ratio)
    half, coarse = 1 << (bits - 1), 1 << ratio
    first = round(Fraction(half, coarse))  # the code of the border; half to even
    levels = [*range(half), *(coarse * i for i in range(first, half) if coarse * i >= half)]
    thresholds = [_tie(i, 1) for i in range(half - 1)]
    if len(levels) > half:
        start = levels[half] // coarse
        # Up to the first coarse level's own rounding range the border decides, or that range.
        border = (Fraction(half), True) if start == first else _tie(start - 1, coarse)
        thresholds += [border, *(_tie(i, coarse) for i in range(start, half - 1))]
    return _integers(levels, thresholds)


def twin_gelu(bits: int, ratio: int) -> Codebook:
    """Two uniform ranges for what GELU gives, in units of the step d of its negative side.

    ``-2**(bits-1) d .. 0`` in steps of d, and ``0 .. (2**(bits-1) - 1) 2**ratio d`` in steps of
    ``2**ratio d``; halves to even.

    Parameters
    ----------
    bits : int
        2 to 8.
    ratio : int
        m of ``step 2 = 2**m step 1``, in [1, 16].

    Raises
    ------
    ValueError
        A parameter out of its range.

    References
    ----------
    PTQ4ViT, arXiv 2111.12293, eq. 7 and 9. The negative range is as long as the GELU goes down:
    ``d = 0.16997 / 2**(bits-1)``.
    """
    _check_ratio("twin_gelu", bits, ratio)
    half, coarse = 1 << (bits - 1), 1 << ratio
    return _integers(
        [*range(-half, 0), *(coarse * i for i in range(half))],
        [*(_tie(i, 1) for i in range(-half, 0)), *(_tie(i, coarse) for i in range(half - 1))],
    )


def _tie(code: int, step: int) -> tuple[Fraction, bool]:
    """The middle between `code` and the next, and whether half-to-even sends it up: to an even one."""
    return (code + Fraction(1, 2)) * step, code % 2 != 0
