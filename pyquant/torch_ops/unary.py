"""``pyquant::unary``: any int8 -> int8 function as a table of 256 bytes (``elementwise.h``).

The exact table is made by the C routine on every device; that of a published method is made here, in the
method's own integers, and equals the one that the C core makes.

The gradient is that of the float function; with `approximate_gradient` that of the table: the central
difference of its results for the neighbours of a code, one-sided at the ends of x's range.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from pyquant import numerics
from pyquant.methods import canonical

from . import unary_methods
from .edge import ends, slopes
from .grid import (
    Edge,
    Grid,
    GridGradients,
    check_edge,
    check_float,
    dequantize,
    new_edge_like,
    read_grids,
    recover,
    reject_nan,
    require_int8,
    scale_gradient,
)
from .library import autocast_off, define
from .unary_functions import GRADIENTS, REAL

__all__ = ["FUNCTIONS"]

FUNCTIONS = tuple(GRADIENTS)


def check(x: Tensor, x_edge: Edge, function: str, method: str, y_edge: Edge) -> None:
    check_float("unary", "x", x)
    check_edge("unary", "x", x_edge, x)
    check_edge("unary", "y", y_edge, x)
    require_int8("unary", "x", x_edge)
    require_int8("unary", "y", y_edge)
    if function not in GRADIENTS:
        raise RuntimeError(f"unary: expected one of {', '.join(FUNCTIONS)}, got {function!r}")
    try:
        known = numerics.unary_functions(method)
    except ValueError as error:  # it names the op
        raise RuntimeError(str(error)) from error
    if function not in known:
        raise RuntimeError(
            f"unary: expected a function that method {method} has ({', '.join(known)}), got {function}"
        )


@lru_cache(maxsize=1024)
def stored_table(function: str, method: str, x_grid: Grid, y_grid: Grid) -> tuple[int, ...]:
    """Stored results for q = -128..127."""
    try:
        if canonical("unary", method) == "table":
            return tuple(numerics.derive_table(function, x_grid, y_grid).tolist())
        constants = numerics.derive_unary(function, x_grid, y_grid, method)
    except (ValueError, OverflowError) as error:
        raise RuntimeError(f"unary: {error}") from error
    return tuple(unary_methods.table(constants, x_grid, y_grid).tolist())


def body(
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
    approximate_gradient: bool = False,
) -> Tensor:
    x_edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    y_edge = Edge(y_scale, y_zero_point, y_quant_min, y_quant_max)
    check(x, x_edge, function, method, y_edge)
    x_grid, y_grid = read_grids("unary", x_edge, y_edge)
    reject_nan("unary", x=x)
    table = torch.tensor(stored_table(function, method, x_grid, y_grid), dtype=torch.int64, device=x.device)
    index = recover(x, x_edge, x_grid) + (x_grid.zero_point + 128)
    return dequantize(table[index] - y_grid.zero_point, y_edge)


def _fake(x: Tensor, *rest: Any) -> Tensor:
    check(x, Edge(*rest[:4]), rest[4], rest[5], Edge(*rest[6:10]))
    return new_edge_like(x, x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, x_scale, x_zero_point, *ctx.x_range, ctx.function, ctx.method = inputs[:7]
    y_scale, y_zero_point, *ctx.y_range, ctx.approximate = inputs[7:]
    ctx.save_for_backward(x, x_scale, x_zero_point, y_scale, y_zero_point)


def _tables(ctx: Any, saved: tuple[Tensor, ...], learn: bool) -> tuple[Tensor, Tensor | None]:
    """Of each code: the slope of the float function, or of the approximation, 0 where the result is clipped;
    and d y / d scale (LSQ) where the scale is learned."""
    _, x_scale, x_zero_point, y_scale, y_zero_point = saved
    codes = torch.arange(-128, 128, dtype=torch.int32, device=x_scale.device)
    values = (codes - x_zero_point).to(torch.float32) * x_scale
    rest = (ctx.function, ctx.method, y_scale, y_zero_point, *ctx.y_range)
    y = torch.ops.pyquant.unary(values, x_scale, x_zero_point, -128, 127, *rest)
    if ctx.approximate:
        real, slope = torch.ops.pyquant.unary_tangent(values, x_scale, x_zero_point, *ctx.x_range, *rest)
    else:
        real = REAL[ctx.function](values) if learn else None
        slope = GRADIENTS[ctx.function](torch.ones_like(values), values)
    edge = Edge(y_scale, y_zero_point, *ctx.y_range)
    if learn:
        inside, step = slopes(real, y, edge)
    else:
        low, high = ends(edge)
        inside, step = torch.logical_and(y > low * y_scale, y < high * y_scale), None
    return torch.where(inside, slope, 0.0), step


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # once: checkpointing unpacks each only once
    x, x_scale, x_zero_point, y_scale, y_zero_point = saved
    learn = ctx.needs_input_grad[7]
    with autocast_off(grad):
        grad_x, total = torch.ops.pyquant.lookup_backward(
            grad, x, x_scale, x_zero_point, *ctx.x_range, *_tables(ctx, saved, learn)
        )
        y_grid: GridGradients = (None, None, None, None)
        if learn:
            y_grid = scale_gradient(total, grad, Edge(y_scale, y_zero_point, *ctx.y_range))
    return grad_x, None, None, None, None, None, None, *y_grid, None


define(
    "unary(Tensor x, Tensor x_scale, Tensor x_zero_point, int x_quant_min, int x_quant_max, str function, "
    "str method, Tensor y_scale, Tensor y_zero_point, int y_quant_min, int y_quant_max, "
    "bool approximate_gradient=False) -> Tensor",
    body,
    _fake,
    _setup_context,
    _backward,
)
