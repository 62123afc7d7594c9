"""ivit: I-ViT's Shiftmax (arXiv 2207.01405, algorithm 1)."""

from __future__ import annotations

import math

from torch import Tensor

from .method import INT32_MAX, SoftmaxMethod, floor_divide, log2e

__all__ = ["IVit", "shift_exponential"]


def shift_exponential(u: Tensor, one: int, n: int) -> Tensor:
    """2^(-1.4375 u / one) 2^n one, octaves by shifts and a straight line on each."""
    x = log2e(u).clamp(max=n * one)
    q = floor_divide(x, one)
    r = x - q * one
    return ((2 * one - r) << n) >> (q + 1)


class IVit(SoftmaxMethod):
    """``P = (E * floor((2^31 - 1) / sum)) >> (32 - bits)``, ``L = 2^(bits - 1)``."""

    sum_limit = INT32_MAX

    def __init__(self, bits: int, n: int, step: float) -> None:
        self.bits, self.n, self.one = bits, n, math.ceil(1.0 / step)
        self.per_nat = 1.0 / step
        self.pmax = (1 << (bits - 1)) - 1

    def exponentials(self, u: Tensor) -> Tensor:
        """ShiftExp."""
        return shift_exponential(u, self.one, self.n)

    def weights(self, e: Tensor, total: Tensor) -> Tensor:
        """By one reciprocal a row."""
        return (e * floor_divide(INT32_MAX, total)) >> (32 - self.bits)

    def divisor(self, total: Tensor) -> Tensor:
        """A power of two."""
        return total * 0 + (1 << (self.bits - 1))

    def weights_most(self, keys: int) -> int:
        """Floors of parts of the whole."""
        return 1 << (self.bits - 1)
