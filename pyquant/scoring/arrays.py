"""Tensors of a graph as the metrics take them: float32 in host memory, one sample after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyquant.graph.streams import Shape

__all__ = ["samples_of"]


def samples_of(value: Tensor, shape: Shape) -> NDArray[Any]:
    """float32 [samples, rest]; a value without a batch is one sample.

    Where an axis holds c entries for each sample (heads or windows folded into the batch), the sample is the
    outer index.
    """
    x = value.detach().to("cpu", torch.float32)
    axis, count = 0, x.shape[0] if x.dim() else 1
    if shape is not None and len(shape) == x.dim():
        batched = [i for i, size in enumerate(shape) if size < 0]
        axis = batched[0] if batched else 0
        count = x.shape[axis] // -shape[axis] if batched else 1
    if axis > 0:
        x = x.movedim(axis, 0)
    return np.ascontiguousarray(x.reshape(count, -1).numpy())
