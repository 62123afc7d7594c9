"""Softmax methods in torch, one a file (a file for the three that only shift): ``pyquant/softmax.h``."""

from __future__ import annotations

from .constants import SoftmaxConstants, check_method, normalizer, softmax_constants, softmax_weights
from .method import SoftmaxMethod

__all__ = [
    "SoftmaxConstants",
    "SoftmaxMethod",
    "check_method",
    "normalizer",
    "softmax_constants",
    "softmax_weights",
]
