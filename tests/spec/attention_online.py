"""The online form of attention: keys in blocks of 64, a running maximum, sums rescaled when it moves.

The weights are those of `tests.spec.attention`, relative to the maximum so far. Floors of rescaled sums
are not rescaled floors of sums, so this is another definition, with its block size in its name.

Explained in docs/numerics/attention.md; contract: csrc/include/pyquant/attention_online.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.spec.attention import (
    INDEX_END,
    MASK_ADD_LIMIT,
    Matrix,
    Softmax,
    normalizer,
    softmax_index,
    softmax_weight,
)
from tests.spec.derive import exp2_entry
from tests.spec.numbers import Clamp, Dyadic, fits_int32, requantize, rnu

BLOCK = 64
ONE = 2**15  # the factor 1


# A[j] = rne(2^15 * 2^(-j/32)), j = 0 .. 32 (attention_online.h).
FACTORS = tuple(exp2_entry(2**14, j) for j in range(33))


@dataclass(frozen=True)
class Sums:
    """A row so far: its maximum (None before the first key), L, and O = sum P (v - z_v)."""

    highest: int | None
    total: int
    weighted: tuple[int, ...]


def move_factor(delta: int, softmax: Softmax) -> Dyadic:
    """2^(-Delta M / 32) for a maximum that moves by Delta: alpha / 2^(15 + h) (attention_online.h).

    Not rounded to a step of the index as a weight is: it falls on all keys so far alike, so that its errors
    would not average out. Linear between the steps.
    """
    if softmax_index(delta, softmax) == INDEX_END:
        return Dyadic(0, 15)
    position = (min(delta, softmax.delta_max) * softmax.multiplier << 15) >> softmax.shift
    u, fraction = position >> 15, position & (ONE - 1)
    here, after = FACTORS[u & 31], FACTORS[(u & 31) + 1]
    return Dyadic(here - (((here - after) * fraction + 2**14) >> 15), 15 + (u >> 5))


def add_block(
    sums: Sums,
    score: Sequence[int],
    v: Matrix,
    z_v: int,
    softmax: Softmax,
    keep: Sequence[bool],
) -> Sums:
    """One block of at most 64 keys."""
    kept = [(s, value) for s, value, is_kept in zip(score, v, keep, strict=True) if is_kept]
    if not kept:
        return sums
    highest = max(s for s, _ in kept)
    total, weighted = sums.total, list(sums.weighted)
    if sums.highest is not None:
        highest = max(highest, sums.highest)
        factor = move_factor(highest - sums.highest, softmax)
        total = rnu(total, factor.multiplier, factor.shift)
        weighted = [rnu(o, factor.multiplier, factor.shift) for o in weighted]
    for s, value in kept:
        p = softmax_weight(softmax_index(highest - s, softmax), softmax)
        total += p
        weighted = [fits_int32(o + p * (x - z_v)) for o, x in zip(weighted, value, strict=True)]
    assert total < 2**32
    return Sums(highest, total, tuple(weighted))


def attention_online_row(
    q: Sequence[int],
    k: Matrix,
    v: Matrix,
    zero_points: tuple[int, int, int],
    softmax: Softmax,
    requant: Dyadic,
    out: Clamp,
    keep: Sequence[bool] | None = None,
    mask_add: Sequence[int] | None = None,
) -> list[int]:
    """y of one query; the arguments are those of `tests.spec.attention.attention_row`."""
    z_q, _, z_v = zero_points
    keys = len(k)
    keep = [True] * keys if keep is None else keep
    mask_add = [0] * keys if mask_add is None else mask_add
    assert all(abs(m) <= MASK_ADD_LIMIT for m in mask_add)
    sums = Sums(None, 0, (0,) * len(q))
    for begin in range(0, keys, BLOCK):
        block = slice(begin, begin + BLOCK)
        score = [
            fits_int32(sum((a - z_q) * b for a, b in zip(q, key, strict=True)) + add)
            for key, add in zip(k[block], mask_add[block], strict=True)
        ]
        sums = add_block(sums, score, v[block], z_v, softmax, keep[block])
    per_row = normalizer(requant, sums.total or 1)  # no key: O = 0 and L = 1
    return [requantize(o, per_row, out) for o in sums.weighted]


def attention_online(
    q: Matrix,
    k: Matrix,
    v: Matrix,
    zero_points: tuple[int, int, int],
    softmax: Softmax,
    requant: Dyadic,
    out: Clamp,
    keep: Sequence[Sequence[bool]] | None = None,
    mask_add: Matrix | None = None,
    causal: bool = False,
) -> list[list[int]]:
    """One head: q [q_len][d], k and v [k_len][d]. causal: query i sees key j <= i + (k_len - q_len)."""
    rows = []
    for i, query in enumerate(q):
        kept = list(keep[i]) if keep is not None else [True] * len(k)
        if causal:
            kept = [is_kept and j <= i + len(k) - len(q) for j, is_kept in enumerate(kept)]
        add = mask_add[i] if mask_add is not None else None
        rows.append(attention_online_row(query, k, v, zero_points, softmax, requant, out, kept, add))
    return rows
