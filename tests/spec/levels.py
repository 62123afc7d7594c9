"""Floats onto a codebook: the code is the number of thresholds that v = x / scale has reached.

Contract: csrc/include/pyquant/levels.h.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

__all__ = ["code", "value"]


def quotient(x: float, scale: float) -> float:
    """``fl32(x / scale)`` of finite float32 numbers: the float64 quotient rounds to the same, because
    53 >= 2 * 24 + 2 bits make double rounding innocent."""
    return float(np.float32(x / scale))


def code(x: float, scale: float, thresholds: list[float]) -> int:
    v = Fraction(quotient(x, scale))
    return sum(Fraction(t) <= v for t in thresholds)


def value(x: float, scale: float, levels: list[float], thresholds: list[float]) -> float:
    return float(np.float32(levels[code(x, scale, thresholds)] * scale))
