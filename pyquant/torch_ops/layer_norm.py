"""``pyquant::layer_norm``: LayerNorm and RMSNorm in integers over the last axis (``layernorm.h``)."""

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
    saturate,
)
from .integer import bit_length, floor_sqrt_shifted, rnu, shift_round
from .library import autocast_off, define

__all__: list[str] = []

_CHANNELS_MAX = 32767
_EPSILON_MAX = 2.0**61


def _check(
    x: Tensor,
    x_edge: Edge,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    y_edge: Edge,
) -> None:
    check_float("layer_norm", "x", x)
    check_edge("layer_norm", "x", x_edge, x)
    check_edge("layer_norm", "y", y_edge, x)
    if x.dim() < 1 or not 1 <= x.shape[-1] <= _CHANNELS_MAX:
        raise RuntimeError(
            f"layer_norm: expected a last axis of 1 to {_CHANNELS_MAX} channels, got shape {tuple(x.shape)}"
        )
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector is None:
            continue
        check_float("layer_norm", name, vector, x)
        if vector.dim() != 1 or vector.shape[0] != x.shape[-1]:
            raise RuntimeError(f"layer_norm: expected {name} ({x.shape[-1]},), got {tuple(vector.shape)}")
    if not (eps >= 0 and math.isfinite(eps)):
        raise RuntimeError(f"layer_norm: expected a finite eps >= 0, got {eps!r}")


def _affine_constants(
    weight: Tensor | None, bias: Tensor | None, x: Tensor, y_grid: Grid
) -> tuple[Tensor, Tensor, int]:
    """gain, offset (int64 [C]) on one shift, the largest for which both stay in range."""
    channels = x.shape[-1]
    gain = torch.ones(channels, dtype=torch.float64, device=x.device)
    if weight is not None:
        gain = weight.double()
    offset = torch.zeros_like(gain) if bias is None else bias.double()
    gain, offset = gain / y_grid.scale, offset / y_grid.scale
    gain_max, offset_max = torch.stack([gain.abs().amax(), offset.abs().amax()]).tolist()
    for shift in range(62, 0, -1):  # rounding is monotone: the largest magnitudes decide for all
        if round(gain_max * 2.0 ** (shift - 16)) < 2**31 and round(offset_max * 2.0**shift) < 2**61:
            return (
                torch.round(gain * 2.0 ** (shift - 16)).long(),
                torch.round(offset * 2.0**shift).long(),
                shift,
            )
    raise RuntimeError(
        f"layer_norm: expected |weight| / y_scale < 2^46 and |bias| / y_scale < 2^60, "
        f"got {gain_max!r} and {offset_max!r}"
    )


def body(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    x_quant_min: int,
    x_quant_max: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    rms: bool,
    y_scale: Tensor,
    y_zero_point: Tensor,
    y_quant_min: int,
    y_quant_max: int,
) -> Tensor:
    x_edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    y_edge = Edge(y_scale, y_zero_point, y_quant_min, y_quant_max)
    _check(x, x_edge, weight, bias, eps, y_edge)
    x_grid, y_grid = read_grids("layer_norm", x_edge, y_edge)
    reject_nan("layer_norm", x=x)
    reject_nonfinite("layer_norm", weight=weight, bias=bias)
    channels = x.shape[-1]
    epsilon = float(channels * channels) * eps / (x_grid.scale * x_grid.scale)
    if epsilon > _EPSILON_MAX:
        raise RuntimeError(f"layer_norm: expected channels^2 * eps / x_scale^2 <= 2^61, got {epsilon!r}")
    gain, offset, shift = _affine_constants(weight, bias, x, y_grid)

    centred = recover(x, x_edge, x_grid)  # LayerNorm does not see the zero point, RMSNorm wants it gone
    square = channels * (centred * centred).sum(dim=-1, keepdim=True)
    numerator = channels * centred
    if not rms:
        total = centred.sum(dim=-1, keepdim=True)
        square = square - total * total
        numerator = numerator - total
    wide = (square + round(epsilon)).clamp(min=1)
    k = (63 - bit_length(wide) + 1) & ~1  # clz64, rounded down to even
    root = floor_sqrt_shifted(wide, k)
    inverse = torch.div(1 << 62, root, rounding_mode="floor").clamp(max=2**31 - 1)
    z = rnu(numerator, inverse, 46 - torch.div(k, 2, rounding_mode="floor"))
    return dequantize(saturate(shift_round(z * gain + offset, shift), y_grid), y_edge)


def _fake(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    x_quant_min: int,
    x_quant_max: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    rms: bool,
    *y_grid: Any,
) -> Tensor:
    x_edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    _check(x, x_edge, weight, bias, eps, Edge(*y_grid))
    return new_edge_like(x, x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias = inputs[0], inputs[5], inputs[6]
    ctx.eps, ctx.rms = inputs[7], inputs[8]
    y_scale, y_zero_point, ctx.quant_min, ctx.quant_max = inputs[9:]
    ctx.save_for_backward(x, weight, bias, output, y_scale, y_zero_point)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias, y, scale, zero_point = ctx.saved_tensors
    needed = [ctx.needs_input_grad[i] for i in (0, 5, 6)]
    with autocast_off(grad):
        g, y_grid = inside_gradient(grad, y, Edge(scale, zero_point, ctx.quant_min, ctx.quant_max))
        if ctx.rms:
            grads = _rms_backward(g, x, weight, bias, ctx.eps)
        else:
            variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
            grads = torch.ops.aten.native_layer_norm_backward(
                g, x, [x.shape[-1]], mean, torch.rsqrt(variance + ctx.eps), weight, bias, needed
            )
        grad_x, grad_weight, grad_bias = (v if want else None for v, want in zip(grads, needed, strict=True))
    return grad_x, None, None, None, None, grad_weight, grad_bias, None, None, *y_grid


def _rms_backward(
    g: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    inverse = torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + eps)
    normal = x * inverse
    gx = g if weight is None else g * weight
    grad_x = inverse * (gx - normal * (gx * normal).mean(dim=-1, keepdim=True))
    leading = list(range(x.dim() - 1))
    grad_weight = grad_bias = None
    if weight is not None:
        grad_weight = (g * normal).sum(dim=leading) if leading else g * normal
    if bias is not None:
        grad_bias = g.sum(dim=leading) if leading else g
    return grad_x, grad_weight, grad_bias


define(
    "layer_norm(Tensor x, Tensor x_scale, Tensor x_zero_point, int x_quant_min, int x_quant_max, "
    "Tensor? weight, Tensor? bias, float eps, bool rms, "
    "Tensor y_scale, Tensor y_zero_point, int y_quant_min, int y_quant_max) -> Tensor",
    body,
    _fake,
    _setup_context,
    _backward,
)
