"""Data movement: copy, concat, gather. No arithmetic.

Explained in docs/numerics/layout.md; contract: csrc/include/pyquant/layout.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product


def copy(x: Sequence[int], dims: Sequence[int], strides: Sequence[int], offset: int) -> list[int]:
    """y[i0, i1, ..] = x[offset + i0 * stride0 + i1 * stride1 ..], y flat. No dims: one element."""
    y = []
    for index in product(*(range(d) for d in dims)):
        at = offset + sum(i * s for i, s in zip(index, strides, strict=True))
        assert 0 <= at < len(x), f"element {at} lies outside [0, {len(x)})"
        y.append(x[at])
    return y


def concat(parts: Sequence[Sequence[Sequence[int]]], outer: int) -> list[list[int]]:
    """y[o] = x_0[o] ++ x_1[o] ++ ..., o < outer; a part of one row repeats for every o."""
    assert all(len(part) in (1, outer) for part in parts)
    return [[v for part in parts for v in part[o if len(part) > 1 else 0]] for o in range(outer)]


def gather(table: Sequence[Sequence[int]], index: Sequence[int]) -> list[list[int]]:
    """y[i] = table[index[i]]."""
    for i in index:
        if not 0 <= i < len(table):
            raise IndexError(f"row {i} lies outside [0, {len(table)})")
    return [list(table[i]) for i in index]
