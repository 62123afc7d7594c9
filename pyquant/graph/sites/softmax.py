"""softmax over the last axis by itself; inside attention it is a sub-site of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx

from pyquant.graph.aten import aten, batch_factor, int_argument, is_float, node_argument, uses
from pyquant.graph.capture import Captured
from pyquant.graph.grid import Edge, qparams_of
from pyquant.graph.sites.base import Match, Site, register
from pyquant.numerics import derive_softmax

if TYPE_CHECKING:
    from pyquant.graph.lower import Lowering


@register
class SoftmaxSite(Site):
    """`aten.softmax.int`, `aten._softmax`, by the method of the configuration's `softmax`."""

    kind = "softmax"
    method = "softmax"
    takes_wide = (True,)
    gives_wide = True

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """Float rows. Kernels read rows as they lie; along another axis they would have to be gathered."""
        if not uses(node, aten.softmax.int, aten._softmax.default):
            return None
        x, axis = node_argument(node, 0), int_argument(node, 1)
        rank = x.meta["val"].dim()
        if not is_float(x):
            return "a softmax of integers"
        if rank == 0 or axis % rank != rank - 1:
            return f"a softmax over axis {axis} of {rank}; integer rows lie along the last one"
        if batch_factor(x.meta["val"].shape[-1]) is not None:
            return "a softmax over the batch"
        if node.meta["val"].dtype != x.meta["val"].dtype:
            return f"a softmax of {x.meta['val'].dtype} that gives {node.meta['val'].dtype}"
        return Match((x,), (), "softmax")

    def real(self, x: Edge) -> Tensor:
        """Float softmax."""
        return torch.softmax(x[0], dim=-1)

    def integer(self, x: Edge) -> Tensor:
        """softmax_rows."""
        y: Tensor = torch.ops.pyquant.softmax(
            *self.grid(0, x), self.config.softmax, *self.y_grid, self.approximate_gradient
        )
        return y

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One SOFTMAX over the rows as they lie."""
        layout, x = to.rows(to.operand(node.args[0]))
        grid = qparams_of(self.output)
        constants = derive_softmax(self.config.softmax, to.grid_of(layout), grid, abs(layout.shape[-1]))
        to.put(node, layout.onto(to.builder.softmax(x, constants, grid, name=self.name)))
