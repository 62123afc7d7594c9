"""index: IndexSoftmax of IntAttention, a table of few entries (arXiv 2511.21513)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .method import UINT32_MAX, SoftmaxMethod, floor_divide

__all__ = ["Index"]


class Index(SoftmaxMethod):
    """``E = rne(255 e^(-clip u / (2^bits - 1)))``, the last 0; ``P = round(255 E / sum)``, ``L = 255``."""

    pmax = 255
    sum_limit = UINT32_MAX // 512

    def __init__(self, bits: int, clip: float) -> None:
        self.last, self.clip = (1 << bits) - 1, clip
        self.per_nat = self.last / clip

    def exponentials(self, u: Tensor) -> Tensor:
        """The table."""
        table = [round(255.0 * math.exp(-self.clip * i / self.last)) for i in range(self.last)] + [0]
        return torch.tensor(table)[u.clamp(max=self.last)]

    def weights(self, e: Tensor, total: Tensor) -> Tensor:
        """Rounded half up."""
        return floor_divide(510 * e + total, 2 * total)

    def divisor(self, total: Tensor) -> Tensor:
        """255."""
        return total * 0 + 255

    def weights_most(self, keys: int) -> int:
        """Each of them half a unit more."""
        return 255 + keys // 2

    def divisor_most(self, keys: int) -> int:
        """L itself."""
        return 255
