"""Scales of weights: absmax or given, and the gradients of learned ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyquant.qparams import SCALE_MAX, SCALE_MIN

__all__ = ["own_scales", "weight_gradients"]


def own_scales(op: str, weight: Tensor, given: Tensor | None, weight_max: int) -> Tensor:
    """absmax / weight_max over the last axis, or the given scales, in float64."""
    if given is not None:
        outside = given[(given < SCALE_MIN) | (given > SCALE_MAX)]
        if outside.numel() > 0:
            raise RuntimeError(f"{op}: expected weight_scale in [2^-100, 2^100], got {outside[0].item()!r}")
        return given.double()
    if weight.shape[-1] == 0:
        return torch.zeros(weight.shape[:-1], dtype=torch.float64, device=weight.device)
    return weight.abs().amax(dim=-1).double() / weight_max


def weight_gradients(
    grad: Tensor, weight: Tensor, scale: Tensor, bits: int, group_size: int
) -> tuple[Tensor, Tensor]:
    """Of weight [n, k] and of its learned scales, [n] or [n, groups]: LSQ's, as in `output_gradient`.

    The count is that of the weights that share a scale. That the scales in use may be a little larger (a
    bias, or the steps of groups, ask for it) is passed by.
    """
    n, k = weight.shape
    if weight.numel() == 0:
        return torch.zeros_like(weight), torch.zeros_like(scale)
    size = group_size if group_size > 0 else k
    padding = (0, -k % size)
    w, g = (torch.nn.functional.pad(x, padding).reshape(-1, size) for x in (weight, grad))
    limit = 2 ** (bits - 1) - 1
    centre = torch.zeros((), dtype=torch.int32, device=weight.device)
    factor = 1.0 / math.sqrt(min(size, k) * limit)
    masked, d_scale, _ = torch.ops.pyquant.fake_quantize_learned_backward(
        g, w, scale.reshape(-1), centre, 0, -limit, limit, factor
    )
    return masked.reshape(n, -1)[:, :k], d_scale.reshape(scale.shape)
