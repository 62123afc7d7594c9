"""Tensors of a graph as the metrics take them: in host memory, one sample after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyquant.graph.streams import Pair, Shape

__all__ = ["pair_of", "samples_of"]


def samples_of(value: Tensor, shape: Shape) -> NDArray[Any]:
    """float32 or int8 [samples, rest]; a value without a batch is one sample.

    Where an axis holds c entries for each sample (heads or windows folded into the batch), the sample is the
    outer index.
    """
    x = value.detach().cpu()
    x = x.to(torch.float32) if x.is_floating_point() else x
    axis, count = 0, x.shape[0] if x.dim() else 1
    if shape is not None and len(shape) == x.dim():
        batched = [i for i, size in enumerate(shape) if size < 0]
        axis = batched[0] if batched else 0
        count = x.shape[axis] // -shape[axis] if batched else 1
    if axis > 0:
        x = x.movedim(axis, 0)
    return np.ascontiguousarray(x.reshape(count, -1).numpy())


def pair_of(pair: Pair, shape: Shape) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both streams as `samples_of`, with the elements of a sample in any order that is the same for both.

    A view of heads (batch, heads, tokens, d) into (batch, tokens, heads, d) is read as it lies in memory.
    """
    x, xq = pair.x, pair.xq
    if x.stride() == xq.stride() and shape is not None and len(shape) == x.dim() > 1 and shape[0] < 0:
        order = [0, *sorted(range(1, x.dim()), key=lambda axis: -x.stride(axis))]
        x, xq = x.permute(order), xq.permute(order)
        shape = tuple(shape[axis] for axis in order)
    return samples_of(x, shape), samples_of(xq, shape)
