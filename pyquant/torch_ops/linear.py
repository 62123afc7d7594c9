"""``pyquant::linear``: integer matrix product, weights with a scale per channel or per group (``gemm.h``,
``gemm_s8s4.h``, ``derive.h``)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyquant.qparams import SCALE_MAX, SCALE_MIN

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
    reject_nonfinite,
    require_int8,
    saturate,
)
from .integer import dyadic_tensor, rnu
from .library import autocast_off, define
from .weight_scales import own_scales, weight_gradients

__all__: list[str] = []

_ACCUMULATOR_MAX = 2**31 - 1
_FRACTION = 2.0**-7  # what a 16-bit grid leaves for fractions of a step: |q - zero_point| <= 255


def _check(
    x: Tensor,
    x_edge: Edge,
    weight: Tensor,
    bias: Tensor | None,
    weight_scale: Tensor | None,
    weight_bits: int,
    group_size: int,
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
    if not 2 <= weight_bits <= 8:
        raise RuntimeError(f"linear: expected weight_bits in [2, 8], got {weight_bits}")
    if group_size < 0 or group_size % 4 != 0 or (group_size > 0 and weight_bits > 4):
        raise RuntimeError(
            f"linear: expected group_size 0, or a multiple of 4 with weight_bits <= 4, "
            f"got {group_size} with {weight_bits}"
        )
    n, k = weight.shape
    scales = (n,) if group_size == 0 else (n, -(-k // group_size))
    for name, tensor, shape in (("bias", bias, (n,)), ("weight_scale", weight_scale, scales)):
        if tensor is None:
            continue
        check_float("linear", name, tensor, x)
        if tuple(tensor.shape) != shape:
            raise RuntimeError(f"linear: expected {name} {shape}, got {tuple(tensor.shape)}")


def _column_scales(own: Tensor, bias: Tensor | None, x_grid: Grid) -> Tensor:
    """``max(own, |bias| / (s_x * 2^30))``, float32 [n]; 1 if that is 0.

    The second term keeps the integer bias below 2^30, so that bias and products share an int32.
    """
    if bias is not None:
        own = torch.maximum(own, bias.abs().double() / (x_grid.scale * 2.0**30))
    scale = torch.where(own == 0, 1.0, own)
    return scale.float().clamp(SCALE_MIN, SCALE_MAX)


def _group_scales(
    weight: Tensor, bias: Tensor | None, given: Tensor | None, x_grid: Grid, weight_max: int, group_size: int
) -> tuple[Tensor, Tensor]:
    """The scale of each column, float32 [n], and the multiplier of each weight's group, float32 [n, k]
    (``pq_derive_group_scale``)."""
    n, k = weight.shape
    groups = -(-k // group_size)
    padded = torch.nn.functional.pad(weight, (0, groups * group_size - k))
    own = own_scales("linear", padded.reshape(n, groups, group_size), given, weight_max)
    largest = max(1, min(255, (2**30 - 1) // (255 * weight_max * max(k, 1))))
    widest = own.amax(dim=1) if groups > 0 else own.new_zeros(n)
    scale = _column_scales(widest / largest, bias, x_grid)
    factor = torch.round(own / scale.double()[:, None]).clamp(1, largest).float()
    return scale, factor.repeat_interleave(group_size, dim=1)[:, :k]


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
    group_size: int,
    y_scale: Tensor,
    y_zero_point: Tensor,
    y_quant_min: int,
    y_quant_max: int,
) -> Tensor:
    x_edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    y_edge = Edge(y_scale, y_zero_point, y_quant_min, y_quant_max)
    _check(x, x_edge, weight, bias, weight_scale, weight_bits, group_size, y_edge)
    x_grid, y_grid = read_grids("linear", x_edge, y_edge)
    reject_nan("linear", x=x, weight_scale=weight_scale)
    reject_nonfinite("linear", weight=weight, bias=bias)

    weight_max = 2 ** (weight_bits - 1) - 1
    if group_size > 0:
        w_scale, factor = _group_scales(weight, bias, weight_scale, x_grid, weight_max, group_size)
    else:
        w_scale = _column_scales(own_scales("linear", weight, weight_scale, weight_max), bias, x_grid)
        factor = torch.ones_like(weight)
    w = torch.round(weight / (w_scale[:, None] * factor)).clamp(-weight_max, weight_max).double()
    w = w * factor.double()
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
    group_size: int,
    *y_grid: Any,
) -> Tensor:
    x_edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    _check(x, x_edge, weight, bias, weight_scale, weight_bits, group_size, Edge(*y_grid))
    return new_edge_like(x, (*x.shape[:-1], weight.shape[0]))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, x_scale, x_zero_point, *ctx.x_range, weight, bias, weight_scale, ctx.weight_bits, ctx.group_size = (
        inputs[:10]
    )
    y_scale, y_zero_point, ctx.quant_min, ctx.quant_max = inputs[10:]
    ctx.save_for_backward(x, x_scale, x_zero_point, weight, bias, weight_scale, output, y_scale, y_zero_point)


def _before_rounding(ctx: Any, saved: tuple[Tensor, ...]) -> Tensor:
    """The integer product before it is rounded to the output grid: to 1/128 of a step, saturating at 256
    steps.

    It is what the output's quantizer sees, quantized weights included, and a second integer product takes a
    third of the time of the one in float.
    """
    x, x_scale, x_zero_point, weight, bias, weight_scale, _, scale, zero_point = saved
    y: Tensor = torch.ops.pyquant.linear(
        x,
        x_scale,
        x_zero_point,
        *ctx.x_range,
        weight,
        bias,
        weight_scale,
        ctx.weight_bits,
        ctx.group_size,
        scale * _FRACTION,
        torch.zeros_like(zero_point),
        -32768,
        32767,
    )
    return y


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # once: checkpointing unpacks each only once
    x, _, _, weight, _, weight_scale, y, scale, zero_point = saved
    edge = Edge(scale, zero_point, ctx.quant_min, ctx.quant_max)
    grad_x = grad_weight = grad_bias = grad_scale = None
    with autocast_off(grad):
        g, y_grid = output_gradient(
            grad, y, edge, ctx.needs_input_grad[10], lambda: _before_rounding(ctx, saved)
        )
        count = math.prod(x.shape[:-1])
        rows = g.reshape(count, weight.shape[0])
        if ctx.needs_input_grad[0]:
            grad_x = torch.matmul(rows, weight).reshape(x.shape)
        if ctx.needs_input_grad[5] or ctx.needs_input_grad[7]:
            grad_weight = torch.matmul(rows.t(), x.reshape(count, weight.shape[1]))
            if weight_scale is not None and ctx.needs_input_grad[7]:
                grad_weight, grad_scale = weight_gradients(
                    grad_weight, weight, weight_scale, ctx.weight_bits, ctx.group_size
                )
        if ctx.needs_input_grad[6]:
            grad_bias = rows.sum(dim=0)
    return grad_x, None, None, None, None, grad_weight, grad_bias, grad_scale, None, None, *y_grid


define(
    "linear(Tensor x, Tensor x_scale, Tensor x_zero_point, int x_quant_min, int x_quant_max, "
    "Tensor weight, Tensor? bias, Tensor? weight_scale, int weight_bits, int group_size, "
    "Tensor y_scale, Tensor y_zero_point, int y_quant_min, int y_quant_max) -> Tensor",
    body,
    _fake,
    _setup_context,
    _backward,
)
