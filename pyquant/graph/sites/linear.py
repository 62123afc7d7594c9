"""linear: y = x w^T + b, weights per output channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from pyquant.config import SiteConfig
from pyquant.graph.aten import aten, depends_on_inputs, uses
from pyquant.graph.capture import Captured
from pyquant.graph.grid import Edge, qparams_of
from pyquant.graph.sites.base import Match, Site, register
from pyquant.numerics import derive_gemm, derive_weight_scale
from pyquant.observers import mse_weight_scale

if TYPE_CHECKING:
    from pyquant.graph.lower import Lowering


@register
class LinearSite(Site):
    """`aten.linear` with a weight that does not depend on the inputs."""

    kind = "linear"
    gives_wide = True
    weight_scale: Tensor | None

    def __init__(self, name: str, config: SiteConfig, wide: bool, symmetric: bool) -> None:
        super().__init__(name, config, wide, symmetric)
        # Empty until calibration chooses it; absmax has no state and follows the weights.
        scale = torch.zeros(0, dtype=torch.float32) if config.weight_observer == "mse" else None
        self.register_buffer("weight_scale", scale)

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """Weight and bias may be any expression of parameters (a slice, a folded batch norm)."""
        if not uses(node, aten.linear.default):
            return None
        x, weight, bias = (*node.args, None)[:3]
        assert isinstance(x, fx.Node)
        dynamic = depends_on_inputs(captured.graph)
        if weight in dynamic or bias in dynamic:
            return "its weight is computed from an input"
        return Match((x,), (weight, bias), "linear")

    def real(self, x: Edge, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x [.., k], weight [n, k], bias [n]."""
        return F.linear(x[0], weight, bias)

    def integer(self, x: Edge, weight: Tensor, bias: Tensor | None) -> Tensor:
        """gemm_s8s8 with weights quantized from the current parameters."""
        y: Tensor = torch.ops.pyquant.linear(
            *self.grid(0, x), weight, bias, self.weight_scale, self.config.weight_bits, *self.y_grid
        )
        return y

    def calibrate_weights(self, *weights: Tensor) -> None:
        """Choose the scale of least squared error for each channel, if the configuration asks for it."""
        if self.weight_scale is not None:
            self.weight_scale = mse_weight_scale(weights[0].detach(), self.config.weight_bits)

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *args: object) -> None:
        saved = state.get(prefix + "weight_scale")
        if saved is not None and self.weight_scale is not None and saved.shape != self.weight_scale.shape:
            self.weight_scale = torch.zeros_like(saved, device=self.weight_scale.device)
        super()._load_from_state_dict(state, prefix, *args)

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One GEMM over the rows as they lie."""
        layout, x = to.rows(to.operand(node.args[0]))
        weight, bias = to.constant(node.args[1]), to.constant(node.args[2])
        assert weight is not None
        grid, bits = qparams_of(self.output), self.config.weight_bits
        x_scale = to.grid_of(layout).scale
        scale = derive_weight_scale(weight, bias, x_scale, bits)
        if self.weight_scale is not None:
            # The bias rule still holds: a bias that int32 cannot carry widens its channel's scale.
            chosen = self.weight_scale.detach().cpu().numpy()
            floor = derive_weight_scale(weight[:, :0], bias, x_scale, bits)
            scale = chosen if bias is None else np.where(bias != 0, np.maximum(chosen, floor), chosen)
        constants = derive_gemm(weight, bias, scale, x_scale, grid.scale, bits)
        y = to.builder.gemm(x, constants, grid, name=self.name)
        to.put(node, layout.with_rows(y, weight.shape[0]))
