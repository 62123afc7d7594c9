"""NN-LUT: a straight line a segment (arXiv:2112.02191)."""

from __future__ import annotations

import torch
from torch import Tensor

from .common import Constants, integers

__all__ = ["line"]


def line(k: Constants, v: Tensor) -> Tensor:
    """The line of the last segment that has begun."""
    inner = integers(k, "start", v)[1:]
    j = torch.bucketize(v, inner, right=True)
    return integers(k, "slope", v)[j] * v + integers(k, "intercept", v)[j]
