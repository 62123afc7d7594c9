"""add, scale and mean: arithmetic between grids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx

from pyquant.config import SiteConfig
from pyquant.graph.aten import aten, batch_factor, is_float, uses
from pyquant.graph.capture import Captured
from pyquant.graph.grid import Edge
from pyquant.graph.normalize.elementwise import scalar_factor
from pyquant.graph.sites.base import Match, Site, register

if TYPE_CHECKING:
    from pyquant.graph.lower import Lowering


@register
class AddSite(Site):
    """`aten.add.Tensor` of two float tensors."""

    kind = "add"
    takes_wide = (True,)
    gives_wide = True

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """a + b with broadcasting; alpha must be 1."""
        if not uses(node, aten.add.Tensor, aten.add_.Tensor) or not is_float(node):
            return None
        a, b = node.args
        if not (isinstance(a, fx.Node) and isinstance(b, fx.Node)):
            return "adds a Python number"
        if not (is_float(a) and is_float(b)) or node.kwargs.get("alpha", 1) != 1:
            return "an add with alpha or with an integer operand"
        return Match((a, b), (), "add")

    def real(self, a: Edge, b: Edge) -> Tensor:  # type: ignore[override]
        """Float add."""
        return a[0] + b[0]

    def integer(self, a: Edge, b: Edge) -> Tensor:  # type: ignore[override]
        """rnu2: two terms, one rounding."""
        return torch.ops.pyquant.add(*self.grid(0, a), *self.grid(1, b), *self.y_grid)

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One ADD; the second operand is laid out like the first."""
        to.add(self, node)


@register
class ScaleSite(Site):
    """c * x or x / c with a positive Python number: the same integers on a stretched grid, requantized."""

    kind = "scale"
    takes_wide = (True,)
    gives_wide = True

    def __init__(self, name: str, config: SiteConfig, wide: bool, symmetric: bool, *, factor: float) -> None:
        super().__init__(name, config, wide, symmetric)
        self.factor = factor

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """Positive, finite factors."""
        found = scalar_factor(node)
        if found is None or not is_float(node) or not is_float(found[0]):
            return None
        if not 0.0 < found[1] < float("inf"):
            return f"a factor of {found[1]}"
        return Match((found[0],), (), "scale", (("factor", found[1]),))

    def real(self, x: Edge) -> Tensor:  # type: ignore[override]
        """Float product."""
        return x[0] * self.factor

    def integer(self, x: Edge) -> Tensor:  # type: ignore[override]
        """requantize from the grid of scale * factor.

        x * factor is within 2 roundings of (q - z) * (scale * factor), so q is recovered exactly.
        """
        value, scale, zero_point, low, high = self.grid(0, x)
        assert scale is not None
        return torch.ops.pyquant.requantize(
            value * self.factor, scale * self.factor, zero_point, low, high, *self.y_grid)

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One REQUANTIZE."""
        to.scale(self, node)


@register
class MeanSite(Site):
    """`aten.mean.dim` over axes that do not hold the batch."""

    kind = "mean"
    takes_wide = (True,)
    gives_wide = True

    def __init__(
        self, name: str, config: SiteConfig, wide: bool, symmetric: bool, *, dim: tuple[int, ...], keepdim: bool
    ) -> None:
        super().__init__(name, config, wide, symmetric)
        self.dim, self.keepdim = list(dim), keepdim

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """At most 32,767 elements in each mean (elementwise.h)."""
        if not uses(node, aten.mean.dim) or not is_float(node):
            return None
        x, dim, keepdim = (*node.args, *(None, False)[len(node.args) - 1:])[:3]
        assert isinstance(x, fx.Node)
        rank = x.meta["val"].dim()
        axes = tuple(sorted(int(d) % rank for d in dim)) if dim else tuple(range(rank))  # type: ignore[attr-defined]
        sizes = [x.meta["val"].shape[axis] for axis in axes]
        if any(batch_factor(size) is not None for size in sizes):
            return "a mean over the batch"
        count = 1
        for size in sizes:
            count *= int(size)
        if count > 32767:
            return f"a mean of {count} elements; at most 32767 fit in 32 bits"
        return Match((x,), (), "mean", (("dim", axes), ("keepdim", bool(keepdim))))

    def real(self, x: Edge) -> Tensor:  # type: ignore[override]
        """Float mean."""
        return x[0].mean(self.dim, self.keepdim)

    def integer(self, x: Edge) -> Tensor:  # type: ignore[override]
        """mean."""
        return torch.ops.pyquant.mean(*self.grid(0, x), self.dim, self.keepdim, *self.y_grid)

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One MEAN."""
        to.mean(self, node)
