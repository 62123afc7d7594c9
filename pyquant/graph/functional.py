"""Float functions that a pass recognises and ATen has no single operator for."""

from __future__ import annotations

from pyquant.torch_ops.unary_functions import quick_gelu

__all__ = ["quick_gelu"]
