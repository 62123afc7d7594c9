"""``pyquant::add``: the residual add, two grids in, one rounding (``elementwise.h``)."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

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
    saturate,
)
from .integer import dyadic, shift_round
from .library import autocast_off, define

__all__: list[str] = []


def _check(a: Tensor, a_edge: Edge, b: Tensor, b_edge: Edge, y_edge: Edge) -> tuple[int, ...]:
    """Checks, and the broadcast shape."""
    check_float("add", "a", a)
    check_float("add", "b", b, a)
    for name, edge in (("a", a_edge), ("b", b_edge), ("y", y_edge)):
        check_edge("add", name, edge, a)
    pairs = list(zip_longest(reversed(a.shape), reversed(b.shape), fillvalue=1))
    if any(m != n and m != 1 and n != 1 for m, n in pairs):
        raise RuntimeError(f"add: expected shapes that broadcast, got {tuple(a.shape)} and {tuple(b.shape)}")
    return tuple(n if m == 1 else m for m, n in reversed(pairs))


def _multipliers(a: Grid, b: Grid, y: Grid) -> tuple[int, int, int]:
    """Both scale ratios on one shift: the larger one keeps its 31 bits."""
    real_a, real_b = a.scale / y.scale, b.scale / y.scale
    multiplier, shift = dyadic("add", max(real_a, real_b))
    other = round(min(real_a, real_b) * 2.0**shift)
    return (multiplier, other, shift) if real_a >= real_b else (other, multiplier, shift)


def body(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    a_quant_min: int,
    a_quant_max: int,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    b_quant_min: int,
    b_quant_max: int,
    y_scale: Tensor,
    y_zero_point: Tensor,
    y_quant_min: int,
    y_quant_max: int,
) -> Tensor:
    a_edge = Edge(a_scale, a_zero_point, a_quant_min, a_quant_max)
    b_edge = Edge(b_scale, b_zero_point, b_quant_min, b_quant_max)
    y_edge = Edge(y_scale, y_zero_point, y_quant_min, y_quant_max)
    _check(a, a_edge, b, b_edge, y_edge)
    a_grid, b_grid, y_grid = read_grids("add", a_edge, b_edge, y_edge)
    reject_nan("add", a=a, b=b)
    a_multiplier, b_multiplier, shift = _multipliers(a_grid, b_grid, y_grid)
    terms = recover(a, a_edge, a_grid) * a_multiplier + recover(b, b_edge, b_grid) * b_multiplier
    return dequantize(saturate(shift_round(terms, shift), y_grid), y_edge)


def _fake(a: Tensor, *rest: Any) -> Tensor:
    shape = _check(a, Edge(*rest[:4]), rest[4], Edge(*rest[5:9]), Edge(*rest[9:]))
    return new_edge_like(a, shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.a_shape, ctx.b_shape = inputs[0].shape, inputs[5].shape
    y_scale, y_zero_point, ctx.quant_min, ctx.quant_max = inputs[10:]
    operands = (inputs[0], inputs[5]) if ctx.needs_input_grad[10] else (None, None)
    ctx.save_for_backward(*operands, output, y_scale, y_zero_point)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    a, b, y, scale, zero_point = ctx.saved_tensors
    edge = Edge(scale, zero_point, ctx.quant_min, ctx.quant_max)
    with autocast_off(grad):
        g, y_grid = output_gradient(grad, y, edge, ctx.needs_input_grad[10], lambda: a + b)
        grad_a = g.sum_to_size(ctx.a_shape) if ctx.needs_input_grad[0] else None
        grad_b = g.sum_to_size(ctx.b_shape) if ctx.needs_input_grad[5] else None
    none = (None,) * 4
    return grad_a, *none, grad_b, *none, *y_grid


define(
    "add(Tensor a, Tensor a_scale, Tensor a_zero_point, int a_quant_min, int a_quant_max, "
    "Tensor b, Tensor b_scale, Tensor b_zero_point, int b_quant_min, int b_quant_max, "
    "Tensor y_scale, Tensor y_zero_point, int y_quant_min, int y_quant_max) -> Tensor",
    body,
    _fake,
    _setup_context,
    _backward,
)
