"""Scales of weights: absmax or given, and the gradients of learned ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["LARGEST_SCALE", "SMALLEST_SCALE", "own_scales", "weight_gradients"]

SMALLEST_SCALE, LARGEST_SCALE = 2.0**-100, 2.0**100


def own_scales(op: str, weight: Tensor, given: Tensor | None, weight_max: int) -> Tensor:
    """absmax / weight_max over the last axis, or the given scales, in float64."""
    if given is not None:
        outside = given[(given < SMALLEST_SCALE) | (given > LARGEST_SCALE)]
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
    size = group_size if group_size > 0 else max(k, 1)
    padding = (0, -k % size)
    w = torch.nn.functional.pad(weight, padding).reshape(n, -1, size)
    g = torch.nn.functional.pad(grad, padding).reshape(n, -1, size)
    limit = 2 ** (bits - 1) - 1
    v = w / scale.reshape(n, -1, 1)
    inside = v.abs() < limit
    steps = torch.where(inside, torch.round(v) - v, v.clamp(-limit, limit))
    factor = 1.0 / math.sqrt(min(size, max(k, 1)) * limit)
    grad_scale = (torch.sum(g * steps, dim=-1, dtype=torch.float64) * factor).to(torch.float32)
    return torch.where(inside, g, 0.0).reshape(n, -1)[:, :k], grad_scale.reshape(scale.shape)
