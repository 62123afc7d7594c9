"""The first values of an edge, for quantizers that begin with data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pyquant.observers.base import keep_dtypes

__all__ = ["FirstValues"]

CAPACITY = 2**18


class FirstValues(nn.Module):
    """Whole samples (entries of the first axis) of the first batches, until `CAPACITY` values are there.

    Batches whose other axes have other sizes than the first one's are passed by. No part of a state dict:
    quantizers are, which began with it.

    Attributes
    ----------
    values : Tensor
        float32, of the shape of a batch; empty before.
    """

    values: Tensor
    mergeable = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(0), persistent=False)

    @property
    def empty(self) -> bool:
        """True until something was seen."""
        return self.values.numel() == 0

    def forward(self, x: Tensor) -> None:
        """Take in one batch."""
        with torch.no_grad():
            x = x.detach().to(torch.float32)
            x = x.reshape(1) if x.dim() == 0 else x
            if x.numel() == 0 or not (self.empty or x.shape[1:] == self.values.shape[1:]):
                return
            sample = math.prod(x.shape[1:])
            have = 0 if self.empty else self.values.shape[0]
            room = max(1, CAPACITY // sample) - have
            if room > 0:
                taken = x[:room]
                self.values = taken.clone() if have == 0 else torch.cat([self.values, taken])

    def reset(self) -> None:
        """Forget everything."""
        self.values = self.values.new_zeros(0)

    def merge(self, other: object) -> None:
        """Refuse: which values are the first depends on the order of batches.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(
            "its quantizer begins with the first batches, which are others on each process; calibrate in one "
            "process, or choose a quantizer that begins with a range"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        keep_dtypes(fn, super()._apply, recurse)
        return self
