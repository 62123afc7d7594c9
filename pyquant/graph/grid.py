"""The state of one quantizer: a scale, a zero point, and the range they map to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pyquant.observers.base import Observer, keep_dtypes, quant_range
from pyquant.qparams import QParams

__all__ = ["Edge", "Grid", "qparams_of"]

# What a site receives for an operand: values on a grid, and that grid. The scale is None where the values are
# still float (a parameter that the site quantizes onto its own grid).
Edge: TypeAlias = tuple[Tensor, Tensor | None, Tensor | None]


class Grid(nn.Module):
    """``scale`` (float32 scalar; a Parameter where it is learned, else a buffer) and ``zero_point`` (int32
    scalar, a buffer).

    They keep their dtypes under ``.half()`` and ``.to(dtype)``. A scale of 0 means not calibrated yet.
    """

    scale: Tensor
    zero_point: Tensor
    on_grid = True  # values on the edge are integers times a scale

    def __init__(self, bits: int, symmetric: bool, learned: bool = False) -> None:
        super().__init__()
        self.bits = bits
        self.symmetric = symmetric
        self.quant_min, self.quant_max = quant_range(bits, symmetric)
        scale = torch.zeros((), dtype=torch.float32)
        if learned:
            # It wants a gradient only while its site computes in integers: DistributedDataParallel waits for
            # every parameter that does.
            self.scale = nn.Parameter(scale, requires_grad=False)
        else:
            self.register_buffer("scale", scale)
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

    def observe(self, y: Tensor) -> None:
        """See a batch during calibration, beside the site's observer; nothing here."""

    def observers(self) -> dict[str, Any]:
        """All that `observe` feeds, by name."""
        return {}

    def choose(self, observer: Observer, seen: Grid | None = None) -> Any:
        """What `adopt` takes, from what calibration saw.

        Parameters
        ----------
        seen : Grid, optional
            The one that saw calibration with `observer`, if this is a copy with other settings.
        """
        return observer.qparams(self.bits, self.symmetric)

    def adopt(self, chosen: Any) -> None:
        """Set what `choose` gave, in place."""
        self.set(chosen.scale, chosen.zero_point)

    def copied(self) -> Grid:
        """A copy with state of its own; `copy.deepcopy` takes ten times as long."""
        made = Grid(self.bits, self.symmetric, isinstance(self.scale, nn.Parameter)).to(self.scale.device)
        with torch.no_grad():
            made.scale.copy_(self.scale)
            made.zero_point.copy_(self.zero_point)
        return made

    def extra_repr(self) -> str:
        """bits, and the numbers."""
        return f"bits={self.bits}, scale={float(self.scale.detach()):.6g}, zero_point={int(self.zero_point)}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Grid:
        keep_dtypes(fn, super()._apply, recurse)
        return self


def qparams_of(grid: Grid) -> QParams:
    """The grid's numbers as a value."""
    return QParams(float(grid.scale.detach()), int(grid.zero_point), grid.quant_min, grid.quant_max)
