"""``pyquant::attention``: integer scaled-dot-product attention, softmax inside (``attention.h``).

The gradient is that of float attention; with `approximate_gradient` P in it is the method's own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .grid import (
    Edge,
    Grid,
    check_edge,
    check_float,
    dequantize,
    new_edge_like,
    output_gradient,
    read_grids,
    recover,
    reject_nan,
    require_int8,
    saturate,
)
from .integer import Dyadic, dyadic, rnu
from .library import autocast_off, define
from .softmax import SoftmaxConstants, check_method, normalizer, softmax_constants, softmax_weights

__all__: list[str] = []

# A float mask at or below this excludes the key: -inf, and the finfo.min that models write instead.
_EXCLUDED = -1e30
_MASK_ADD_LIMIT = 1 << 24
_HEAD_DIM_MAX = 32767


def check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    edges: tuple[Edge, Edge, Edge, Edge],
    attn_mask: Tensor | None,
    scale: float,
    method: str,
) -> None:
    for name, x, edge in (("q", q, edges[0]), ("k", k, edges[1]), ("v", v, edges[2])):
        check_float("attention", name, x, q)
        check_edge("attention", name, edge, q)
        require_int8("attention", name, edge)
    check_edge("attention", "y", edges[3], q)
    require_int8("attention", "y", edges[3])
    shapes = f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
    if (
        q.dim() < 3
        or q.dim() != k.dim()
        or k.shape != v.shape
        or q.shape[:-3] != k.shape[:-3]
        or q.shape[-1] != k.shape[-1]
    ):
        raise RuntimeError(
            f"attention: expected q (.., heads, t, d), k and v (.., kv_heads, s, d), got {shapes}"
        )
    heads, kv_heads = q.shape[-3], k.shape[-3]
    if kv_heads != heads and (kv_heads == 0 or heads % kv_heads != 0):
        raise RuntimeError(f"attention: expected kv_heads to divide heads, got {kv_heads} and {heads}")
    if not (scale > 0 and math.isfinite(scale)):
        raise RuntimeError(f"attention: expected a positive finite scale, got {scale!r}")
    check_method("attention", method)
    if attn_mask is not None:
        _check_mask(q, k, attn_mask)


def _check_mask(q: Tensor, k: Tensor, attn_mask: Tensor) -> None:
    if attn_mask.dtype != torch.bool:
        check_float("attention", "attn_mask", attn_mask, q)
    elif attn_mask.device != q.device:
        raise RuntimeError(f"attention: expected attn_mask on {q.device}, got {attn_mask.device}")
    target = (*q.shape[:-1], k.shape[-2])
    ok = attn_mask.dim() <= len(target)
    for have, want in zip(reversed(attn_mask.shape), reversed(target), strict=False):
        ok = ok and (have == 1 or have == want)
    if not ok:
        raise RuntimeError(
            f"attention: expected attn_mask to broadcast to {target}, got {tuple(attn_mask.shape)}"
        )


def _kept(attn_mask: Tensor | None, is_causal: bool, q: Tensor, k: Tensor) -> Tensor | None:
    """Which keys take part, broadcastable to [.., heads, t, s]; None where all do."""
    kept = None
    if attn_mask is not None:
        kept = attn_mask if attn_mask.dtype == torch.bool else attn_mask > _EXCLUDED
    if is_causal:
        t, s = q.shape[-2], k.shape[-2]
        row = torch.arange(t, device=q.device)[:, None]
        causal = torch.arange(s, device=q.device)[None, :] <= row + (s - t)
        kept = causal if kept is None else torch.logical_and(kept, causal)
    return kept


def body(
    q: Tensor,
    q_scale: Tensor,
    q_zero_point: Tensor,
    q_quant_min: int,
    q_quant_max: int,
    k: Tensor,
    k_scale: Tensor,
    k_zero_point: Tensor,
    k_quant_min: int,
    k_quant_max: int,
    v: Tensor,
    v_scale: Tensor,
    v_zero_point: Tensor,
    v_quant_min: int,
    v_quant_max: int,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float,
    method: str,
    y_scale: Tensor,
    y_zero_point: Tensor,
    y_quant_min: int,
    y_quant_max: int,
    approximate_gradient: bool = False,
) -> Tensor:
    q_edge = Edge(q_scale, q_zero_point, q_quant_min, q_quant_max)
    k_edge = Edge(k_scale, k_zero_point, k_quant_min, k_quant_max)
    v_edge = Edge(v_scale, v_zero_point, v_quant_min, v_quant_max)
    y_edge = Edge(y_scale, y_zero_point, y_quant_min, y_quant_max)
    check(q, k, v, (q_edge, k_edge, v_edge, y_edge), attn_mask, scale, method)
    q_grid, k_grid, v_grid, y_grid = read_grids("attention", q_edge, k_edge, v_edge, y_edge)
    additive = attn_mask if attn_mask is not None and attn_mask.dtype != torch.bool else None
    reject_nan("attention", q=q, k=k, v=v, attn_mask=additive)
    heads, kv_heads, d, keys = q.shape[-3], k.shape[-3], q.shape[-1], k.shape[-2]
    if q.numel() == 0:
        return torch.empty(q.shape, dtype=q.dtype, device=q.device)
    constants, requant = _constants(
        method, q_grid, k_grid, v_grid, y_grid, scale, d, keys, has_mask=additive is not None
    )
    if keys == 0:
        nothing = torch.zeros(q.shape, dtype=torch.int64, device=q.device)
        return dequantize(saturate(nothing, y_grid), y_edge)

    value = recover(v, v_edge, v_grid).double().repeat_interleave(heads // kv_heads, dim=-3)
    p, divisor = weights(q, (q_edge, q_grid), k, (k_edge, k_grid), attn_mask, is_causal, scale, constants)
    context = torch.matmul(p.double(), value).long()
    y = rnu(context, *normalizer(requant, divisor))
    return dequantize(saturate(y, y_grid), y_edge)


def weights(
    q: Tensor,
    q_on: tuple[Edge, Grid],
    k: Tensor,
    k_on: tuple[Edge, Grid],
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float,
    constants: SoftmaxConstants,
) -> tuple[Tensor, Tensor]:
    """P [.., heads, t, s] and L [.., heads, t, 1], int64."""
    key = recover(k, *k_on).double().repeat_interleave(q.shape[-3] // k.shape[-3], dim=-3)
    # centred keys: their zero point adds a constant to a row of scores, which the maximum takes away
    score = torch.matmul(recover(q, *q_on).double(), key.transpose(-2, -1)).long()
    if attn_mask is not None and attn_mask.dtype != torch.bool:
        alpha = q_on[1].scale * k_on[1].scale * scale
        added = torch.round(attn_mask.double() / alpha).clamp(-_MASK_ADD_LIMIT, _MASK_ADD_LIMIT)
        score = score + torch.where(attn_mask > _EXCLUDED, added, 0.0).long()
    return softmax_weights(score, _kept(attn_mask, is_causal, q, k), constants)


def constants_of_scores(
    method: str, q: Grid, k: Grid, v: Grid, scale: float, head_dim: int, keys: int, has_mask: bool
) -> SoftmaxConstants:
    """What ``pq_derive_attention`` computes of the softmax."""
    if head_dim > _HEAD_DIM_MAX:
        raise RuntimeError(f"attention: expected head_dim <= {_HEAD_DIM_MAX}, got {head_dim}")
    distance = 2 * 255 * 128 * head_dim + (1 << 25 if has_mask else 0)
    vmax = max(127 - v.zero_point, v.zero_point + 128)  # over all of int8, whatever the range of v
    return softmax_constants("attention", method, q.scale * k.scale * scale, distance, max(keys, 1), vmax)


def _constants(
    method: str,
    q: Grid,
    k: Grid,
    v: Grid,
    y: Grid,
    scale: float,
    head_dim: int,
    keys: int,
    has_mask: bool,
) -> tuple[SoftmaxConstants, Dyadic]:
    """The same, and the requantization of v."""
    constants = constants_of_scores(method, q, k, v, scale, head_dim, keys, has_mask)
    requant = dyadic("attention", v.scale / y.scale)
    if keys > 0:
        longest = torch.tensor(constants.method.divisor_most(keys))
        if int(normalizer(requant, longest)[1]) > 62:
            raise RuntimeError(
                f"attention: expected a larger ratio of the scales of v and y for {keys} keys, "
                f"got {v.scale!r} / {y.scale!r}"
            )
    return constants, requant


def _fake(*inputs: Any) -> Tensor:
    q, k, v = inputs[0], inputs[5], inputs[10]
    edges = (Edge(*inputs[1:5]), Edge(*inputs[6:10]), Edge(*inputs[11:15]), Edge(*inputs[19:23]))
    attn_mask, _, scale, method = inputs[15:19]
    check(q, k, v, edges, attn_mask, scale, method)
    return new_edge_like(q, q.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    q, k, v, attn_mask = inputs[0], inputs[5], inputs[10], inputs[15]
    ctx.is_causal, ctx.scale, ctx.method = inputs[16:19]
    y_scale, y_zero_point, ctx.quant_min, ctx.quant_max, ctx.approximate = inputs[19:]
    ctx.ranges = tuple(inputs[i : i + 2] for i in (3, 8, 13))
    grids = (*inputs[1:3], *inputs[6:8], *inputs[11:13]) if ctx.approximate else ()
    ctx.save_for_backward(q, k, v, attn_mask, output, y_scale, y_zero_point, *grids)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Probabilities are computed again: keeping them would cost t * s floats a head until then."""
    q, k, v, attn_mask, y, y_scale, y_zero_point, *grids = ctx.saved_tensors
    with autocast_off(grad):
        repeat = q.shape[-3] // max(k.shape[-3], 1)
        key, value = (x.repeat_interleave(repeat, dim=-3) for x in (k, v))
        if ctx.approximate:
            p = _integer_probabilities(ctx, q, k, attn_mask, grids)
        else:
            p = _float_probabilities(ctx, q, key, k, attn_mask)
        edge = Edge(y_scale, y_zero_point, ctx.quant_min, ctx.quant_max)
        learn = ctx.needs_input_grad[19]
        g, y_grid = output_gradient(grad, y, edge, learn, lambda: torch.matmul(p, value))
        grad_p = torch.matmul(g, value.transpose(-2, -1))
        grad_score = torch.ops.aten._softmax_backward_data(grad_p, p, -1, torch.float32)
        grad_q = torch.matmul(grad_score, key) * ctx.scale
        grad_k = _sum_groups(torch.matmul(grad_score.transpose(-2, -1), q) * ctx.scale, k)
        grad_v = _sum_groups(torch.matmul(p.transpose(-2, -1), g), v)
        grad_mask = grad_score.sum_to_size(attn_mask.shape) if ctx.needs_input_grad[15] else None
    none = (None,) * 4
    return grad_q, *none, grad_k, *none, grad_v, *none, grad_mask, None, None, None, *y_grid, None


def _float_probabilities(ctx: Any, q: Tensor, key: Tensor, k: Tensor, attn_mask: Tensor | None) -> Tensor:
    score = torch.matmul(q * ctx.scale, key.transpose(-2, -1))
    kept = _kept(attn_mask, ctx.is_causal, q, k)
    if attn_mask is not None and attn_mask.dtype != torch.bool:
        score = score + attn_mask
    if kept is not None:
        score = torch.where(kept, score, -math.inf)
    p = torch.softmax(score, dim=-1)
    return p if kept is None else torch.where(kept, p, 0.0)


def _integer_probabilities(
    ctx: Any, q: Tensor, k: Tensor, attn_mask: Tensor | None, grids: list[Tensor]
) -> Tensor:
    """Those of the method."""
    q_edge, k_edge, v_edge = ((*grids[2 * i : 2 * i + 2], *ctx.ranges[i]) for i in range(3))
    p: Tensor = torch.ops.pyquant.attention_probabilities(
        q, *q_edge, k, *k_edge, *v_edge, attn_mask, ctx.is_causal, ctx.scale, ctx.method
    )
    return p


def _sum_groups(grad: Tensor, like: Tensor) -> Tensor:
    """Sum over the query heads that share a key head."""
    if grad.shape == like.shape:
        return grad
    heads, kv_heads = grad.shape[-3], like.shape[-3]
    grouped = (*grad.shape[:-3], kv_heads, heads // kv_heads, *grad.shape[-2:])
    return grad.reshape(grouped).sum(dim=-3)


define(
    "attention(Tensor q, Tensor q_scale, Tensor q_zero_point, int q_quant_min, int q_quant_max, "
    "Tensor k, Tensor k_scale, Tensor k_zero_point, int k_quant_min, int k_quant_max, "
    "Tensor v, Tensor v_scale, Tensor v_zero_point, int v_quant_min, int v_quant_max, "
    "Tensor? attn_mask, bool is_causal, float scale, str method, "
    "Tensor y_scale, Tensor y_zero_point, int y_quant_min, int y_quant_max, "
    "bool approximate_gradient=False) -> Tensor",
    body,
    _fake,
    _setup_context,
    _backward,
)
