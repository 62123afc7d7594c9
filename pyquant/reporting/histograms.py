"""What calibration saw at a site, beside the range that was chosen for it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pyquant.batches import arguments
from pyquant.graph.grid import qparams_of
from pyquant.graph.prepared import LABELS, Prepared, as_in_eval
from pyquant.graph.sites import Site
from pyquant.observers import Density, HistogramObserver, MSEObserver
from pyquant.qparams import QParams
from pyquant.verbs.modes import mode

__all__ = ["EdgeHistogram", "edge_histograms"]


@dataclass(frozen=True)
class EdgeHistogram:
    """The distribution of a site's output, and its grid.

    Parameters
    ----------
    site, kind : str
    bits : int
    grid : QParams
    density : Density
    calibrated : bool
        Whether the distribution is that of calibration; else of one batch in float.
    """

    site: str
    kind: str
    bits: int
    grid: QParams
    density: Density
    calibrated: bool = True

    @property
    def low(self) -> float:
        """The smallest value of the grid, in real units."""
        return (self.grid.quant_min - self.grid.zero_point) * self.grid.scale

    @property
    def high(self) -> float:
        """The largest value of the grid, in real units."""
        return (self.grid.quant_max - self.grid.zero_point) * self.grid.scale

    @property
    def clipped(self) -> float:
        """Share of the values that the ends of the grid cut: those that do not round to either end."""
        half = self.grid.scale / 2
        inside = self.density.share_below(self.high + half) - self.density.share_below(self.low - half)
        return max(0.0, 1.0 - inside)

    @property
    def sqnr(self) -> float:
        """Energy of the values over that of the error of this grid alone, in dB, by the histogram."""
        grid = self.grid
        scale, zero_point = np.array([grid.scale]), np.array([float(grid.zero_point)])
        noise = self.density.squared_error(scale, zero_point, grid.quant_min, grid.quant_max)[0]
        # On a grid whose only level is zero the error is the value itself.
        power = self.density.squared_error(np.ones(1), np.zeros(1), 0, 0)[0]
        return float(10 * np.log10(power / noise)) if power > 0 and noise > 0 else math.inf


def edge_histograms(prepared: Prepared, names: Iterable[str], batch: Any = None) -> list[EdgeHistogram]:
    """Histograms of some sites, in the order of `names`.

    Where the site's observer keeps none (or has seen nothing), `batch` is run in float, if there is one; else
    the site is left out. So is one whose quantizer has no grid.

    Raises
    ------
    ValueError
        A value of the batch's run is not finite.
    TypeError
        The batch does not fit the model.
    """
    sites = prepared.sites()
    chosen = {name: sites[name] for name in names if sites[name].output.on_grid}
    kept = {
        name: site.observer
        for name, site in chosen.items()
        if isinstance(site.observer, HistogramObserver) and not site.observer.empty
    }
    without = {name: site for name, site in chosen.items() if name not in kept}
    seen = _observe(prepared, without, batch) if without and batch is not None else {}
    return [
        EdgeHistogram(
            name, site.kind, site.output.bits, qparams_of(site.output), found.density(), name in kept
        )
        for name, site in chosen.items()
        for found in [kept.get(name) or seen.get(name)]
        if found is not None
    ]


def _observe(prepared: Prepared, sites: dict[str, Site], batch: Any) -> dict[str, HistogramObserver]:
    observers: dict[str, HistogramObserver] = {}

    def see(site: torch.nn.Module, _: Any, output: Any) -> None:
        assert isinstance(site, Site)
        observer = observers.setdefault(site.name, _new_observer(site))
        try:
            observer(output)
        except RuntimeError as error:  # NaN or infinity
            raise ValueError(f"report: site {site.name!r}: {error}") from None

    hooks = [site.register_forward_hook(see) for site in sites.values()]
    drop = tuple(name for name in LABELS if name in prepared._signature.inputs)
    args, kwargs = arguments(prepared, batch, drop=drop)
    try:
        with torch.no_grad(), as_in_eval(prepared), mode(prepared, "float"):
            prepared(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: observer for name, observer in observers.items() if not observer.empty}


def _new_observer(site: Site) -> HistogramObserver:
    made = MSEObserver(site.config)
    return made.to(site.output.scale.device)
