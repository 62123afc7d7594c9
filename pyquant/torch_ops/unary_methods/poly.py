"""IPTQ-ViT's Data-aware Poly-GELU: erf or tanh as a fourth power with a flat top (arXiv:2511.15369)."""

from __future__ import annotations

from torch import Tensor

from .common import Constants, Gate, integer

__all__ = ["odd_gate"]


def odd_gate(k: Constants, v: Tensor) -> Gate:
    """1 + L; negative units make it ``-(one + L)``."""
    b, one = integer(k, "b"), integer(k, "one")
    w = (v.abs() << integer(k, "up")).clamp(max=-b) + b
    h = (w * w) >> integer(k, "square")
    odd = v.sign() * ((h * h + integer(k, "c")) >> integer(k, "n"))
    return -(one + odd), -2 * one
