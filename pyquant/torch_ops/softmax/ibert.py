"""ibert: I-BERT's polynomial exponential and its short reciprocal (arXiv 2101.01321, algorithm 3)."""

from __future__ import annotations

import math

from torch import Tensor

from .method import UINT32_MAX, SoftmaxMethod, floor_divide

__all__ = ["IBert", "polynomial_exponential"]

_A, _B, _LN2 = 0.35815147, 0.96963238, 0.6931  # of the released code


def polynomial_exponential(u: Tensor, fraction: int, n: int, top: int) -> Tensor:
    """exp(-u / 2^fraction) by octaves and a quadratic, scaled so that u = 0 gives `top`."""
    steps = 2.0**fraction
    ln2, b, c = math.ceil(_LN2 * steps), math.floor(_B / _A * steps), math.floor(steps * steps / _A)
    x = u.clamp(max=n * ln2)
    q = floor_divide(x, ln2)
    r = x - q * ln2
    z = r * r - b * r + c
    whole = c << q
    return floor_divide(2 * z * top + whole, 2 * whole)


class IBert(SoftmaxMethod):
    """``P = (E * floor((2^32 - 1) / sum)) >> (32 - bits)``, ``L = 2^bits``."""

    def __init__(self, bits: int, n: int, fraction: int) -> None:
        self.bits, self.n, self.fraction = bits, n, fraction
        self.per_nat = 2.0**fraction
        self.pmax = (1 << bits) - 1

    def exponentials(self, u: Tensor) -> Tensor:
        """i-exp, requantized to 16 bits."""
        return polynomial_exponential(u, self.fraction, self.n, 2**15 - 1)

    def weights(self, e: Tensor, total: Tensor) -> Tensor:
        """By one reciprocal a row."""
        return (e * floor_divide(UINT32_MAX, total)) >> (32 - self.bits)

    def divisor(self, total: Tensor) -> Tensor:
        """A power of two."""
        return total * 0 + (1 << self.bits)

    def weights_most(self, keys: int) -> int:
        """Floors of parts of the whole."""
        return 1 << self.bits
