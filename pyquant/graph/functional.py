"""Float functions that a pass recognises and ATen has no single operator for."""

from __future__ import annotations

import torch

__all__ = ["quick_gelu"]


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    """x * sigmoid(1.702 x), the GELU of CLIP and of I-ViT's ShiftGELU."""
    return x * torch.sigmoid(1.702 * x)
