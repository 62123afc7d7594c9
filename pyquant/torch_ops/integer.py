"""The integer primitives on int64 tensors: dyadic numbers, rounding shifts, bit length, square root.

They are the definitions of ``csrc/include/pyquant/rnu.h`` and ``derive.h``; everything is exact on
any device, because torch's int64 arithmetic and arithmetic shifts are.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Dyadic", "bit_length", "dyadic", "dyadic_tensor", "floor_sqrt_shifted", "rnu", "shift_round"]

_MAX_SHIFT = 62


class Dyadic(NamedTuple):
    """A real number as ``multiplier / 2**shift``."""

    multiplier: int
    shift: int


def dyadic(op: str, real: float) -> Dyadic:
    """Encode `real` > 0; too small becomes (2^30, 62), which is 0 for every int32."""
    if not (real > 0 and math.isfinite(real)):
        raise RuntimeError(f"{op}: expected a positive finite multiplier, got {real!r}")
    fraction, exponent = math.frexp(real)
    multiplier = round(fraction * 2.0**31)
    if multiplier == 1 << 31:
        multiplier, exponent = 1 << 30, exponent + 1
    shift = 31 - exponent
    if shift < 1:
        raise RuntimeError(f"{op}: expected a multiplier below 2^30, got {real!r}")
    if shift > _MAX_SHIFT:
        return Dyadic(1 << 30, _MAX_SHIFT)
    return Dyadic(multiplier, shift)


def dyadic_tensor(op: str, real: Tensor) -> tuple[Tensor, Tensor]:
    """The same for a float64 tensor: (multiplier, shift), both int64."""
    fraction, exponent = torch.frexp(real)
    multiplier = torch.round(fraction * 2.0**31).long()
    carry = multiplier == 1 << 31
    multiplier = torch.where(carry, 1 << 30, multiplier)
    shift = 31 - exponent.long() - carry.long()
    if bool((shift < 1).any()):
        raise RuntimeError(f"{op}: expected every multiplier below 2^30, got {float(real.max())!r}")
    small = shift > _MAX_SHIFT
    return torch.where(small, 1 << 30, multiplier), torch.where(small, _MAX_SHIFT, shift)


def shift_round(value: Tensor, shift: int | Tensor) -> Tensor:
    """``(value + 2^(shift-1)) >> shift``: round half up."""
    if isinstance(shift, Tensor):
        half = torch.bitwise_left_shift(torch.ones_like(shift), shift - 1)
        return torch.bitwise_right_shift(value + half, shift)
    return (value + (1 << (shift - 1))) >> shift


def rnu(value: Tensor, multiplier: int | Tensor, shift: int | Tensor) -> Tensor:
    """``(value * multiplier + 2^(shift-1)) >> shift`` in int64."""
    return shift_round(value * multiplier, shift)


def bit_length(value: Tensor) -> Tensor:
    """Bits of nonnegative int64 values: 0 for 0, n for 2^(n-1) .. 2^n - 1."""
    length = torch.zeros_like(value)
    for step in (32, 16, 8, 4, 2, 1):
        high = value >= 1 << step
        length = length + torch.where(high, step, 0)
        value = torch.where(high, value >> step, value)
    return length + value


def floor_sqrt_shifted(value: Tensor, shift: Tensor) -> Tensor:
    """``isqrt(value << shift)`` where the shifted value lies in [2^62, 2^64), beyond int64.

    A float64 square root of it is off by less than 2^-20, so its floor by at most one; the sign of
    the exact remainder, taken in two 32-bit limbs, corrects that.
    """
    root = torch.ldexp(value.double(), shift).sqrt().floor().long()
    left = (shift - 32).clamp(min=0)
    right = (32 - shift).clamp(min=0)
    high = torch.bitwise_right_shift(torch.bitwise_left_shift(value, left), right)
    mask = torch.bitwise_left_shift(torch.ones_like(right), right) - 1
    low = torch.bitwise_left_shift(torch.bitwise_and(value, mask), shift.clamp(max=32))
    a, b = root >> 16, root & 0xFFFF
    remainder = ((high - a * a) << 32) + low - ((a * b) << 17) - b * b
    root = torch.where(remainder < 0, root - 1, root)
    return torch.where(remainder > 2 * root, root + 1, root)
