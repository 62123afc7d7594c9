"""Sums with the same bits on any device: the float32 lanes and the halving of ``fake.h``."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["halve", "round_to_integer", "sum_columns", "sum_runs"]

_LANES, _TERMS, _ROWS = 16, 32, 32
_MAGIC = 12582912.0  # 1.5 * 2^23


def round_to_integer(v: Tensor) -> Tensor:
    """Half to even for ``|v| < 2^22``, as float32 and never -0."""
    return (v + _MAGIC) - _MAGIC


def halve(values: Tensor) -> Tensor:
    """Sum over the first axis: value ``i + p / 2`` is added to value ``i``, and so on."""
    count = values.shape[0]
    half = 1 << max(count - 1, 0).bit_length() >> 1
    while half > 0:
        upper = values[half:]
        values = torch.cat((values[: upper.shape[0]] + upper, values[upper.shape[0] : half]))
        half //= 2
    return values[0]


def _in_order(terms: Tensor) -> Tensor:
    """Sum over the first axis, of at least 1, one after the other, from +0."""
    total = terms[0] + 0.0
    for term in terms[1:].unbind(0):
        total = total + term
    return total


def _blocks(terms: Tensor, length: int) -> Tensor:
    """The first axis cut into pieces of `length`, the last filled up with zeros: [pieces, length, ...]."""
    missing = -terms.shape[0] % length
    if missing:
        terms = torch.cat((terms, terms.new_zeros((missing, *terms.shape[1:]))))
    return terms.reshape(-1, length, *terms.shape[1:])


def sum_runs(terms: Tensor) -> Tensor:
    """Sums of long runs: float32 [n, ...] to float64 [...]."""
    if terms.shape[0] == 0:
        return terms.new_zeros(terms.shape[1:], dtype=torch.float64)
    lanes = _blocks(_blocks(terms, _LANES), min(_TERMS, -(-terms.shape[0] // _LANES)))
    return halve(halve(_in_order(lanes.transpose(0, 1)).double().transpose(0, 1)))


def sum_columns(terms: Tensor) -> Tensor:
    """Sums of the columns of short runs: float32 [rows, ...] to float64 [...]."""
    if terms.shape[0] == 0:
        return terms.new_zeros(terms.shape[1:], dtype=torch.float64)
    blocks = _blocks(terms, min(_ROWS, terms.shape[0]))
    return halve(_in_order(blocks.transpose(0, 1)).double())
