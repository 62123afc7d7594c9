"""layer_norm and rms_norm over the last axis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from pyquant import ops
from pyquant.config import SiteConfig
from pyquant.errors import CalibrationError
from pyquant.graph.aten import aten, uses
from pyquant.graph.capture import Captured
from pyquant.graph.grid import Edge, qparams_of
from pyquant.graph.passes import recomputing
from pyquant.graph.sites.base import Match, Outcome, Site, register
from pyquant.graph.sites.integers import integers_of, on_cpu, threads
from pyquant.numerics import derive_layernorm
from pyquant.observers import ChannelRange, FirstValues, Observer

if TYPE_CHECKING:
    from pyquant.graph.lower import Lowering


@register
class LayerNormSite(Site):
    """`aten.layer_norm`, `aten.rms_norm`, by the method ``config.norm``.

    Attributes
    ----------
    x_range : Tensor or None
        float32 [2, C], the range of each channel of the input that calibration saw: only with the method
        ``ptf``, which scales channels apart. Infinite before. It is observed whatever the method, so that
        ``ptf`` can be tried on a calibrated model.
    """

    x_range: Tensor | None

    kind = "layer_norm"
    method = "norm"
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
        self.input_observer = ChannelRange(channels)
        self.register_buffer("x_range", self._new_range())

    def _new_range(self) -> Tensor | None:
        return self.input_observer.range() if self.config.norm == "ptf" else None

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
            *self.grid(0, x),
            weight,
            bias,
            self.epsilon,
            self.rms,
            self.config.norm,
            self.x_range,
            *self.y_grid,
            self.approximate_gradient,
        )
        return y

    def forward(self, *args: Any) -> Tensor:
        """Run in the site's mode; observe the input too."""
        y = super().forward(*args)  # which refuses what is not finite
        if self.mode == "observe" and not recomputing():
            self.input_observer(args[0][0])
        return y

    def observers(self) -> dict[str, Observer | ChannelRange | FirstValues]:
        """The input's channels too."""
        return {**super().observers(), "input_observer": self.input_observer}

    def calibrate_weights(self, *weights: Tensor) -> None:
        """Keep the channels' ranges."""
        self.x_range = self._new_range()

    def with_settings(self, settings: Mapping[str, Any], *weights: Any) -> Site:
        """As for any site; a method that scales channels apart takes their ranges from the observer."""
        made = super().with_settings(settings, *weights)
        assert isinstance(made, LayerNormSite)
        if made.config.norm != self.config.norm:
            made.x_range = made._new_range()
            if made.x_range is not None and bool(torch.isinf(made.x_range).any()):
                raise CalibrationError(f"site {self.name!r} has observed nothing; calibrate first")
        return made

    def outcomes(self, others: Iterable[Site], *args: Any) -> Iterator[Outcome]:
        """The operand is recovered once."""
        edge, weight, bias = args
        if self.simulated or not on_cpu(edge[0], weight, bias):
            yield from super().outcomes(others, *args)
            return
        x_grid = self.operand_grid(0, edge)
        x = integers_of(edge[0], x_grid)
        gain, offset = (None if w is None else w.detach().to(torch.float32).numpy() for w in (weight, bias))
        for other in others:
            assert isinstance(other, LayerNormSite)
            grid = qparams_of(other.output)
            constants = derive_layernorm(
                self.channels,
                gain,
                offset,
                self.epsilon,
                x_grid.scale,
                grid.scale,
                other.config.norm,
                None if other.x_range is None else other.x_range.numpy(force=True),
            )
            y = ops.layernorm(
                x,
                **constants.keywords(),
                rms=self.rms,
                x_zero_point=x_grid.zero_point,
                zero_point=grid.zero_point,
                quant_min=grid.quant_min,
                quant_max=grid.quant_max,
                dtype=grid.dtype,
                threads=threads(),
            )
            yield Outcome(torch.from_numpy(y), grid.scale, grid.zero_point)

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
            self.config.norm,
            None if self.x_range is None else self.x_range.numpy(force=True),
        )
        y = to.builder.layernorm(x, constants, grid, rms=self.rms, name=self.name)
        to.put(node, layout.onto(y))
