"""What the graph for `train()` computes and the deployed one does not: dropout, stochastic depth, and the
statistics of a batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["attention_dropout", "batch_norm", "batch_norm_correction", "drop", "stochastic_depth"]


def drop(x: Tensor, kind: str, p: float) -> Tensor:
    """`torch.nn.functional.<kind>` in training: dropout, dropout1d, alpha_dropout and the like."""
    dropped: Tensor = getattr(F, kind)(x, p, True)
    return dropped


def stochastic_depth(x: Tensor, kind: str, p: float, scaled: bool) -> Tensor:
    """Whole samples (``row``) or the whole batch (``batch``) become zero with probability p.

    Parameters
    ----------
    x : Tensor
        [batch, ..], any float dtype.
    scaled : bool
        What is kept is divided by 1 - p.

    References
    ----------
    Huang et al., Deep Networks with Stochastic Depth, arXiv 1603.09382.
    """
    shape = [x.shape[0] if kind == "row" else 1] + [1] * (x.dim() - 1)
    keep = torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(1.0 - p)
    if scaled and p < 1.0:
        keep = keep / (1.0 - p)
    return x * keep


def attention_dropout(
    y: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Tensor:
    """Dropout on the probabilities of an attention whose result `y` is already there.

    No integer attention drops single probabilities, and it need not: with P the float probabilities and M the
    random mask, y + (M P / (1 - p) - P) v has the mean y. Of a float attention it is dropout itself, and the
    gradient always is that of the float function.

    Parameters
    ----------
    y : Tensor
        [.., heads, T, d].
    q, k, v : Tensor
        [.., heads, T, d], [.., kv heads, S, d], [.., kv heads, S, d].
    mask : Tensor, optional
        Boolean (true: is seen) or additive.
    """
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], dim=-3) for x in (k, v))
    scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if is_causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        scores = scores.masked_fill(~seen, float("-inf"))
    if mask is not None and mask.dtype == torch.bool:
        # A row that sees nothing has no weight (torch's own attention, and the integer one).
        scores = scores.masked_fill(~mask, float("-inf"))
        weights = torch.softmax(scores, dim=-1).masked_fill(~mask.any(-1, keepdim=True), 0.0)
    else:
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
    return y + (F.dropout(weights, p, True) - weights) @ v


def batch_norm(
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    counter: Tensor,
    momentum: float | None,
    epsilon: float,
    path: str,
) -> Tensor:
    """Batch norm in training that was not folded: `torch.nn.functional.batch_norm` and the counter."""
    _check(x, 1, path)
    return F.batch_norm(x, mean, variance, gamma, beta, True, _factor(counter, momentum), epsilon)


def batch_norm_correction(
    y: Tensor,
    z: Tensor,
    bias: Tensor | None,
    beta: Tensor | None,
    gamma: Tensor | None,
    used: tuple[Tensor, Tensor],
    running: tuple[Tensor, Tensor, Tensor],
    momentum: float | None,
    epsilon: float,
    axis: int,
    path: str,
) -> Tensor:
    """From a layer whose batch norm is folded with the running statistics to that with those of the batch.

    Of z + bias, let m and s be mean and standard deviation over the batch, M and S the running ones. The
    folded layer gave y = gamma (z + bias - M) / S + beta, from weights that were scaled with S and do not
    move with the batch. What batch norm gives in training follows:

        S / s (y - beta) + beta + gamma (M - m) / s

    The running statistics move as `torch.nn.BatchNorm2d` moves them.

    Parameters
    ----------
    y : Tensor
        Output of the folded layer, channels on `axis`.
    z : Tensor
        Float result of the same input and the weights as they are, without bias; same layout.
    bias, beta, gamma : Tensor, optional
        [channels].
    used : (Tensor, Tensor)
        M and S^2 - epsilon that the weights were folded with.
    running : (Tensor, Tensor, Tensor)
        Buffers that change: mean, variance, count of batches.
    momentum, epsilon
        As of the batch norm.
    path : str
        Its name, for errors.

    Raises
    ------
    ValueError
        One value a channel has no variance.

    References
    ----------
    Krishnamoorthi, Quantizing deep convolutional networks for efficient inference: A whitepaper,
    arXiv 1806.08342, on batch normalization: correction and freeze. There the output of the layer is
    multiplied by the same factor before its bias is added. Jacob et al., arXiv 1712.05877, section 3.2, fold
    with the statistics of a separate float layer, as `z` is.
    """
    count = _check(z, axis, path)
    wide = torch.promote_types(z.dtype, torch.float32)
    axes = [i for i in range(z.dim()) if i != axis % z.dim()]
    shape = [1] * z.dim()
    shape[axis % z.dim()] = -1
    variance, mean = torch.var_mean(z.to(wide), dim=axes, correction=0)
    with torch.no_grad():
        factor = _factor(running[2], momentum)
        whole = mean if bias is None else mean + bias
        running[0].lerp_(whole.to(running[0].dtype), factor)
        running[1].lerp_((variance * (count / (count - 1))).to(running[1].dtype), factor)
    old_mean, old_variance = (statistic.to(wide) for statistic in used)
    inverse = torch.rsqrt(variance + epsilon)
    ratio = torch.sqrt(old_variance + epsilon) * inverse
    shift = (old_mean - mean if bias is None else old_mean - bias - mean) * inverse
    if gamma is not None:
        shift = shift * gamma
    values = y.to(wide)
    if beta is None:
        corrected = torch.addcmul(shift.view(shape), values, ratio.view(shape))
    else:
        corrected = (values - beta.view(shape)) * ratio.view(shape) + (shift + beta).view(shape)
    return corrected.to(y.dtype)


def _check(x: Tensor, axis: int, path: str) -> int:
    """Values a channel."""
    channels = x.shape[axis]
    count = x.numel() // max(channels, 1)
    if count < 2:
        raise ValueError(
            f"batch norm {path!r}: expected more than one value a channel in train(), got {tuple(x.shape)}; "
            "use a larger batch, or freeze_batch_norm"
        )
    return count


def _factor(counter: Tensor, momentum: float | None) -> float:
    """How far running statistics move, after the batch is counted."""
    with torch.no_grad():
        counter.add_(1)
    return 1.0 / float(counter) if momentum is None else momentum
