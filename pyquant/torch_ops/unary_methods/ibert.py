"""I-BERT: erf as a parabola with a flat top, exp as a parabola over one octave (arXiv:2101.01321)."""

from __future__ import annotations

from torch import Tensor

from .common import Constants, Gate, integer, scaled, split_exponent

__all__ = ["erf_gate", "exp", "sigmoid_gate"]


def erf_gate(k: Constants, v: Tensor) -> Gate:
    """1 + erf by Algorithm 2; negative units make it ``-(one + L)``."""
    b, one = integer(k, "b"), integer(k, "one")
    w = (v.abs() << integer(k, "up")).clamp(max=-b) + b
    erf = (v.sign() * (w * w + integer(k, "c"))) >> integer(k, "n")
    return -(one + erf), -2 * one


def _exp(k: Constants, t: Tensor) -> Tensor:
    z, p = split_exponent(t, integer(k, "unit"))
    return scaled(p * (p + integer(k, "b")) + integer(k, "c"), integer(k, "shift") - z)


def exp(k: Constants, v: Tensor) -> Tensor:
    """Algorithm 3."""
    return _exp(k, v << integer(k, "up"))


def sigmoid_gate(k: Constants, v: Tensor) -> Gate:
    """1 / (1 + exp(-|x|)), or the rest to 1, rounded; ours, from the paper's exp."""
    bits = integer(k, "bits")
    t = (v.abs() << integer(k, "up")).clamp(max=integer(k, "clip") * integer(k, "unit"))
    e, one = _exp(k, -t), _exp(k, 0 * t)
    total = one + e
    over = one.where(v >= 0, e) << bits
    return (over + (total >> 1)) // total, 1 << bits
