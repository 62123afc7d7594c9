"""I-ViT: exp by shifts, and the sigmoid of ShiftGELU (arXiv:2207.01405), element by element."""

from __future__ import annotations

from torch import Tensor

from .common import Constants, Gate, integer, scaled, split_exponent

__all__ = ["exp", "sigmoid_gate"]


def _times_log2_e(t: Tensor) -> Tensor:
    return t + (t >> 1) - (t >> 4)


def _exp2(k: Constants, t: Tensor) -> Tensor:
    unit = integer(k, "unit")
    z, p = split_exponent(t, unit)
    return scaled(p + 2 * unit, integer(k, "shift") - 1 - z)


def exp(k: Constants, v: Tensor) -> Tensor:
    """ShiftExp."""
    return _exp2(k, _times_log2_e(v << integer(k, "up")))


def sigmoid_gate(k: Constants, v: Tensor) -> Gate:
    """exp(t - m) / (exp(t - m) + exp(-m)) with m = max(t, 0) of each element, not of its row."""
    least = -integer(k, "clip") * integer(k, "unit")
    bits, division = integer(k, "bits"), integer(k, "division")
    t = v << integer(k, "up")
    most = t.clamp(min=0)
    e = _exp2(k, _times_log2_e(t - most).clamp(min=least))
    total = e + _exp2(k, _times_log2_e(-most).clamp(min=least))
    return (e * (((1 << division) - 1) // total)) >> (division - bits + 1), 1 << (bits - 1)
