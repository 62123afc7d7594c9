"""The state of one quantizer: a scale, a zero point, and the range they map to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pyquant.qparams import QParams

__all__ = ["Edge", "Grid", "edge_of", "keep_dtypes", "qparams_of", "quant_range"]

# What a site receives for an operand: values on a grid, and that grid. The scale is None where the values are still
# float (a parameter that the site quantizes onto its own grid).
Edge = tuple[Tensor, Tensor | None, Tensor | None]


def quant_range(bits: int, symmetric: bool) -> tuple[int, int]:
    """(quant_min, quant_max): narrow where symmetric, so that -q exists for every q."""
    top = 2 ** (bits - 1) - 1
    return (-top, top) if symmetric else (-top - 1, top)


class Grid(nn.Module):
    """Buffers ``scale`` (float32 scalar) and ``zero_point`` (int32 scalar), which keep their dtypes under ``.half()``.

    A scale of 0 means not calibrated yet.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, bits: int, symmetric: bool) -> None:
        super().__init__()
        self.bits = bits
        self.symmetric = symmetric
        self.quant_min, self.quant_max = quant_range(bits, symmetric)
        self.register_buffer("scale", torch.zeros((), dtype=torch.float32))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32))

    @property
    def ready(self) -> bool:
        """True once a scale is set."""
        return bool(self.scale > 0)

    def set(self, scale: float, zero_point: int) -> None:
        """Set both, in place."""
        with torch.no_grad():
            self.scale.fill_(scale)
            self.zero_point.fill_(zero_point)

    def extra_repr(self) -> str:
        """bits, and the numbers."""
        return f"bits={self.bits}, scale={float(self.scale):.6g}, zero_point={int(self.zero_point)}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Grid:
        return keep_dtypes(self, fn, super()._apply, recurse)


def keep_dtypes(module: Any, fn: Callable[[Tensor], Tensor], apply: Callable[..., Any], recurse: bool) -> Any:
    """Run ``Module._apply`` so that tensors move between devices but keep their dtypes."""

    def moved(tensor: Tensor) -> Tensor:
        # A dtype change is undone from the original, not from the rounded copy.
        new = fn(tensor)
        return new if new.dtype == tensor.dtype else tensor.to(new.device)

    return apply(moved, recurse)


def qparams_of(grid: Grid) -> QParams:
    """The grid's numbers as a value."""
    return QParams(float(grid.scale), int(grid.zero_point), grid.quant_min, grid.quant_max)


def edge_of(value: Tensor, grid: Grid | None) -> Edge:
    """A value with its grid."""
    return (value, None, None) if grid is None else (value, grid.scale, grid.zero_point)
