"""Scales of weights that calibration chooses and then keeps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["WEIGHT_SCALES", "absmax_weight_scale", "mse_weight_scale", "omse_weight_scale"]

_REFINEMENTS = 20  # codes of real weights no longer change after about five


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
        return mse_weight_scale(_in_groups(weight, group_size), bits, steps).reshape(weight.shape[0], -1)
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


def omse_weight_scale(weight: Tensor, bits: int, steps: int = 100, group_size: int = 0) -> Tensor:
    """As `mse_weight_scale`, refined to a local optimum: never worse than it.

    From the best of its candidates on, two steps alternate, each of which can only lower the squared error:
    the codes that are nearest for the scale, and the scale that is best for the codes, <w, q> / <q, q>.

    Parameters
    ----------
    weight, bits, steps, group_size
        As for `mse_weight_scale`.

    References
    ----------
    Kravchik et al., arXiv 1902.06822, the optimal MSE quantization of a kernel; the alternation is that of
    Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (1982), for levels
    that are multiples of one scale.
    """
    if group_size > 0:
        return omse_weight_scale(_in_groups(weight, group_size), bits, steps).reshape(weight.shape[0], -1)
    high = 2 ** (bits - 1) - 1
    rows = weight.detach().reshape(weight.shape[0], -1).to(torch.float32)
    best = mse_weight_scale(rows, bits, steps)
    codes, least = _nearest(rows, best, high)
    scale = best
    for _ in range(_REFINEMENTS):
        exact = codes.double()
        norm = exact.square().sum(dim=1)
        fitted = (rows.double() * exact).sum(dim=1) / torch.where(norm > 0, norm, torch.ones_like(norm))
        fitted = torch.where((norm > 0) & (fitted > 0), fitted, scale.double())
        scale = fitted.to(torch.float32).clamp(2.0**-100, 2.0**100)
        codes, error = _nearest(rows, scale, high)
        better = error < least
        if not bool(better.any()):
            break
        best, least = torch.where(better, scale, best), torch.where(better, error, least)
    return best


def _in_groups(weight: Tensor, group_size: int) -> Tensor:
    """[n * groups, group_size], filled up with zeros, which cost no error."""
    n, k = weight.shape
    groups = -(-k // group_size)
    padded = torch.nn.functional.pad(weight.detach(), (0, groups * group_size - k))
    return padded.reshape(n * groups, group_size)


def _nearest(rows: Tensor, scale: Tensor, high: int) -> tuple[Tensor, Tensor]:
    """(codes [n, k], squared error [n] in float64)."""
    codes = torch.clamp(torch.round(rows / scale[:, None]), -high, high)
    return codes, (codes * scale[:, None] - rows).double().square().sum(dim=1)


#: The setting ``weight_observer`` -> how its scales are chosen: (weight, bits, group_size=).
WEIGHT_SCALES: dict[str, Callable[..., Tensor]] = {"mse": mse_weight_scale, "omse": omse_weight_scale}
