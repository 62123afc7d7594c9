"""Element by element: table, requantize, residual add, mean.

Explained in docs/numerics/elementwise.md; contract: csrc/include/pyquant/elementwise.h.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.spec import numbers
from tests.spec.numbers import Clamp, Dyadic, fits_int32, fits_int64


def table(x: Sequence[int], entries: Sequence[int]) -> list[int]:
    """y = table[x + 128]: any int8 -> int8 function in 256 entries."""
    assert len(entries) == 256
    return [entries[v + 128] for v in x]


def requantize(x: Sequence[int], x_zero_point: int, requant: Dyadic, out: Clamp) -> list[int]:
    """From one grid to another."""
    return [numbers.requantize(v - x_zero_point, requant, out) for v in x]


def rnu2(a: int, a_multiplier: int, b: int, b_multiplier: int, shift: int) -> int:
    """(a * m_a + b * m_b + 2^(s-1)) >> s: two terms, one rounding, half up."""
    assert 1 <= shift <= 62
    return fits_int64(fits_int64(a * a_multiplier + b * b_multiplier) + 2 ** (shift - 1)) >> shift


def add(
    a: Sequence[int],
    b: Sequence[int],
    zero_points: tuple[int, int],
    multipliers: tuple[int, int],
    shift: int,
    out: Clamp,
) -> list[int]:
    """The residual add. b repeats: its length divides a's."""
    assert not a or len(a) % len(b) == 0
    z_a, z_b = zero_points
    m_a, m_b = multipliers
    return [out.apply(rnu2(v - z_a, m_a, b[i % len(b)] - z_b, m_b, shift)) for i, v in enumerate(a)]


def mean(
    x: Sequence[Sequence[Sequence[int]]], x_zero_point: int, requant: Dyadic, out: Clamp
) -> list[list[int]]:
    """x [outer][reduce][inner] -> [outer][inner]. 1 / reduce is part of requant, of s_x / (reduce * s_y)."""
    return [
        [
            numbers.requantize(fits_int32(sum(v - x_zero_point for v in column)), requant, out)
            for column in zip(*block, strict=True)
        ]
        for block in x
    ]
