"""Softmax over a row by itself: weights as inside attention, each divided by L on the output's grid.

Explained in docs/numerics/softmax_rows.md; contract: csrc/include/pyquant/softmax_rows.h.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.spec.attention import Softmax, normalizer
from tests.spec.numbers import INT32_MAX, Clamp, Dyadic, requantize
from tests.spec.softmax import Lookup


def softmax_row(x: Sequence[int], softmax: Softmax | Lookup, requant: Dyadic, out: Clamp) -> list[int]:
    """y of one row; requant is 1 / s_y. Only distances from the maximum count: x's zero point cancels."""
    if not x:
        return []
    p, divisor = softmax.weigh(x, [True] * len(x))
    assert sum(p) <= INT32_MAX
    assert divisor < 2**32
    per_row = normalizer(requant, divisor)
    assert 1 <= per_row.shift <= 62
    return [requantize(weight, per_row, out) for weight in p]
