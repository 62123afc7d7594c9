"""Calibration statistics: minimum and maximum, and a histogram whose range doubles when it must.

Explained in docs/numerics/observe.md; contract: csrc/include/pyquant/observe.h.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

BINS = 2048
EMPTY = -(2**31)  # exponent while no nonzero value has been seen


def minmax(x: Iterable[float]) -> tuple[float, float]:
    """(minimum, maximum) of finite values; (+inf, -inf) of none."""
    low, high = math.inf, -math.inf
    for v in x:
        check_finite(v)
        low, high = min(low, v), max(high, v)
    return low, high


def check_finite(value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"expected finite values, got {value}")


@dataclass
class Histogram:
    """Counts over [-2^exponent, 2^exponent) (observe.h, pq_histogram)."""

    counts: list[int] = field(default_factory=lambda: [0] * BINS)
    total: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    exponent: int = EMPTY

    def observe(self, x: Iterable[float]) -> None:
        for v in x:
            check_finite(v)
            if v != 0:
                self.grow(math.frexp(v)[1])  # the least e with |v| < 2^e
            self.total += 1
            self.minimum, self.maximum = min(self.minimum, v), max(self.maximum, v)
            if self.exponent != EMPTY:  # else a zero waits in `total`
                self.counts[bin_of(v, self.exponent)] += 1

    def grow(self, exponent: int) -> None:
        """Raise the exponent: neighbouring bins merge in pairs around 0, so counts stay exact."""
        if self.exponent == EMPTY:
            self.exponent = exponent
            self.counts[BINS // 2] = self.total  # the zeros that waited
        while self.exponent < exponent:
            merged = [0] * BINS
            for index, count in enumerate(self.counts):
                merged[(index - BINS // 2) // 2 + BINS // 2] += count
            self.counts = merged
            self.exponent += 1


def bin_of(value: float, exponent: int) -> int:
    """floor((x + 2^e) * bins / 2^(e+1)), exactly."""
    limit = Fraction(2) ** exponent
    return math.floor((Fraction(value) + limit) * BINS / (2 * limit))


def merge(a: Histogram, b: Histogram) -> Histogram:
    """The state after seeing what a saw and what b saw, in any order."""
    result = Histogram()
    result.total = a.total + b.total
    result.minimum, result.maximum = min(a.minimum, b.minimum), max(a.maximum, b.maximum)
    result.exponent = max(a.exponent, b.exponent)
    for source in (a, b):
        if result.exponent == EMPTY:
            break
        if source.exponent == EMPTY:
            result.counts[BINS // 2] += source.total
            continue
        factor = 2 ** (result.exponent - source.exponent)
        for index, count in enumerate(source.counts):
            result.counts[(index - BINS // 2) // factor + BINS // 2] += count
    return result
