"""``pyquant::linear``: integer matrix product with per-channel weights (``gemm.h``, ``derive.h``)."""

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
    inside_gradient,
    new_edge_like,
    read_grids,
    recover,
    reject_nan,
    reject_nonfinite,
    require_int8,
    saturate,
)
from .integer import dyadic_tensor, rnu
from .library import autocast_off, define

__all__: list[str] = []

_ACCUMULATOR_MAX = 2**31 - 1
_SMALLEST_SCALE, _LARGEST_SCALE = 2.0**-100, 2.0**100


def _check(
    x: Tensor,
    x_edge: Edge,
    weight: Tensor,
    bias: Tensor | None,
    weight_scale: Tensor | None,
    weight_bits: int,
    y_edge: Edge,
) -> None:
    check_float("linear", "x", x)
    check_edge("linear", "x", x_edge, x)
    require_int8("linear", "x", x_edge)
    check_float("linear", "weight", weight, x)
    check_edge("linear", "y", y_edge, x)
    if x.dim() < 1 or weight.dim() != 2 or x.shape[-1] != weight.shape[1]:
        raise RuntimeError(
            f"linear: expected x (.., k) and weight (n, k), got {tuple(x.shape)} and {tuple(weight.shape)}"
        )
    for name, vector in (("bias", bias), ("weight_scale", weight_scale)):
        if vector is None:
            continue
        check_float("linear", name, vector, x)
        if vector.dim() != 1 or vector.shape[0] != weight.shape[0]:
            raise RuntimeError(f"linear: expected {name} ({weight.shape[0]},), got {tuple(vector.shape)}")
    if not 2 <= weight_bits <= 8:
        raise RuntimeError(f"linear: expected weight_bits in [2, 8], got {weight_bits}")


def _channel_scales(
    weight: Tensor, bias: Tensor | None, given: Tensor | None, x_grid: Grid, weight_max: int
) -> Tensor:
    """``max(absmax / weight_max or given, |bias| / (s_x * 2^30))``, float32 [n]; 1 if that is 0.

    The second term keeps the integer bias below 2^30, so that bias and products share an int32.
    """
    n, k = weight.shape
    if given is not None:
        outside = given[(given < _SMALLEST_SCALE) | (given > _LARGEST_SCALE)]
        if outside.numel() > 0:
            raise RuntimeError(f"linear: expected weight_scale in [2^-100, 2^100], got {outside[0].item()!r}")
        scale = given.double()
    elif k > 0:
        scale = weight.abs().amax(dim=1).double() / weight_max
    else:
        scale = torch.zeros(n, dtype=torch.float64, device=weight.device)
    if bias is not None:
        scale = torch.maximum(scale, bias.abs().double() / (x_grid.scale * 2.0**30))
    scale = torch.where(scale == 0, 1.0, scale)
    return scale.float().clamp(_SMALLEST_SCALE, _LARGEST_SCALE)


def body(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    x_quant_min: int,
    x_quant_max: int,
    weight: Tensor,
    bias: Tensor | None,
    weight_scale: Tensor | None,
    weight_bits: int,
    y_scale: Tensor,
    y_zero_point: Tensor,
    y_quant_min: int,
    y_quant_max: int,
) -> Tensor:
    x_edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    y_edge = Edge(y_scale, y_zero_point, y_quant_min, y_quant_max)
    _check(x, x_edge, weight, bias, weight_scale, weight_bits, y_edge)
    x_grid, y_grid = read_grids("linear", x_edge, y_edge)
    reject_nan("linear", x=x, weight_scale=weight_scale)
    reject_nonfinite("linear", weight=weight, bias=bias)

    weight_max = 2 ** (weight_bits - 1) - 1
    w_scale = _channel_scales(weight, bias, weight_scale, x_grid, weight_max)
    w = torch.round(weight / w_scale[:, None]).clamp(-weight_max, weight_max).double()
    product_scale = x_grid.scale * w_scale.double()
    b = torch.zeros_like(product_scale)
    if bias is not None:
        b = torch.round(bias.double() / product_scale)
    # float64 holds every partial sum: they stay below 2^53 by a wide margin
    bound = b.abs() + 255.0 * w.abs().sum(dim=1)
    if bool((bound > _ACCUMULATOR_MAX).any()):
        channel = int(bound.argmax())
        raise RuntimeError(
            f"linear: expected |bias| + 255 * sum |weight| <= 2^31 - 1 in integers, "
            f"got {float(bound[channel]):.0f} in output channel {channel}"
        )
    multiplier, shift = dyadic_tensor("linear", product_scale / y_grid.scale)

    acc = torch.nn.functional.linear(recover(x, x_edge, x_grid).double(), w, b).long()
    return dequantize(saturate(rnu(acc, multiplier, shift), y_grid), y_edge)


def _fake(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    x_quant_min: int,
    x_quant_max: int,
    weight: Tensor,
    bias: Tensor | None,
    weight_scale: Tensor | None,
    weight_bits: int,
    *y_grid: Any,
) -> Tensor:
    x_edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    _check(x, x_edge, weight, bias, weight_scale, weight_bits, Edge(*y_grid))
    return new_edge_like(x, (*x.shape[:-1], weight.shape[0]))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight = inputs[0], inputs[5]
    y_scale, y_zero_point, ctx.quant_min, ctx.quant_max = inputs[9:]
    ctx.save_for_backward(x, weight, output, y_scale, y_zero_point)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, y, scale, zero_point = ctx.saved_tensors
    grad_x = grad_weight = grad_bias = None
    with autocast_off(grad):
        g, y_grid = inside_gradient(grad, y, Edge(scale, zero_point, ctx.quant_min, ctx.quant_max))
        count = math.prod(x.shape[:-1])
        rows = g.reshape(count, weight.shape[0])
        if ctx.needs_input_grad[0]:
            grad_x = torch.matmul(rows, weight).reshape(x.shape)
        if ctx.needs_input_grad[5]:
            grad_weight = torch.matmul(rows.t(), x.reshape(count, weight.shape[1]))
        if ctx.needs_input_grad[6]:
            grad_bias = rows.sum(dim=0)
    # weight_scale gets its gradient together with the learned activation scales
    return grad_x, None, None, None, None, grad_weight, grad_bias, None, None, *y_grid


define(
    "linear(Tensor x, Tensor x_scale, Tensor x_zero_point, int x_quant_min, int x_quant_max, "
    "Tensor weight, Tensor? bias, Tensor? weight_scale, int weight_bits, "
    "Tensor y_scale, Tensor y_zero_point, int y_quant_min, int y_quant_max) -> Tensor",
    body,
    _fake,
    _setup_context,
    _backward,
)
