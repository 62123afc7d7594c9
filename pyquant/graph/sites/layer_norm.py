"""layer_norm and rms_norm over the last axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from pyquant.config import SiteConfig
from pyquant.graph.aten import aten, uses
from pyquant.graph.capture import Captured
from pyquant.graph.grid import Edge, qparams_of
from pyquant.graph.sites.base import Match, Site, register
from pyquant.numerics import derive_layernorm

if TYPE_CHECKING:
    from pyquant.graph.lower import Lowering


@register
class LayerNormSite(Site):
    """`aten.layer_norm`, `aten.rms_norm`."""

    kind = "layer_norm"
    takes_wide = (True,)
    gives_wide = True

    def __init__(
        self,
        name: str,
        config: SiteConfig,
        wide: bool,
        symmetric: bool,
        *,
        epsilon: float,
        rms: bool,
        channels: int,
    ) -> None:
        super().__init__(name, config, wide, symmetric)
        self.epsilon, self.rms, self.channels = epsilon, rms, channels

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """Normalisation of one axis, the last."""
        if uses(node, aten.layer_norm.default):
            x, shape, weight, bias, epsilon = (*node.args, *(None, None, 1e-5)[len(node.args) - 2 :])[:5]
            rms = False
        elif uses(node, aten.rms_norm.default):
            x, shape, weight, epsilon = (*node.args, *(None, None)[len(node.args) - 2 :])[:4]
            bias, rms = None, True
            epsilon = torch.finfo(torch.float32).eps if epsilon is None else epsilon
        else:
            return None
        assert isinstance(x, fx.Node)
        assert isinstance(shape, (list, tuple))
        if len(shape) != 1:
            return f"normalisation over {len(shape)} axes"
        settings = (("epsilon", float(epsilon)), ("rms", rms), ("channels", int(shape[0])))  # type: ignore[arg-type]
        return Match((x,), (weight, bias), "rms_norm" if rms else "layer_norm", settings)

    def real(self, x: Edge, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Float normalisation."""
        if self.rms:
            return F.rms_norm(x[0], [self.channels], weight, self.epsilon)
        return F.layer_norm(x[0], [self.channels], weight, bias, self.epsilon)

    def integer(self, x: Edge, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """layernorm."""
        y: Tensor = torch.ops.pyquant.layer_norm(
            *self.grid(0, x), weight, bias, self.epsilon, self.rms, *self.y_grid
        )
        return y

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One LAYERNORM over the rows as they lie."""
        layout, x = to.rows(to.operand(node.args[0]))
        grid = qparams_of(self.output)
        constants = derive_layernorm(
            self.channels,
            to.constant(node.args[1]),
            to.constant(node.args[2]),
            self.epsilon,
            to.grid_of(layout).scale,
            grid.scale,
        )
        y = to.builder.layernorm(x, constants, grid, rms=self.rms, name=self.name)
        to.put(node, layout.onto(y))
