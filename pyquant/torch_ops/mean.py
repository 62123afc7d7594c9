"""``pyquant::mean``: mean over some axes, one integer sum and one rounding (``elementwise.h``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .grid import (
    Edge,
    check_edge,
    check_float,
    dequantize,
    new_edge_like,
    output_gradient,
    read_grids,
    recover,
    reject_nan,
    saturate,
)
from .integer import dyadic, rnu
from .library import autocast_off, define

__all__: list[str] = []

_REDUCE_MAX = 32767


def _axes(x: Tensor, dim: Sequence[int]) -> list[int]:
    """The reduced axes, counted from the front; no axes named means all of them."""
    axes = sorted(d + x.dim() if d < 0 else d for d in dim) if dim else list(range(x.dim()))
    if any(not 0 <= d < x.dim() for d in axes) or len(set(axes)) != len(axes):
        raise RuntimeError(
            f"mean: expected different axes of a tensor of {x.dim()} dimensions, got {list(dim)}"
        )
    return axes


def _check(x: Tensor, x_edge: Edge, dim: Sequence[int], y_edge: Edge) -> list[int]:
    check_float("mean", "x", x)
    check_edge("mean", "x", x_edge, x)
    check_edge("mean", "y", y_edge, x)
    axes = _axes(x, dim)
    reduce = math.prod(x.shape[d] for d in axes)
    if not 1 <= reduce <= _REDUCE_MAX:
        raise RuntimeError(f"mean: expected the mean of 1 to {_REDUCE_MAX} elements, got {reduce}")
    return axes


def body(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    x_quant_min: int,
    x_quant_max: int,
    dim: Sequence[int],
    keepdim: bool,
    y_scale: Tensor,
    y_zero_point: Tensor,
    y_quant_min: int,
    y_quant_max: int,
) -> Tensor:
    x_edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    y_edge = Edge(y_scale, y_zero_point, y_quant_min, y_quant_max)
    axes = _check(x, x_edge, dim, y_edge)
    x_grid, y_grid = read_grids("mean", x_edge, y_edge)
    reject_nan("mean", x=x)
    reduce = math.prod(x.shape[d] for d in axes)
    multiplier, shift = dyadic("mean", x_grid.scale / (reduce * y_grid.scale))
    centred = recover(x, x_edge, x_grid)
    total = centred.sum(dim=axes, keepdim=keepdim) if axes else centred
    return dequantize(saturate(rnu(total, multiplier, shift), y_grid), y_edge)


def _fake(x: Tensor, *rest: Any) -> Tensor:
    dim, keepdim = rest[4], rest[5]
    axes = _check(x, Edge(*rest[:4]), dim, Edge(*rest[6:]))
    kept = [1 if d in axes else size for d, size in enumerate(x.shape) if keepdim or d not in axes]
    return new_edge_like(x, tuple(kept))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, dim, ctx.keepdim = inputs[0], inputs[5], inputs[6]
    ctx.shape, ctx.axes = x.shape, _axes(x, dim)
    y_scale, y_zero_point, ctx.quant_min, ctx.quant_max = inputs[7:]
    ctx.save_for_backward(x if ctx.needs_input_grad[7] else None, output, y_scale, y_zero_point)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, y, scale, zero_point = ctx.saved_tensors
    edge = Edge(scale, zero_point, ctx.quant_min, ctx.quant_max)

    def real() -> Tensor:
        found: Tensor = x.mean(ctx.axes, ctx.keepdim)
        return found

    with autocast_off(grad):
        g, y_grid = output_gradient(grad, y, edge, ctx.needs_input_grad[7], real)
        if not ctx.keepdim:
            for axis in ctx.axes:
                g = g.unsqueeze(axis)
        reduce = math.prod(ctx.shape[d] for d in ctx.axes)
        grad_x = (g / reduce).expand(ctx.shape)
    return grad_x, None, None, None, None, None, None, *y_grid


define(
    "mean(Tensor x, Tensor x_scale, Tensor x_zero_point, int x_quant_min, int x_quant_max, int[] dim, "
    "bool keepdim, Tensor y_scale, Tensor y_zero_point, int y_quant_min, int y_quant_max) -> Tensor",
    body,
    _fake,
    _setup_context,
    _backward,
)
