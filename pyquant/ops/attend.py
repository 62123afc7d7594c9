"""Attention."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyquant import _C
from pyquant.numerics import softmax_method_code
from pyquant.ops.common import dense

__all__ = ["AttentionTrace", "attention", "attention_online64", "attention_trace"]


class AttentionTrace(NamedTuple):
    """What an attention computed on its way.

    y int8 as `attention` gives; score int32 [batch, groups, heads, q_len, k_len], in steps of
    ``q_scale * k_scale``; p uint16 of that shape, the weights in units of the row maximum's ``pmax``;
    l uint32 [batch, groups, heads, q_len], what p is divided by: the softmax is ``p / l``.
    """

    y: NDArray[np.int8]
    score: NDArray[np.int32]
    p: NDArray[np.uint16]
    l: NDArray[np.uint32]  # noqa: E741


def _attention_operands(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, keep: ArrayLike | None, mask_add: ArrayLike | None
) -> tuple[list[NDArray[Any]], list[NDArray[Any] | None], bool]:
    """q, k, v, keep, mask_add of five axes each; whether the caller gave four."""
    arrays = [np.asarray(value) for value in (q, k, v)]
    four = arrays[0].ndim == 4
    axes = 4 if four else 5
    for name, array in zip("qkv", arrays, strict=True):
        if array.ndim != axes or not 4 <= array.ndim <= 5:
            raise ValueError(f"attention: expected {name} of 4 or 5 axes like q, got {array.ndim}")
    arrays = [array[:, None] if four else array for array in arrays]
    arrays = [a if a.shape[-1] < 2 or a.strides[-1] == a.itemsize else dense(a) for a in arrays]
    masks: list[NDArray[Any] | None] = []
    for name, value in (("keep", keep), ("mask_add", mask_add)):
        mask = None if value is None else np.asarray(value)
        if mask is not None:
            if mask.ndim > axes:
                raise ValueError(f"attention: expected {name} of at most {axes} axes, got {mask.ndim}")
            mask = mask.reshape((1,) * (axes - mask.ndim) + mask.shape)
            mask = mask[:, None] if four else mask
        masks.append(mask)
    return arrays, masks, four


def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    table: ArrayLike,
    *,
    method: str,
    delta_max: int,
    softmax_multiplier: int,
    softmax_shift: int,
    pmax: int,
    multiplier: int,
    shift: int,
    q_zero_point: int = 0,
    k_zero_point: int = 0,
    v_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    keep: ArrayLike | None = None,
    mask_add: ArrayLike | None = None,
    causal: bool = False,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
    softmax_bits: int = 0,
) -> NDArray[np.int8]:
    """Integer scaled-dot-product attention, softmax inside (attention.h).

    Parameters
    ----------
    q : int8 [batch, heads, q_len, d] or [batch, groups, heads, q_len, d]
    k, v : int8, the same with kv_heads (which divides heads) and k_len
    table, method, delta_max, softmax_multiplier, softmax_shift, pmax, softmax_bits, multiplier, shift
        As `pyquant.numerics.derive_attention` gives.
    keep : uint8 or bool, broadcast to [..., heads, q_len, k_len], optional
        0 excludes the key.
    mask_add : int32, the same, optional
        Added to the scores; |value| <= 2^24.
    causal : bool
        Exclude key j for query i where ``j > i + (k_len - q_len)``.

    Returns
    -------
    ndarray of int8, the shape of q
    """
    arrays, masks, four = _attention_operands(q, k, v, keep, mask_add)
    if out is not None and four:
        if out.ndim != 4:
            raise ValueError(f"attention: expected out of 4 axes, got {out.ndim}")
        out = out[:, None]
    y = _C.attention(
        arrays[0],
        arrays[1],
        arrays[2],
        dense(table),
        method=softmax_method_code(method),
        delta_max=delta_max,
        softmax_multiplier=softmax_multiplier,
        softmax_shift=softmax_shift,
        pmax=pmax,
        multiplier=multiplier,
        shift=shift,
        q_zero_point=q_zero_point,
        k_zero_point=k_zero_point,
        v_zero_point=v_zero_point,
        zero_point=zero_point,
        quant_min=quant_min,
        quant_max=quant_max,
        keep=masks[0],
        mask_add=masks[1],
        causal=causal,
        out=out,
        threads=threads,
        softmax_bits=softmax_bits,
    )
    return y[:, 0] if four else y


def attention_online64(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    table: ArrayLike,
    *,
    method: str,
    keep: ArrayLike | None = None,
    mask_add: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    **constants: Any,
) -> NDArray[np.int8]:
    """`attention` in its online form, keys in blocks of 64 (attention_online.h).

    Its memory does not grow with the number of keys. For each block of keys in order, with the weights P of
    `attention` relative to the largest score so far::

        m' = max(m, max(score in the block)),   alpha = 2^(-(m' - m) M / 32), as an integer in 2^-15
        O  = rnu(O alpha) + sum P (v - v_zero_point),   L = rnu(L alpha) + sum P

    and the result is ``O / L`` on the output's grid. Rescaling rounds, so this is another definition than
    `attention`: the results differ by a unit now and then, and are the same where all of a row's keys lie in
    one block.

    Parameters
    ----------
    q : int8 [batch, heads, q_len, d] or [batch, groups, heads, q_len, d]
    k, v : int8, the same with kv_heads (which divides heads) and k_len
    table, method, keep, mask_add, out, **constants
        The other arguments of `attention`, with the same defaults; method is "table16".

    Returns
    -------
    ndarray of int8, the shape of q

    Raises
    ------
    ValueError
        For another method, and as `attention` does.

    References
    ----------
    M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax", arXiv:1805.02867, algorithm 3.
    """
    arrays, masks, four = _attention_operands(q, k, v, keep, mask_add)
    if out is not None and four:
        if out.ndim != 4:
            raise ValueError(f"attention: expected out of 4 axes, got {out.ndim}")
        out = out[:, None]
    y = _C.attention_online64(
        arrays[0],
        arrays[1],
        arrays[2],
        dense(table),
        softmax_method_code(method),
        keep=masks[0],
        mask_add=masks[1],
        out=out,
        **constants,
    )
    return y[:, 0] if four else y


def attention_trace(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    table: ArrayLike,
    *,
    method: str,
    keep: ArrayLike | None = None,
    mask_add: ArrayLike | None = None,
    **constants: Any,
) -> AttentionTrace:
    """`attention` on the reference kernel, with its sub-sites. The arguments are the same, without `out`."""
    if "out" in constants:
        raise TypeError("attention_trace: out is not an argument")
    arrays, masks, four = _attention_operands(q, k, v, keep, mask_add)
    y, score, p, l = _C.attention_trace(  # noqa: E741
        arrays[0],
        arrays[1],
        arrays[2],
        dense(table),
        softmax_method_code(method),
        keep=masks[0],
        mask_add=masks[1],
        **constants,
    )
    return AttentionTrace(y[:, 0] if four else y, score, p, l)
