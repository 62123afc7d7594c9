"""``pyquant::softmax``: softmax over the last axis, by a method of attention's (``softmax_rows.h``).

The gradient is ``P (g - sum(P g))``, with the P of the float function, or with `approximate_gradient` that of
the method's integers.
"""

from __future__ import annotations

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
    saturate,
)
from .integer import Dyadic, dyadic, rnu
from .library import autocast_off, define
from .softmax import SoftmaxConstants, check_method, normalizer, softmax_constants, softmax_weights

__all__: list[str] = []

DISTANCE_MAX = 65535  # of two int16


def _check(x: Tensor, x_edge: Edge, method: str, y_edge: Edge) -> None:
    check_float("softmax", "x", x)
    check_edge("softmax", "x", x_edge, x)
    check_edge("softmax", "y", y_edge, x)
    check_method("softmax", method)
    if x.dim() < 1:
        raise RuntimeError(f"softmax: expected x of at least 1 axis, got shape {tuple(x.shape)}")


def _constants(method: str, x: Grid, y: Grid, n: int) -> tuple[SoftmaxConstants, Dyadic]:
    """What ``pq_derive_softmax_rows`` computes."""
    keys = max(n, 1)
    constants = softmax_constants("softmax", method, x.scale, DISTANCE_MAX, keys, 1)
    requant = dyadic("softmax", 1.0 / y.scale)
    longest = torch.tensor(constants.method.divisor_most(keys))
    if int(normalizer(requant, longest)[1]) > 62:
        raise RuntimeError(f"softmax: expected a smaller y_scale for rows of {n}, got {y.scale!r}")
    return constants, requant


def body(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    x_quant_min: int,
    x_quant_max: int,
    method: str,
    y_scale: Tensor,
    y_zero_point: Tensor,
    y_quant_min: int,
    y_quant_max: int,
    approximate_gradient: bool = False,
) -> Tensor:
    x_edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    y_edge = Edge(y_scale, y_zero_point, y_quant_min, y_quant_max)
    _check(x, x_edge, method, y_edge)
    x_grid, y_grid = read_grids("softmax", x_edge, y_edge)
    reject_nan("softmax", x=x)
    constants, requant = _constants(method, x_grid, y_grid, x.shape[-1])
    if x.numel() == 0:
        return new_edge_like(x, x.shape)
    # centred integers: a zero point moves all of a row, and its maximum with them
    p, divisor = softmax_weights(recover(x, x_edge, x_grid), None, constants)
    return dequantize(saturate(rnu(p, *normalizer(requant, divisor)), y_grid), y_edge)


def _fake(x: Tensor, *rest: Any) -> Tensor:
    _check(x, Edge(*rest[:4]), rest[4], Edge(*rest[5:9]))
    return new_edge_like(x, x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    y_scale, y_zero_point, ctx.quant_min, ctx.quant_max, ctx.approximate = inputs[6:]
    ctx.x_range, ctx.method = inputs[3:5], inputs[5]
    x_grid = inputs[1:3] if ctx.approximate else ()
    ctx.save_for_backward(inputs[0], output, y_scale, y_zero_point, *x_grid)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, y, scale, zero_point, *x_grid = ctx.saved_tensors
    edge = Edge(scale, zero_point, ctx.quant_min, ctx.quant_max)
    with autocast_off(grad):
        if ctx.approximate:
            p = torch.ops.pyquant.softmax_probabilities(x, *x_grid, *ctx.x_range, ctx.method)
        else:
            p = torch.softmax(x, dim=-1)
        g, y_grid = output_gradient(grad, y, edge, ctx.needs_input_grad[6], lambda: p)
        grad_x = torch.ops.aten._softmax_backward_data(g, p, -1, torch.float32)
    return grad_x, None, None, None, None, None, *y_grid, None


define(
    "softmax(Tensor x, Tensor x_scale, Tensor x_zero_point, int x_quant_min, int x_quant_max, str method, "
    "Tensor y_scale, Tensor y_zero_point, int y_quant_min, int y_quant_max, "
    "bool approximate_gradient=False) -> Tensor",
    body,
    _fake,
    _setup_context,
    _backward,
)
