"""The constants of integer softmax: what ``pq_derive_attention`` computes (``derive.h``)."""

from __future__ import annotations

import math
from typing import NamedTuple

from .grid import Grid
from .integer import Dyadic, dyadic

__all__ = ["MASK_ADD_LIMIT", "METHODS", "SoftmaxConstants", "softmax_constants"]

METHODS = ("table16", "table8")
MASK_ADD_LIMIT = 1 << 24

_INDEX_END = 480
_INT32_MAX = 2**31 - 1
_HEAD_DIM_MAX = 32767


class SoftmaxConstants(NamedTuple):
    """``u = min((Delta * multiplier + 2^(shift-1)) >> shift, 480)``, then ``weights[u]``."""

    delta_max: int
    multiplier: int
    shift: int
    pmax: int
    weights: tuple[int, ...]
    requant: Dyadic


def softmax_constants(
    method: str,
    q: Grid,
    k: Grid,
    v: Grid,
    y: Grid,
    softmax_scale: float,
    head_dim: int,
    keys: int,
    has_mask: bool,
) -> SoftmaxConstants:
    """Derive the constants; `keys` bounds the row length, `has_mask` is for a float mask of any content."""
    if head_dim > _HEAD_DIM_MAX:
        raise RuntimeError(f"attention: expected head_dim <= {_HEAD_DIM_MAX}, got {head_dim}")
    real = q.scale * k.scale * softmax_scale * math.log2(math.e) * 32.0
    largest = 2 * 255 * 128 * head_dim + (1 << 25 if has_mask else 0)
    delta_max, multiplier, shift = _index_multiplier(real, largest)
    vmax = max(127 - v.zero_point, v.zero_point + 128)  # over all of int8, whatever the range of v
    limit = _INT32_MAX // (vmax * max(keys, 1))
    pmax = min(16383, limit) if method == "table16" else 255
    if not 1 <= pmax <= limit:
        raise RuntimeError(f"attention: expected at most {_INT32_MAX // (vmax * 255)} keys, got {keys}")
    requant = dyadic("attention", v.scale / y.scale)
    if keys > 0:
        longest = ((requant.multiplier << 32) // (pmax * keys)).bit_length()
        if requant.shift + 63 - longest > 62:
            raise RuntimeError(
                f"attention: expected a larger ratio of the scales of v and y for {keys} keys, "
                f"got {v.scale!r} / {y.scale!r}"
            )
    return SoftmaxConstants(delta_max, multiplier, shift, pmax, _weights(pmax), requant)


def _index_multiplier(real: float, largest: int) -> tuple[int, int, int]:
    """(delta_max, m, s) with the largest s in [1, 31] for which everything fits in 32 bits."""
    for shift in range(31, 0, -1):
        scaled = real * 2.0**shift
        if not scaled < 2.0**33:
            continue
        multiplier = round(scaled)
        if multiplier == 0 and shift == 31:
            return 0, 0, 31
        if not 1 <= multiplier < 1 << 32:
            continue
        delta_max = min(-((-_INDEX_END << shift) // multiplier), largest)
        if delta_max * multiplier + (1 << (shift - 1)) < 1 << 32:
            return delta_max, multiplier, shift
    raise RuntimeError(
        f"attention: expected q_scale * k_scale * scale * 32 * log2(e) below 2^31, got {real!r}"
    )


def _weights(pmax: int) -> tuple[int, ...]:
    """P for every index 0..480.

    Python's and C's 2^x may differ in the last bit; the nearest 2 * pmax * 2^(-j/32) to a tie, over
    all pmax <= 16383, is 1.8e-6 away, so the rounded entries cannot.
    """
    table = [round(2 * pmax * 2.0 ** (-j / 32)) for j in range(32)]
    octaves = [(table[u & 31] + (1 << (u >> 5))) >> ((u >> 5) + 1) for u in range(_INDEX_END)]
    return (*octaves, 0)
