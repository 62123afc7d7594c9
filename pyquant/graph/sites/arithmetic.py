"""add, scale and mean: arithmetic between grids."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from pyquant.config import SiteConfig
from pyquant.graph.aten import argument, aten, batch_factor, ints_argument, is_float, node_argument, uses
from pyquant.graph.capture import Captured
from pyquant.graph.grid import Edge, qparams_of
from pyquant.graph.layout import BATCH, Atom, Layout, Stored
from pyquant.graph.normalize.elementwise import scalar_factor
from pyquant.graph.sites.base import Match, Site, register
from pyquant.numerics import derive_add, derive_dyadic

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

    def real(self, a: Edge, b: Edge) -> Tensor:
        """Float add."""
        return a[0] + b[0]

    def integer(self, a: Edge, b: Edge) -> Tensor:
        """rnu2: two terms, one rounding."""
        y: Tensor = torch.ops.pyquant.add(*self.grid(0, a), *self.grid(1, b), *self.y_grid)
        return y

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One ADD. The first operand must be computed and full-size; the second is laid out like it."""
        a, b = to.operand(node.args[0]), to.operand(node.args[1])
        shape = tuple(node.meta["pq_shape"])
        if isinstance(a.value, Stored) or (a.shape != shape and b.shape == shape):
            a, b = b, a
        a = a if a.shape == shape else a.expand(shape)
        a, x = to.elements(a)
        if isinstance(b.value, Stored):
            y = to.builder.constant(_laid_like(a, b), grid=b.value.grid)
            other = to.builder.reshape(y, x.shape) if y.shape != x.shape else y
        else:
            b = b if b.shape == shape else b.expand(shape)
            if not b.dense or a.axes != b.axes:
                a, x = to.elements(to.materialise(a))
                b = to.materialise(b)
            other = to.shaped(b, x.shape)
        grid = qparams_of(self.output)
        constants = derive_add(to.grid_of(a).scale, to.grid_of(b).scale, grid.scale)
        to.put(node, a.onto(to.builder.add(x, other, constants, grid, name=self.name)))


def _laid_like(a: Layout, b: Layout) -> npt.NDArray[Any]:
    """A constant in the shape of an edge, stored in the edge's order."""
    full = np.broadcast_to(b.array(b.value.array), [abs(size) for size in a.shape])
    atoms = full.reshape([atom.size for atom in a.atoms])
    return np.ascontiguousarray(atoms.transpose(a.physical()))


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

    def real(self, x: Edge) -> Tensor:
        """Float product."""
        return x[0] * self.factor

    def integer(self, x: Edge) -> Tensor:
        """requantize from the grid of scale * factor.

        x * factor is within 2 roundings of (q - z) * (scale * factor), so q is recovered exactly.
        """
        value, scale, zero_point, low, high = self.grid(0, x)
        assert scale is not None
        y: Tensor = torch.ops.pyquant.requantize(
            value * self.factor, scale * self.factor, zero_point, low, high, *self.y_grid
        )
        return y

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One REQUANTIZE, with float32 arithmetic on the scale as in `integer`."""
        layout, x = to.elements(to.operand(node.args[0]))
        grid = qparams_of(self.output)
        stretched = np.float32(to.grid_of(layout).scale) * np.float32(self.factor)
        factor = derive_dyadic(float(stretched) / grid.scale)
        to.put(node, layout.onto(to.builder.requantize(x, factor, grid, name=self.name)))


@register
class MeanSite(Site):
    """`aten.mean.dim` over axes that do not hold the batch."""

    kind = "mean"
    takes_wide = (True,)
    gives_wide = True

    def __init__(
        self,
        name: str,
        config: SiteConfig,
        wide: bool,
        symmetric: bool,
        *,
        dim: tuple[int, ...],
        keepdim: bool,
    ) -> None:
        super().__init__(name, config, wide, symmetric)
        self.dim, self.keepdim = list(dim), keepdim

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """At most 32,767 elements in each mean (elementwise.h)."""
        if not uses(node, aten.mean.dim) or not is_float(node):
            return None
        x, keepdim = node_argument(node, 0), argument(node, 2, False)
        rank = x.meta["val"].dim()
        axes = tuple(sorted(d % rank for d in ints_argument(node, 1))) or tuple(range(rank))
        sizes = [x.meta["val"].shape[axis] for axis in axes]
        if any(batch_factor(size) is not None for size in sizes):
            return "a mean over the batch"
        count = 1
        for size in sizes:
            count *= int(size)
        if count > 32767:
            return f"a mean of {count} elements; at most 32767 fit in 32 bits"
        return Match((x,), (), "mean", (("dim", axes), ("keepdim", bool(keepdim))))

    def real(self, x: Edge) -> Tensor:
        """Float mean."""
        return x[0].mean(self.dim, self.keepdim)

    def integer(self, x: Edge) -> Tensor:
        """mean."""
        y: Tensor = torch.ops.pyquant.mean(*self.grid(0, x), self.dim, self.keepdim, *self.y_grid)
        return y

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One MEAN over neighbouring axes; the sum does not care about their order."""
        layout = to.operand(node.args[0])
        rank = len(layout.axes)
        order = [d for d in range(rank) if d not in self.dim]
        first = next((i for i, d in enumerate(order) if d > self.dim[0]), len(order))
        order[first:first] = self.dim
        permuted = layout.permute(order)
        if not _adjacent(permuted, range(first, first + len(self.dim))) or isinstance(layout.value, Stored):
            permuted = to.materialise(permuted)
        reduced = [a for axis in permuted.axes[first : first + len(self.dim)] for a in axis]
        count = math.prod(a.size for a in reduced)
        inner = min((a.stride for a in reduced), default=1)
        x = to.shaped(permuted, (permuted.size // (count * inner), count, inner))
        grid = qparams_of(self.output)
        factor = derive_dyadic(to.grid_of(permuted).scale / (count * grid.scale))
        y = to.builder.mean(x, 1, factor, grid, name=self.name)
        block = count * inner
        kept: list[tuple[Atom, ...]] = [
            tuple(a if a == BATCH or a.stride < block else Atom(a.size, a.stride // count) for a in axis)
            for i, axis in enumerate(permuted.axes)
            if not first <= i < first + len(self.dim)
        ]
        if self.keepdim:
            for d in sorted(self.dim):
                kept.insert(d, ())
        to.put(node, Layout(y, permuted.size // count, ()).with_axes(kept))


def _adjacent(layout: Layout, axes: range) -> bool:
    """True if these axes fill one block of storage, whatever the order inside."""
    if not layout.dense:
        return False
    atoms = [a for i in axes for a in layout.axes[i]]
    step = min((a.stride for a in atoms), default=1)
    for atom in sorted(atoms, key=lambda a: a.stride):
        if atom.stride != step:
            return False
        step *= atom.size
    return True
