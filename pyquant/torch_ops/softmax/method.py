"""What a softmax method is, in torch: the integer definition of ``pyquant/softmax.h`` on int64 tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

__all__ = ["INT32_MAX", "UINT32_MAX", "SoftmaxMethod", "log2e"]

INT32_MAX = 2**31 - 1
UINT32_MAX = 2**32 - 1


class SoftmaxMethod(ABC):
    """One method with its parameters.

    Attributes
    ----------
    per_nat : float
        Steps of the index that a score of 1 is worth.
    pmax : int
        Largest weight.
    sum_limit : int
        Sums of exponentials must not pass it.
    """

    per_nat: float
    pmax: int
    sum_limit: int = UINT32_MAX

    @abstractmethod
    def exponentials(self, u: Tensor) -> Tensor:
        """Of each distance u >= 0 from the maximum, in steps."""

    def weights(self, e: Tensor, total: Tensor) -> Tensor:
        """P from exponentials and their sum; the exponentials themselves unless a method divides."""
        return e

    def divisor(self, total: Tensor) -> Tensor:
        """L from the sum of exponentials (at least 1)."""
        return total

    def weights_most(self, keys: int) -> int:
        """A bound on the sum of a row's weights."""
        return self.pmax * keys

    def divisor_most(self, keys: int) -> int:
        """A bound on L."""
        return self.weights_most(keys)


def log2e(u: Tensor) -> Tensor:
    """u * 1.4375: x + (x >> 1) - (x >> 4) of x = -u, negated."""
    x = -u
    return -(x + (x >> 1) - (x >> 4))


def floor_divide(a: Tensor | int, b: Tensor | int) -> Tensor:
    """Floor division of integers."""
    return torch.div(torch.as_tensor(a), b, rounding_mode="floor")
