"""``pyquant::quantize``: fake-quantize onto a grid (``quantize.h``)."""

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
)
from .library import autocast_off, define

__all__: list[str] = []


def _check(x: Tensor, edge: Edge) -> None:
    check_float("quantize", "x", x)
    check_edge("quantize", "", edge, x)


def body(x: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int) -> Tensor:
    edge = Edge(scale, zero_point, quant_min, quant_max)
    _check(x, edge)
    (grid,) = read_grids("quantize", edge)
    reject_nan("quantize", x=x)
    return dequantize(recover(x, edge, grid), edge)


def _fake(x: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int) -> Tensor:
    _check(x, Edge(scale, zero_point, quant_min, quant_max))
    return new_edge_like(x, x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, scale, zero_point, ctx.quant_min, ctx.quant_max = inputs
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, output, scale, zero_point)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, y, scale, zero_point = ctx.saved_tensors
    edge = Edge(scale, zero_point, ctx.quant_min, ctx.quant_max)
    with autocast_off(grad):
        grad_x, grid = output_gradient(grad, y, edge, ctx.needs_input_grad[1], lambda: x)
    return grad_x, *grid


define(
    "quantize(Tensor x, Tensor scale, Tensor zero_point, int quant_min, int quant_max) -> Tensor",
    body,
    _fake,
    _setup_context,
    _backward,
)
