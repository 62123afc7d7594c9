"""``pyquant::requantize``: an edge onto another grid by one integer rescale (``elementwise.h``)."""

from __future__ import annotations

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


def _check(x: Tensor, x_edge: Edge, y_edge: Edge) -> None:
    check_float("requantize", "x", x)
    check_edge("requantize", "x", x_edge, x)
    check_edge("requantize", "y", y_edge, x)


def body(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    x_quant_min: int,
    x_quant_max: int,
    y_scale: Tensor,
    y_zero_point: Tensor,
    y_quant_min: int,
    y_quant_max: int,
) -> Tensor:
    x_edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    y_edge = Edge(y_scale, y_zero_point, y_quant_min, y_quant_max)
    _check(x, x_edge, y_edge)
    x_grid, y_grid = read_grids("requantize", x_edge, y_edge)
    reject_nan("requantize", x=x)
    multiplier, shift = dyadic("requantize", x_grid.scale / y_grid.scale)
    y = saturate(rnu(recover(x, x_edge, x_grid), multiplier, shift), y_grid)
    return dequantize(y, y_edge)


def _fake(x: Tensor, *grids: Any) -> Tensor:
    _check(x, Edge(*grids[:4]), Edge(*grids[4:]))
    return new_edge_like(x, x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    y_scale, y_zero_point, ctx.quant_min, ctx.quant_max = inputs[5:]
    ctx.save_for_backward(inputs[0] if ctx.needs_input_grad[5] else None, output, y_scale, y_zero_point)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, y, scale, zero_point = ctx.saved_tensors
    edge = Edge(scale, zero_point, ctx.quant_min, ctx.quant_max)
    with autocast_off(grad):
        grad_x, y_grid = output_gradient(grad, y, edge, ctx.needs_input_grad[5], lambda: x)
    return grad_x, None, None, None, None, *y_grid


define(
    "requantize(Tensor x, Tensor x_scale, Tensor x_zero_point, int x_quant_min, int x_quant_max, "
    "Tensor y_scale, Tensor y_zero_point, int y_quant_min, int y_quant_max) -> Tensor",
    body,
    _fake,
    _setup_context,
    _backward,
)
