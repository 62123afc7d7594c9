"""What a method computes on the way to its result, for gradients of the approximation.

Backward passes call these ops: slopes of a unary function, probabilities of a softmax, mean and reciprocal
deviation of a norm. Each runs the method's integers again, in pure torch on any device, and stays opaque to a
compiler, as the ops themselves. Their results are constants to autograd: second derivatives stop here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from pyquant import numerics
from pyquant.methods import canonical

from . import attention, layer_norm, softmax_rows, unary, unary_methods
from .grid import Edge, Grid, check_edge, check_float, new_edge_like, read_grids, recover
from .library import define
from .norm_methods import Layer, parse, statistics
from .softmax import check_method, softmax_constants, softmax_weights
from .unary_functions import REAL

__all__: list[str] = []


# -- unary_tangent: the function before rounding, and the slope of its table ---------------------------------


@lru_cache(maxsize=256)
def _tangents(function: str, method: str, x: Grid, y: Grid) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(values, slopes) for q = -128..127; outside of the range of x, those of its ends."""
    table = torch.tensor(unary.stored_table(function, method, x, y), dtype=torch.float64)
    code = torch.arange(256).clamp(x.quant_min + 128, x.quant_max + 128)
    before = (code - 1).clamp(min=x.quant_min + 128)
    after = (code + 1).clamp(max=x.quant_max + 128)
    rise, run = (table[after] - table[before]) * y.scale, (after - before).clamp(min=1) * x.scale
    v = code - 128 - x.zero_point
    if canonical("unary", method) == "table":
        values = REAL[function](v.double() * x.scale)
    else:
        k = numerics.derive_unary(function, x, y, method)
        values = unary_methods.apply(k, v).double() * (k.multiplier * 2.0**-k.shift * y.scale)
    return tuple(values.tolist()), tuple((rise / run).tolist())


def tangent_body(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    x_quant_min: int,
    x_quant_max: int,
    function: str,
    method: str,
    y_scale: Tensor,
    y_zero_point: Tensor,
    y_quant_min: int,
    y_quant_max: int,
) -> tuple[Tensor, Tensor]:
    x_edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    y_edge = Edge(y_scale, y_zero_point, y_quant_min, y_quant_max)
    unary.check(x, x_edge, function, method, y_edge)
    x_grid, y_grid = read_grids("unary_tangent", x_edge, y_edge)
    index = recover(x, x_edge, x_grid) + (x_grid.zero_point + 128)
    values, slopes = (
        torch.tensor(part, dtype=torch.float32, device=x.device)[index].contiguous()
        for part in _tangents(function, method, x_grid, y_grid)
    )
    return values, slopes


def _tangent_fake(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    unary.check(x, Edge(*rest[:4]), rest[4], rest[5], Edge(*rest[6:]))
    return new_edge_like(x, x.shape), new_edge_like(x, x.shape)


define(
    "unary_tangent(Tensor x, Tensor x_scale, Tensor x_zero_point, int x_quant_min, int x_quant_max, "
    "str function, str method, Tensor y_scale, Tensor y_zero_point, int y_quant_min, int y_quant_max) "
    "-> (Tensor, Tensor)",
    tangent_body,
    _tangent_fake,
)


# -- softmax_probabilities, attention_probabilities: P / L ---------------------------------------------------


def probabilities_body(
    x: Tensor, x_scale: Tensor, x_zero_point: Tensor, x_quant_min: int, x_quant_max: int, method: str
) -> Tensor:
    edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    _check_rows(x, edge, method)
    (grid,) = read_grids("softmax_probabilities", edge)
    if x.numel() == 0:
        return new_edge_like(x, x.shape)
    constants = softmax_constants(
        "softmax_probabilities", method, grid.scale, softmax_rows.DISTANCE_MAX, x.shape[-1], 1
    )
    p, divisor = softmax_weights(recover(x, edge, grid), None, constants)
    return (p.double() / divisor).float().contiguous()


def _check_rows(x: Tensor, edge: Edge, method: str) -> None:
    check_float("softmax_probabilities", "x", x)
    check_edge("softmax_probabilities", "x", edge, x)
    check_method("softmax_probabilities", method)
    if x.dim() < 1:
        raise RuntimeError(f"softmax_probabilities: expected x of at least 1 axis, got {tuple(x.shape)}")


def _probabilities_fake(x: Tensor, *rest: Any) -> Tensor:
    _check_rows(x, Edge(*rest[:4]), rest[4])
    return new_edge_like(x, x.shape)


define(
    "softmax_probabilities("
    "Tensor x, Tensor x_scale, Tensor x_zero_point, int x_quant_min, int x_quant_max, "
    "str method) -> Tensor",
    probabilities_body,
    _probabilities_fake,
)


def attention_body(
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
    v_scale: Tensor,
    v_zero_point: Tensor,
    v_quant_min: int,
    v_quant_max: int,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float,
    method: str,
) -> Tensor:
    q_edge = Edge(q_scale, q_zero_point, q_quant_min, q_quant_max)
    k_edge = Edge(k_scale, k_zero_point, k_quant_min, k_quant_max)
    v_edge = Edge(v_scale, v_zero_point, v_quant_min, v_quant_max)
    attention.check(q, k, k, (q_edge, k_edge, v_edge, v_edge), attn_mask, scale, method)
    q_grid, k_grid, v_grid = read_grids("attention_probabilities", q_edge, k_edge, v_edge)
    shape = (*q.shape[:-1], k.shape[-2])
    if 0 in shape or q.shape[-1] == 0:
        return torch.zeros(shape, device=q.device)
    has_mask = attn_mask is not None and attn_mask.dtype != torch.bool
    constants = attention.constants_of_scores(
        method, q_grid, k_grid, v_grid, scale, q.shape[-1], k.shape[-2], has_mask=has_mask
    )
    p, divisor = attention.weights(
        q, (q_edge, q_grid), k, (k_edge, k_grid), attn_mask, is_causal, scale, constants
    )
    return (p.double() / divisor).float().contiguous()


def _attention_fake(*inputs: Any) -> Tensor:
    q, k = inputs[0], inputs[5]
    edges = (Edge(*inputs[1:5]), Edge(*inputs[6:10]), Edge(*inputs[10:14]), Edge(*inputs[10:14]))
    attn_mask, _, scale, method = inputs[14:]
    attention.check(q, k, k, edges, attn_mask, scale, method)
    return new_edge_like(q, (*q.shape[:-1], k.shape[-2]))


define(
    "attention_probabilities("
    "Tensor q, Tensor q_scale, Tensor q_zero_point, int q_quant_min, int q_quant_max, "
    "Tensor k, Tensor k_scale, Tensor k_zero_point, int k_quant_min, int k_quant_max, "
    "Tensor v_scale, Tensor v_zero_point, int v_quant_min, int v_quant_max, "
    "Tensor? attn_mask, bool is_causal, float scale, str method) -> Tensor",
    attention_body,
    _attention_fake,
)


# -- layer_norm_statistics -----------------------------------------------------------------------------------


def statistics_body(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    x_quant_min: int,
    x_quant_max: int,
    eps: float,
    rms: bool,
    method: str,
    x_range: Tensor | None,
) -> tuple[Tensor, Tensor]:
    edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    layer_norm.check(x, edge, None, None, eps, method, x_range, edge)
    (grid,) = read_grids("layer_norm_statistics", edge)
    layer = Layer(None, None, eps, rms, grid.scale, 1.0, x_range)
    mean, inverse = statistics(parse(method), recover(x, edge, grid), layer)
    return mean.float().contiguous(), inverse.float().contiguous()


def _statistics_fake(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    edge = Edge(*rest[:4])
    eps, _, method, x_range = rest[4:]
    layer_norm.check(x, edge, None, None, eps, method, x_range, edge)
    shape = (*x.shape[:-1], 1)
    return new_edge_like(x, shape), new_edge_like(x, shape)


define(
    "layer_norm_statistics("
    "Tensor x, Tensor x_scale, Tensor x_zero_point, int x_quant_min, int x_quant_max, "
    "float eps, bool rms, str method, Tensor? x_range) -> (Tensor, Tensor)",
    statistics_body,
    _statistics_fake,
)
