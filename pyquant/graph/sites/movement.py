"""concat, embedding, and the sites that the builder inserts: quantize and requantize."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from pyquant.config import SiteConfig
from pyquant.graph.aten import aten, depends_on_inputs, is_float, uses
from pyquant.graph.capture import Captured
from pyquant.graph.grid import Edge
from pyquant.graph.sites.base import Match, Site, register

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
        parts = node.args[0]
        assert isinstance(parts, (list, tuple))
        dim = int(node.args[1]) if len(node.args) > 1 else 0  # type: ignore[arg-type]
        if not all(is_float(part) for part in parts):
            return "a concatenation with an integer part"
        return Match(tuple(parts), (), "concat", (("dim", dim % node.meta["val"].dim()),))

    def real(self, *parts: Edge) -> Tensor:
        """Float concatenation."""
        return torch.cat([part[0] for part in parts], self.dim)

    def integer(self, *parts: Edge) -> Tensor:
        """requantize each, then move."""
        moved = [
            torch.ops.pyquant.quantize(part[0], *self.y_grid) if part[1] is None
            else torch.ops.pyquant.requantize(*self.grid(index, part), *self.y_grid)
            for index, part in enumerate(parts)
        ]
        return torch.cat(moved, self.dim)

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """REQUANTIZE each part, then one CONCAT."""
        to.concat(self, node)


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

    def real(self, table: Tensor, indices: Tensor) -> Tensor:  # type: ignore[override]
        """Float rows."""
        return F.embedding(indices, table)

    def integer(self, table: Tensor, indices: Tensor) -> Tensor:  # type: ignore[override]
        """Quantizing rows and taking rows of the quantized table are the same."""
        return torch.ops.pyquant.quantize(F.embedding(indices, table), *self.y_grid)

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One GATHER."""
        to.embedding(self, node)


class QuantizeSite(Site):
    """Where a float value (model input, parameter, result of a float op) becomes integers."""

    kind = "quantize"
    gives_wide = True

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """Never matched: the builder inserts it."""
        return None

    def real(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Nothing."""
        return x

    def integer(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """quantize_f32, and back to a float edge."""
        return torch.ops.pyquant.quantize(x, *self.y_grid)

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """An input of the program, or a constant."""
        to.quantize(self, node)


class RequantizeSite(Site):
    """A 16-bit edge narrowed for consumers that take int8 only."""

    kind = "requantize"
    takes_wide = (True,)

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """Never matched: the builder inserts it."""
        return None

    def real(self, x: Edge) -> Tensor:  # type: ignore[override]
        """Nothing."""
        return x[0]

    def integer(self, x: Edge) -> Tensor:  # type: ignore[override]
        """requantize."""
        return torch.ops.pyquant.requantize(*self.grid(0, x), *self.y_grid)

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One REQUANTIZE."""
        to.requantize(self, node)
