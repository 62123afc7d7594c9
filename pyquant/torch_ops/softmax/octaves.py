"""table16 and table8: 2^x by a table of 32 entries an octave (``attention.h``)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .method import INT32_MAX, SoftmaxMethod

__all__ = ["INDEX_END", "Octaves"]

INDEX_END = 480
_LARGEST = {"table16": 16383, "table8": 255}


class Octaves(SoftmaxMethod):
    """Weights are the exponentials; attention divides by their sum."""

    per_nat = math.log2(math.e) * 32.0

    def __init__(self, op: str, name: str, keys: int, vmax: int) -> None:
        limit = INT32_MAX // (vmax * max(keys, 1))
        self.pmax = min(16383, limit) if name == "table16" else _LARGEST[name]
        if not 1 <= self.pmax <= limit:
            raise RuntimeError(f"{op}: expected at most {INT32_MAX // (vmax * 255)} keys, got {keys}")

    def exponentials(self, u: Tensor) -> Tensor:
        """``(T[u & 31] + 2^h) >> (h + 1)`` with ``h = u >> 5``, and 0 from index 480 on.

        Python's and C's 2^x may differ in the last bit; the nearest 2 * pmax * 2^(-j/32) to a tie, over all
        pmax <= 16383, is 1.8e-6 away, so the rounded entries cannot.
        """
        table = torch.tensor([round(2 * self.pmax * 2.0 ** (-j / 32)) for j in range(32)])
        octave = u >> 5
        weight = (table[u & 31] + (1 << octave)) >> (octave + 1)
        return torch.where(u < INDEX_END, weight, 0)
