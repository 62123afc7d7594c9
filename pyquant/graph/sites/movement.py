"""concat, embedding, and the sites that the builder inserts: quantize and requantize."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from pyquant import ops
from pyquant.config import SiteConfig
from pyquant.engine.spec import Value
from pyquant.graph.aten import argument, aten, depends_on_inputs, int_argument, is_float, node_argument, uses
from pyquant.graph.capture import Captured
from pyquant.graph.grid import Edge, qparams_of
from pyquant.graph.layout import BATCH, Atom, Layout, Stored, dense_layout, quantized
from pyquant.graph.sites.base import Match, Site, register
from pyquant.numerics import derive_dyadic
from pyquant.qparams import QParams

if TYPE_CHECKING:
    from pyquant.graph.lower import Lowering


@register
class ConcatSite(Site):
    """`aten.cat`: every part is requantized to one grid; constant parts are quantized straight onto it."""

    kind = "concat"
    takes_wide = (True,)
    gives_wide = True
    quantizes_constants = True

    def __init__(self, name: str, config: SiteConfig, wide: bool, symmetric: bool, *, dim: int) -> None:
        super().__init__(name, config, wide, symmetric)
        self.dim = dim

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """Float parts."""
        if not uses(node, aten.cat.default) or not is_float(node):
            return None
        parts, dim = argument(node, 0), int_argument(node, 1)
        if not all(is_float(part) for part in parts):
            return "a concatenation with an integer part"
        return Match(tuple(parts), (), "concat", (("dim", dim % node.meta["val"].dim()),))

    def real(self, *parts: Edge) -> Tensor:
        """Float concatenation."""
        return torch.cat([part[0] for part in parts], self.dim)

    def integer(self, *parts: Edge) -> Tensor:
        """requantize each, then move."""
        moved = [
            torch.ops.pyquant.quantize(part[0], *self.y_grid)
            if part[1] is None
            else torch.ops.pyquant.requantize(*self.grid(index, part), *self.y_grid)
            for index, part in enumerate(parts)
        ]
        return torch.cat(moved, self.dim)

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """REQUANTIZE each part, then one CONCAT."""
        grid = qparams_of(self.output)
        shape = tuple(node.meta["pq_shape"])
        outer = math.prod(abs(s) for s in shape[: self.dim])
        tail = math.prod(abs(s) for s in shape[self.dim + 1 :])
        edges: Any = node.args
        parts = [self._part(to, part, grid, outer, tail) for part in edges]
        y = to.builder.concat(parts, 1, name=self.name)
        to.put(node, dense_layout(y, shape))

    def _part(self, to: Lowering, part: Any, grid: QParams, outer: int, tail: int) -> Value:
        """One part on the output grid, as [outer, length * tail]."""
        if part[1] is None:
            layout = to.constant_layout(part[0], grid)
        else:
            layout = to.operand(part)
            source = to.grid_of(layout)
            if source == grid:
                pass  # a factor of 1 moves nothing
            elif isinstance(layout.value, Stored):
                moved = ops.requantize(
                    layout.value.array,
                    **derive_dyadic(source.scale / grid.scale).keywords(),
                    x_zero_point=source.zero_point,
                    zero_point=grid.zero_point,
                    quant_min=grid.quant_min,
                    quant_max=grid.quant_max,
                    dtype=grid.dtype,
                )
                layout = layout.onto(Stored(moved, grid))
            else:
                layout, x = to.elements(layout)
                layout = layout.onto(to.builder.requantize(x, derive_dyadic(source.scale / grid.scale), grid))
        layout = to.materialise(layout)
        value = to.shaped(layout, (outer, abs(layout.shape[self.dim]) * tail))
        if not value.batched and outer > 1:
            value = to.builder.copy(value, value.shape, (value.shape[1], 1), batched=True)
        return value


@register
class EmbeddingSite(Site):
    """`aten.embedding`: rows of a table on one grid."""

    kind = "embedding"
    gives_wide = True

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """Indices from the input, a table that does not depend on it."""
        if not uses(node, aten.embedding.default):
            return None
        table, indices = node.args[:2]
        if table in depends_on_inputs(captured.graph):
            return "its table is computed from an input"
        return Match((), (table, indices), "embedding")

    def real(self, table: Tensor, indices: Tensor) -> Tensor:
        """Float rows."""
        return F.embedding(indices, table)

    def integer(self, table: Tensor, indices: Tensor) -> Tensor:
        """Quantizing rows and taking rows of the quantized table are the same."""
        y: Tensor = torch.ops.pyquant.quantize(F.embedding(indices, table), *self.y_grid)
        return y

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One GATHER."""
        grid = qparams_of(self.output)
        table = to.constant(node.args[0])
        assert table is not None
        rows = quantized(table, grid)
        index, value = to.elements(to.index(node_argument(node, 1)))
        y = to.builder.gather(value, rows, grid, name=self.name)
        width = table.shape[1]
        axes = [
            tuple(a if a == BATCH else Atom(a.size, a.stride * width) for a in axis) for axis in index.axes
        ]
        to.put(node, Layout(y, index.size * width, ()).with_axes([*axes, (Atom(width, 1),)]))


class QuantizeSite(Site):
    """Where a float value (model input, parameter, result of a float op) becomes integers."""

    kind = "quantize"
    gives_wide = True

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """Never matched: the builder inserts it."""
        return None

    def real(self, x: Tensor) -> Tensor:
        """Nothing."""
        return x

    def integer(self, x: Tensor) -> Tensor:
        """quantize_f32, and back to a float edge."""
        y: Tensor = torch.ops.pyquant.quantize(x, *self.y_grid)
        return y

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """An input of the program, or a constant."""
        grid = qparams_of(self.output)
        source = node_argument(node, 0)
        array = to.constant(source)
        if array is not None:
            to.edges[node] = dense_layout(Stored(quantized(array, grid), grid), array.shape)
        else:
            to.put(node, to.input(source, self.name, grid))


class RequantizeSite(Site):
    """A 16-bit edge narrowed for consumers that take int8 only."""

    kind = "requantize"
    takes_wide = (True,)

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """Never matched: the builder inserts it."""
        return None

    def real(self, x: Edge) -> Tensor:
        """Nothing."""
        return x[0]

    def integer(self, x: Edge) -> Tensor:
        """requantize."""
        y: Tensor = torch.ops.pyquant.requantize(*self.grid(0, x), *self.y_grid)
        return y

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One REQUANTIZE."""
        layout, x = to.elements(to.operand(node.args[0]))
        grid = qparams_of(self.output)
        factor = derive_dyadic(to.grid_of(layout).scale / grid.scale)
        to.put(node, layout.onto(to.builder.requantize(x, factor, grid, name=self.name)))
