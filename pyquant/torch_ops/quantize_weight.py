"""``pyquant::quantize_weight``: weights as their integers stand for them, in float.

For the stage of training between float and integers. The scales are the given ones, or absmax / quant_max
of each row or group. ``pyquant::linear`` uses these too, save for what int32 accumulators and groups ask for:
a scale that a large bias raises, and scales of groups that are multiples of the row's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyquant.qparams import SCALE_MAX, SCALE_MIN

from .grid import check_float, reject_nan, reject_nonfinite
from .library import autocast_off, define
from .weight_scales import own_scales, weight_gradients

__all__: list[str] = []


def _check(weight: Tensor, weight_scale: Tensor | None, weight_bits: int, group_size: int) -> None:
    check_float("quantize_weight", "weight", weight)
    if weight.dim() != 2:
        raise RuntimeError(f"quantize_weight: expected weight (n, k), got {tuple(weight.shape)}")
    if not 2 <= weight_bits <= 8:
        raise RuntimeError(f"quantize_weight: expected weight_bits in [2, 8], got {weight_bits}")
    if group_size < 0:
        raise RuntimeError(f"quantize_weight: expected group_size >= 0, got {group_size}")
    n, k = weight.shape
    shape = (n,) if group_size == 0 else (n, -(-k // group_size))
    if weight_scale is not None:
        check_float("quantize_weight", "weight_scale", weight_scale, weight)
        if tuple(weight_scale.shape) != shape:
            raise RuntimeError(
                f"quantize_weight: expected weight_scale {shape}, got {tuple(weight_scale.shape)}"
            )


def _scales(weight: Tensor, given: Tensor | None, bits: int, group_size: int) -> Tensor:
    """Float32 [n, groups]."""
    n, k = weight.shape
    size = group_size if group_size > 0 else max(k, 1)
    rows = torch.nn.functional.pad(weight, (0, -k % size)).reshape(n, -1, size)
    flat = None if given is None else given.reshape(n, -1)
    own = own_scales("quantize_weight", rows, flat, 2 ** (bits - 1) - 1)
    return torch.where(own == 0, 1.0, own).float().clamp(SCALE_MIN, SCALE_MAX)


def body(weight: Tensor, weight_scale: Tensor | None, weight_bits: int, group_size: int) -> Tensor:
    _check(weight, weight_scale, weight_bits, group_size)
    reject_nan("quantize_weight", weight_scale=weight_scale)
    reject_nonfinite("quantize_weight", weight=weight)
    k = weight.shape[1]
    size = group_size if group_size > 0 else max(k, 1)
    limit = 2 ** (weight_bits - 1) - 1
    scale = _scales(weight, weight_scale, weight_bits, group_size).repeat_interleave(size, dim=1)[:, :k]
    return torch.round(weight / scale).clamp(-limit, limit) * scale


def _fake(weight: Tensor, weight_scale: Tensor | None, weight_bits: int, group_size: int) -> Tensor:
    _check(weight, weight_scale, weight_bits, group_size)
    return torch.empty_like(weight, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    weight, weight_scale, ctx.weight_bits, ctx.group_size = inputs
    ctx.save_for_backward(*((weight, weight_scale) if ctx.needs_input_grad[1] else (None, None)))


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    weight, weight_scale = ctx.saved_tensors
    if weight_scale is None:  # absmax clips nothing
        return grad, None, None, None
    with autocast_off(grad):
        grads = weight_gradients(grad, weight, weight_scale, ctx.weight_bits, ctx.group_size)
    return *grads, None, None


define(
    "quantize_weight(Tensor weight, Tensor? weight_scale, int weight_bits, int group_size) -> Tensor",
    body,
    _fake,
    _setup_context,
    _backward,
)
