"""fqvit: FQ-ViT's log-int-softmax, whose weights are powers of two (arXiv 2111.13824, eq. 15 to 17)."""

from __future__ import annotations

import torch
from torch import Tensor

from pyquant.torch_ops.integer import bit_length

from .ibert import polynomial_exponential
from .method import SoftmaxMethod, floor_divide

__all__ = ["FQVit"]

_TOP_CODE = 14  # 2^(14 - code) is a weight of 16 bits


class FQVit(SoftmaxMethod):
    """``t = round(sum / E)``, ``P = 2^(14 - log2 t)`` with the logarithm rounded at 1.5, ``L = 2^14``."""

    def __init__(self, bits: int, n: int, fraction: int) -> None:
        self.bits, self.n, self.fraction = bits, n, fraction
        self.per_nat = 2.0**fraction
        self.pmax = 1 << _TOP_CODE

    def exponentials(self, u: Tensor) -> Tensor:
        """I-BERT's, to 20 bits."""
        return polynomial_exponential(u, self.fraction, self.n, 2**20 - 1)

    def weights(self, e: Tensor, total: Tensor) -> Tensor:
        """Powers of two; nothing beyond the last code."""
        divisor = e.clamp(min=1)
        t = floor_divide(total + divisor // 2, divisor)
        k = bit_length(t) - 1
        half = torch.where(k > 0, 1 << (k - 1).clamp(min=0), 1)
        code = k + (t - (1 << k) >= half).long()
        kept = (e > 0) & (code <= min(_TOP_CODE, (1 << self.bits) - 1))
        return torch.where(kept, 1 << (_TOP_CODE - code).clamp(min=0), 0)

    def divisor(self, total: Tensor) -> Tensor:
        """A power of two."""
        return total * 0 + (1 << _TOP_CODE)

    def weights_most(self, keys: int) -> int:
        """``softmax.h`` derives it."""
        return 3 << _TOP_CODE

    def divisor_most(self, keys: int) -> int:
        """L itself."""
        return 1 << _TOP_CODE
