"""iptq, qflash and sole: exponentials by shifts, of which the weights are those exponentials."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyquant.torch_ops.integer import bit_length

from .method import SoftmaxMethod, log2e

__all__ = ["Iptq", "QFlash", "Sole"]

_TOP_CODE = 14
_AMPLITUDE = 12


class Iptq(SoftmaxMethod):
    """2^(-1.4453 x) with a straight line on each octave; after IPTQ-ViT (arXiv 2511.15369), our reading."""

    def __init__(self, bits: int, fraction: int) -> None:
        self.bits, self.fraction = bits, fraction
        self.per_nat = 2.0**fraction
        self.pmax = 1 << bits

    def exponentials(self, u: Tensor) -> Tensor:
        """``log2(e)`` as 1 + 1/2 - 1/16 + 1/128."""
        x = log2e(u) - ((-u) >> 7)
        q = x >> self.fraction
        r = x & ((1 << self.fraction) - 1)
        line = (((2 << self.fraction) - r) << self.bits) >> (self.fraction + 1)
        return line >> q.clamp(max=62)


class QFlash(SoftmaxMethod):
    """QFlash's shift exp2 (arXiv 2604.25306): ``e = ((-r >> 1) + S) >> q``, then to `bits` bits."""

    def __init__(self, bits: int, fraction: int) -> None:
        self.fraction = fraction
        self.per_nat = math.log2(math.e) * 2.0**fraction
        self.pmax = (1 << bits) - 1

    def exponentials(self, u: Tensor) -> Tensor:
        """Octaves are exact: the score is in units of log2."""
        q = u >> self.fraction
        r = (u & ((1 << self.fraction) - 1)) << (_AMPLITUDE - self.fraction)
        e = (((-r) >> 1) + (1 << _AMPLITUDE)) >> q.clamp(max=62)
        return (2 * e * self.pmax + (1 << _AMPLITUDE)) >> (_AMPLITUDE + 1)


class Sole(SoftmaxMethod):
    """SOLE's E2Softmax (arXiv 2510.17189): codes of 4 bits, and a division to two values an octave."""

    pmax = 1 << _TOP_CODE

    def __init__(self, fraction: int) -> None:
        self.fraction = fraction
        self.per_nat = 2.0**fraction

    def exponentials(self, u: Tensor) -> Tensor:
        """A power of two, or 0."""
        k = (log2e(u) + (1 << (self.fraction - 1))) >> self.fraction
        return torch.where(k <= _TOP_CODE, 1 << (_TOP_CODE - k).clamp(min=0), 0)

    def divisor(self, total: Tensor) -> Tensor:
        """1 / 0.818 or 1 / 0.568 of the power of two below the sum, by the bit behind its first."""
        ks = bit_length(total) - 1
        upper = (total >> (ks - 1).clamp(min=0)) & (ks > 0).long()
        return ((torch.where(upper == 1, 451, 313) << ks) >> 8).clamp(min=1)

    def divisor_most(self, keys: int) -> int:
        """451 / 256 is below 2."""
        return 2 * self.weights_most(keys)
