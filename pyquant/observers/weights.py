"""Scales of weights that calibration chooses and then keeps."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["absmax_weight_scale", "mse_weight_scale"]


def absmax_weight_scale(weight: Tensor, bits: int, *, group_size: int = 0) -> Tensor:
    """The largest magnitude over quant_max, float32 [n], or [n, groups] with a `group_size`.

    Parameters
    ----------
    weight : Tensor
        [n, k].
    bits : int
        Symmetric, narrow range.
    group_size : int
        Weights that share a scale; 0 is all of a channel. The last group may be short.
    """
    n, k = weight.shape
    size = group_size if group_size > 0 else max(k, 1)
    padded = torch.nn.functional.pad(weight.detach().to(torch.float32), (0, -k % size))
    rows = padded.reshape(n, -1, size)
    top = rows.abs().amax(dim=-1) / (2 ** (bits - 1) - 1) if rows.numel() else rows.new_ones(n, 1)
    scale = torch.where(top > 0, top, torch.ones_like(top)).clamp(2.0**-100, 2.0**100)
    return scale if group_size > 0 else scale.reshape(n)


def mse_weight_scale(weight: Tensor, bits: int, steps: int = 100, group_size: int = 0) -> Tensor:
    """Per-output-channel scale of least squared error, float32 [n], or [n, groups] with a `group_size`.

    Parameters
    ----------
    weight : Tensor
        [n, k].
    bits : int
        Symmetric, narrow range.
    steps : int
        Candidates between 0.2 and 1 of the channel's absmax / quant_max; the first one that is best is taken.
    group_size : int
        Weights that share a scale; 0 is all of a channel. The last group may be short.
    """
    if group_size > 0:
        n, k = weight.shape
        groups = -(-k // group_size)
        padded = torch.nn.functional.pad(weight.detach(), (0, groups * group_size - k))  # zeros cost no error
        return mse_weight_scale(padded.reshape(n * groups, group_size), bits, steps).reshape(n, groups)
    high = 2 ** (bits - 1) - 1
    rows = weight.detach().reshape(weight.shape[0], -1).to(torch.float32)
    top = rows.abs().amax(dim=1) / high if rows.shape[1] else rows.new_zeros(rows.shape[0])
    top = torch.where(top > 0, top, torch.ones_like(top))
    best, least = top.clone(), torch.full_like(top, float("inf"), dtype=torch.float64)
    for factor in torch.linspace(1.0, 0.2, steps).tolist():
        scale = top * factor
        codes = torch.clamp(torch.round(rows / scale[:, None]), -high, high)
        error = (codes * scale[:, None] - rows).double().square().sum(dim=1)
        better = error < least
        best, least = torch.where(better, scale, best), torch.where(better, error, least)
    return best.clamp(2.0**-100, 2.0**100)
