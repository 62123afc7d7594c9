"""What the curves share: constants by name, shifts that saturate, the split of an exponent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Constants", "Gate", "integer", "integers", "scaled", "split_exponent"]

Constants: TypeAlias = Mapping[str, int | list[int]]
Gate: TypeAlias = tuple[Tensor, int]
"""A gate's integers, and what stands for 1."""

_INT32_MAX = 2**31 - 1


def integer(k: Constants, name: str) -> int:
    """The constant of that name."""
    value = k[name]
    assert isinstance(value, int)
    return value


def integers(k: Constants, name: str, like: Tensor) -> Tensor:
    """The list of constants of that name, on the device of `like`."""
    return torch.tensor(k[name], dtype=torch.int64, device=like.device)


def scaled(z: Tensor, shift: Tensor) -> Tensor:
    """``floor(z * 2**shift)`` for z >= 0, at most 2^31 - 1, for any shift."""
    down = torch.bitwise_right_shift(z, (-shift).clamp(0, 62))
    left = shift.clamp(0, 30)
    fits = (shift < 31) & (z <= torch.bitwise_right_shift(torch.full_like(z, _INT32_MAX), left))
    up = torch.where(fits, torch.bitwise_left_shift(torch.where(fits, z, 0), left), _INT32_MAX)
    return torch.where(shift <= 0, down.clamp(max=_INT32_MAX), torch.where(z == 0, 0, up))


def split_exponent(t: Tensor, unit: int) -> tuple[Tensor, Tensor]:
    """(z, p) with ``t = p - z * unit`` and p in (-unit, 0]."""
    z = torch.div(-t, unit, rounding_mode="floor")
    return z, t + z * unit
