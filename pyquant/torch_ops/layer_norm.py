"""``pyquant::layer_norm``: LayerNorm and RMSNorm in integers over the last axis (``layernorm.h``).

The gradient is that of the float function, whatever the method; with `approximate_gradient` the mean and the
reciprocal deviation in its formula are those that the method computes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
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
    reject_nonfinite,
    saturate,
)
from .library import autocast_off, define
from .norm_methods import Layer, normalize, parse

__all__: list[str] = []

_CHANNELS_MAX = 32767


def check(
    x: Tensor,
    x_edge: Edge,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    method: str,
    x_range: Tensor | None,
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
    parse(method)
    if x_range is not None:
        check_float("layer_norm", "x_range", x_range, x)
        if x_range.shape != (2, x.shape[-1]):
            raise RuntimeError(f"layer_norm: expected x_range (2, {x.shape[-1]}), got {tuple(x_range.shape)}")


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
    method: str,
    x_range: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor,
    y_quant_min: int,
    y_quant_max: int,
    approximate_gradient: bool = False,
) -> Tensor:
    x_edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    y_edge = Edge(y_scale, y_zero_point, y_quant_min, y_quant_max)
    check(x, x_edge, weight, bias, eps, method, x_range, y_edge)
    x_grid, y_grid = read_grids("layer_norm", x_edge, y_edge)
    reject_nan("layer_norm", x=x)
    reject_nonfinite("layer_norm", weight=weight, bias=bias)
    layer = Layer(weight, bias, eps, rms, x_grid.scale, y_grid.scale, x_range)
    y = normalize(parse(method), recover(x, x_edge, x_grid), layer)
    return dequantize(saturate(y, y_grid), y_edge)


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
    method: str,
    x_range: Tensor | None,
    *rest: Any,
) -> Tensor:
    x_edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    check(x, x_edge, weight, bias, eps, method, x_range, Edge(*rest[:4]))
    return new_edge_like(x, x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias = inputs[0], inputs[5], inputs[6]
    ctx.eps, ctx.rms, ctx.method = inputs[7:10]
    y_scale, y_zero_point, ctx.quant_min, ctx.quant_max, ctx.approximate = inputs[11:]
    ctx.x_range = inputs[3:5]
    extra = (*inputs[1:3], inputs[10]) if ctx.approximate else ()
    ctx.save_for_backward(x, weight, bias, output, y_scale, y_zero_point, *extra)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias, y, scale, zero_point, *extra = ctx.saved_tensors
    needed = [ctx.needs_input_grad[i] for i in (0, 5, 6)]
    edge = Edge(scale, zero_point, ctx.quant_min, ctx.quant_max)
    size, learn = [x.shape[-1]], ctx.needs_input_grad[11]

    with autocast_off(grad):
        if ctx.approximate:
            *x_grid, x_range = extra
            mean, inverse = torch.ops.pyquant.layer_norm_statistics(
                x, *x_grid, *ctx.x_range, ctx.eps, ctx.rms, ctx.method, x_range
            )
            g, y_grid = output_gradient(
                grad, y, edge, learn, lambda: _affine((x - mean) * inverse, weight, bias)
            )
            if ctx.rms:
                grads = _rms_backward(g, x, weight, bias, inverse)
            else:
                grads = torch.ops.aten.native_layer_norm_backward(
                    g, x, size, mean, inverse, weight, bias, needed
                )
        elif ctx.rms:
            inverse = torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + ctx.eps)
            g, y_grid = output_gradient(grad, y, edge, learn, lambda: _affine(x * inverse, weight, bias))
            grads = _rms_backward(g, x, weight, bias, inverse)
        else:
            # With the result, mean and variance cost a quarter of what var_mean takes for them.
            real, mean, inverse = torch.native_layer_norm(x, size, weight, bias, ctx.eps)
            g, y_grid = output_gradient(grad, y, edge, learn, lambda: real)
            grads = torch.ops.aten.native_layer_norm_backward(g, x, size, mean, inverse, weight, bias, needed)
        grad_x, grad_weight, grad_bias = (v if want else None for v, want in zip(grads, needed, strict=True))
    return grad_x, None, None, None, None, grad_weight, grad_bias, None, None, None, None, *y_grid, None


def _affine(normal: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = normal if weight is None else normal * weight
    return scaled if bias is None else scaled + bias


def _rms_backward(
    g: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, inverse: Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None]:
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
    "Tensor? weight, Tensor? bias, float eps, bool rms, str method, Tensor? x_range, "
    "Tensor y_scale, Tensor y_zero_point, int y_quant_min, int y_quant_max, "
    "bool approximate_gradient=False) -> Tensor",
    body,
    _fake,
    _setup_context,
    _backward,
)
