"""linear: y = x w^T + b, weights with a scale per output channel or per group."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from pyquant.config import SiteConfig
from pyquant.graph.aten import aten, depends_on_inputs, uses
from pyquant.graph.capture import Captured
from pyquant.graph.grid import Edge, qparams_of
from pyquant.graph.quantizers import is_integer_weight, weight_quantizer, weight_scale_of
from pyquant.graph.sites.base import Match, Site, register
from pyquant.numerics import (
    GemmConstants,
    GemmS8S4Constants,
    derive_gemm,
    derive_gemm_s8s4,
    derive_group_scale,
    derive_weight_scale,
)
from pyquant.observers import WEIGHT_SCALES, absmax_weight_scale
from pyquant.quantizers import Quantizer

if TYPE_CHECKING:
    from pyquant.graph.lower import Lowering

Array: TypeAlias = NDArray[Any]
_WEIGHT_SETTINGS = frozenset({"weight_bits", "group_size", "weight_observer"})


@register
class LinearSite(Site):
    """`aten.linear` with a weight that does not depend on the inputs."""

    kind = "linear"
    gives_wide = True
    weight_scale: Tensor | None

    def __init__(self, name: str, config: SiteConfig, wide: bool, symmetric: bool) -> None:
        super().__init__(name, config, wide, symmetric)
        self._set_scale(self._new_scale())
        self.weight_quantizer = self._new_quantizer()

    def _new_quantizer(self) -> Quantizer | None:
        text = self.config.weight_quantizer
        known = text in ("fixed", "lsq")
        return None if known else weight_quantizer(self.name, text, self.config.weight_bits)

    def _new_scale(self) -> Tensor | None:
        """Empty until calibration chooses it; absmax that is not learned has no state: it follows the
        weights. Neither has what another quantizer keeps."""
        if self.config.weight_quantizer not in ("fixed", "lsq"):
            return None
        kept = self.config.weight_observer in WEIGHT_SCALES or self.config.weight_quantizer == "lsq"
        return torch.zeros(0, dtype=torch.float32) if kept else None

    def _set_scale(self, scale: Tensor | None) -> None:
        """A new `weight_scale`: a Parameter where it is learned, else a buffer."""
        if scale is not None and self.config.weight_quantizer == "lsq":
            old = getattr(self, "weight_scale", None)
            if isinstance(old, nn.Parameter) and old.shape == scale.shape:
                with torch.no_grad():
                    old.copy_(scale)  # optimizers hold it
            else:
                self.weight_scale = nn.Parameter(scale, requires_grad=self.mode in ("weights", "quantized"))
        elif "weight_scale" in self._buffers:
            self.weight_scale = scale
        else:
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
        """gemm_s8s8 or gemm_s8s4 with weights quantized from the current parameters."""
        config = self.config
        scale = self.weight_scale
        if self.weight_quantizer is not None:
            # Multiples of the scale, which the op recovers as its integers; the gradient is the quantizer's.
            scale = weight_scale_of(self.weight_quantizer, weight)
            weight = self.weight_quantizer(weight)
        y: Tensor = torch.ops.pyquant.linear(
            *self.grid(0, x),
            weight,
            bias,
            scale,
            config.weight_bits,
            config.group_size,
            *self.y_grid,
        )
        return y

    def with_quantized_weights(self, x: Edge, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x w^ + b with w^ = s q, in float."""
        if self.weight_quantizer is not None:
            return F.linear(x[0], self.weight_quantizer(weight), bias)
        quantized = torch.ops.pyquant.quantize_weight(
            weight, self.weight_scale, self.config.weight_bits, self.config.group_size
        )
        return F.linear(x[0], quantized, bias)

    def differentiable(self, x: Edge, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Learned scales, and other quantizers, have gradients of their own."""
        learns = self.weight_quantizer is not None or isinstance(self.weight_scale, nn.Parameter)
        return self.with_quantized_weights(x, weight, bias) if learns else self.real(x, weight, bias)

    @property
    def simulate_only(self) -> tuple[tuple[str, str], ...]:
        """The weights' quantizer too."""
        quantizer = self.weight_quantizer
        fits = quantizer is None or is_integer_weight(quantizer)
        own = () if fits else (("weight_quantizer", self.config.weight_quantizer),)
        return (*super().simulate_only, *own)

    def calibrate_weights(self, *weights: Tensor) -> None:
        """Choose the scales that stay: those of least squared error, or what learned ones begin with; and the
        parameters of another quantizer, as its paper does unless weight_observer seeks the least error."""
        quantizer = self.weight_quantizer
        if quantizer is not None and not quantizer.dynamic:
            weight = weights[0].detach().to(torch.float32)
            choose = WEIGHT_SCALES.get(self.config.weight_observer)
            if choose is None or not is_integer_weight(quantizer) or quantizer.axis is None:
                quantizer.initialize(weight)
            else:
                scale, top = choose(weight, quantizer.bits), quantizer.quant_max
                quantizer.adopt(quantizer.begin(scale, torch.zeros_like(scale), -top, top))
        if self.weight_scale is not None:
            choose = WEIGHT_SCALES.get(self.config.weight_observer, absmax_weight_scale)
            bits, group_size = self.config.weight_bits, self.config.group_size
            self._set_scale(choose(weights[0].detach(), bits, group_size=group_size))

    @property
    def settings_used(self) -> frozenset[str]:
        """Those of the output grid, and of the weights."""
        return super().settings_used | _WEIGHT_SETTINGS

    def with_settings(self, settings: Mapping[str, Any], *weights: Any) -> Site:
        """As for any site; scales of weights are chosen anew where their settings change."""
        made = super().with_settings(settings, *weights)
        assert isinstance(made, LinearSite)
        if any(getattr(made.config, name) != getattr(self.config, name) for name in _WEIGHT_SETTINGS):
            made._set_scale(made._new_scale())
            made.weight_quantizer = made._new_quantizer()
            if made.weight_quantizer is not None:
                made.weight_quantizer.to(weights[0].device)
            made.calibrate_weights(*weights)
        return made

    def _copied(self) -> Site:
        """With a quantizer of its own."""
        made = super()._copied()
        assert isinstance(made, LinearSite)
        made.weight_quantizer = copy.deepcopy(self.weight_quantizer)
        return made

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *args: object) -> None:
        saved = state.get(prefix + "weight_scale")
        if saved is not None and self.weight_scale is not None and saved.shape != self.weight_scale.shape:
            self._set_scale(torch.zeros_like(saved, device=self.weight_scale.device))
        super()._load_from_state_dict(state, prefix, *args)

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One GEMM over the rows as they lie."""
        layout, x = to.rows(to.operand(node.args[0]))
        weight, bias = to.constant(node.args[1]), to.constant(node.args[2])
        assert weight is not None
        grid = qparams_of(self.output)
        constants = self._constants(weight, bias, to.grid_of(layout).scale, grid.scale)
        y = to.builder.gemm(x, constants, grid, name=self.name)
        to.put(node, layout.with_rows(y, weight.shape[0]))

    def _quantized(self, weight: Array) -> tuple[Array, Tensor | None]:
        """Weights as the op takes them, and their scales."""
        quantizer = self.weight_quantizer
        if quantizer is None:
            return weight, self.weight_scale
        given = torch.from_numpy(weight).to(quantizer.initialized.device, torch.float32)
        scale = weight_scale_of(quantizer, given)
        with torch.no_grad():
            return quantizer(given).cpu().numpy(), scale

    def _constants(
        self, weight: Array, bias: Array | None, x_scale: float, y_scale: float
    ) -> GemmConstants | GemmS8S4Constants:
        """Of weight [n, k] and bias [n]; the numbers are those of `torch.ops.pyquant.linear`."""
        bits, group_size = self.config.weight_bits, self.config.group_size
        weight, scales = self._quantized(weight)
        chosen = None if scales is None else scales.detach().cpu().numpy()
        if group_size > 0:
            groups = derive_group_scale(weight, bias, x_scale, group_size, bits, chosen)
            return derive_gemm_s8s4(weight, bias, groups, x_scale, y_scale, bits, group_size)
        scale = derive_weight_scale(weight, bias, x_scale, bits)
        if chosen is not None:
            # The bias rule still holds: a bias that int32 cannot carry widens its channel's scale.
            floor = derive_weight_scale(weight[:, :0], bias, x_scale, bits)
            scale = chosen if bias is None else np.where(bias != 0, np.maximum(chosen, floor), chosen)
        if bits <= 4:
            return derive_gemm_s8s4(weight, bias, scale, x_scale, y_scale, bits)
        return derive_gemm(weight, bias, scale, x_scale, y_scale, bits)
