"""Attention: integer scaled-dot-product attention with the softmax inside.

Read one row at a time: scores, distance to the row maximum, index u, weight P, then P times V,
normalised once.

Explained in docs/numerics/attention.md; contract: csrc/include/pyquant/attention.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.spec.numbers import Clamp, Dyadic, fits_int32, requantize
from tests.spec.softmax import Lookup

INDEX_END = 480  # 15 octaves of 32 steps; at and beyond it a weight is 0
MASK_ADD_LIMIT = 2**24

Matrix = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Softmax:
    """The constants of one softmax sub-site (attention.h, pq_softmax)."""

    delta_max: int
    multiplier: int
    shift: int
    pmax: int
    table: tuple[int, ...]

    def weigh(self, score: Sequence[int], keep: Sequence[bool]) -> tuple[list[int], int]:
        """(P, L) of one row; L is 1 where no key is kept."""
        p = softmax_weights(score, keep, self)
        return p, sum(p) or 1


@dataclass(frozen=True)
class Row:
    """One query's result, with what `trace` shows: true scores, weights P and their divisor L."""

    y: list[int]
    score: list[int]
    p: list[int]
    total: int


def softmax_index(delta: int, softmax: Softmax) -> int:
    """u = min((Delta * m + 2^(s-1)) >> s, 480): Delta in 32 steps an octave, "rnu32" (attention.h)."""
    nearest = min(delta, softmax.delta_max) * softmax.multiplier + (1 << (softmax.shift - 1))
    assert nearest < 2**32, f"{nearest} leaves uint32"
    return min(nearest >> softmax.shift, INDEX_END)


def softmax_weight(u: int, softmax: Softmax) -> int:
    """P = (T[u & 31] + 2^h) >> (h + 1), h = u >> 5: the table is stored doubled (attention.h)."""
    octave = u >> 5
    return (softmax.table[u & 31] + (1 << octave)) >> (octave + 1)


def softmax_weights(score: Sequence[int], keep: Sequence[bool], softmax: Softmax) -> list[int]:
    """P of one row. An excluded key takes no part in the maximum and weighs 0."""
    kept = [s for s, is_kept in zip(score, keep, strict=True) if is_kept]
    if not kept:
        return [0] * len(score)
    highest = max(kept)
    return [
        softmax_weight(softmax_index(highest - s, softmax), softmax) if is_kept else 0
        for s, is_kept in zip(score, keep, strict=True)
    ]


def normalizer(requant: Dyadic, total: int) -> Dyadic:
    """requant / L as a dyadic number: t = (m << 32) / L cut to 31 bits (attention.h, m_r and s_r)."""
    t = (requant.multiplier << 32) // total
    bits = t.bit_length()
    return Dyadic(t >> (bits - 31), requant.shift + 63 - bits)


def attention_row(
    q: Sequence[int],
    k: Matrix,
    v: Matrix,
    zero_points: tuple[int, int, int],
    softmax: Softmax | Lookup,
    requant: Dyadic,
    out: Clamp,
    keep: Sequence[bool] | None = None,
    mask_add: Sequence[int] | None = None,
) -> Row:
    """One query q[d] over keys k[j][d] and values v[j][d]; zero_points of q, k, v (attention.h).

    The key zero point shifts all scores of a row alike: it appears in `score` only.
    """
    z_q, z_k, z_v = zero_points
    keys = len(k)
    keep = [True] * keys if keep is None else keep
    mask_add = [0] * keys if mask_add is None else mask_add
    assert all(abs(m) <= MASK_ADD_LIMIT for m in mask_add)

    def scores(key_zero_point: int) -> list[int]:
        return [
            fits_int32(sum((a - z_q) * (b - key_zero_point) for a, b in zip(q, key, strict=True)) + add)
            for key, add in zip(k, mask_add, strict=True)
        ]

    p, divisor = softmax.weigh(scores(0), keep)
    total = sum(p)
    weighted = [fits_int32(sum(w * value[d] for w, value in zip(p, v, strict=True))) for d in range(len(q))]
    per_row = normalizer(requant, divisor)  # a row without a key has O = 0 and L = 1
    y = [requantize(fits_int32(o - z_v * total), per_row, out) for o in weighted]
    return Row(y, scores(z_k), p, divisor)


def attention(
    q: Matrix,
    k: Matrix,
    v: Matrix,
    zero_points: tuple[int, int, int],
    softmax: Softmax | Lookup,
    requant: Dyadic,
    out: Clamp,
    keep: Sequence[Sequence[bool]] | None = None,
    mask_add: Matrix | None = None,
    causal: bool = False,
) -> list[Row]:
    """One head: q [q_len][d], k and v [k_len][d]. causal: query i sees key j <= i + (k_len - q_len)."""
    rows = []
    for i, query in enumerate(q):
        kept = list(keep[i]) if keep is not None else [True] * len(k)
        if causal:
            kept = [is_kept and j <= i + len(k) - len(q) for j, is_kept in enumerate(kept)]
        add = mask_add[i] if mask_add is not None else None
        rows.append(attention_row(query, k, v, zero_points, softmax, requant, out, kept, add))
    return rows
