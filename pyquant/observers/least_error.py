"""Observers that choose the range of least error: MSE, OMSE and L_p."""

from __future__ import annotations

from functools import partial

from pyquant.config import SiteConfig
from pyquant.observers.base import register_observer
from pyquant.observers.ranges import HistogramObserver
from pyquant.observers.search import best_ends, best_share
from pyquant.qparams import QParams

__all__ = ["LpObserver", "MSEObserver", "OMSEObserver"]


@register_observer
class MSEObserver(HistogramObserver):
    """The range of least mean squared error, both ends searched apart."""

    name = "mse"

    def qparams(self, bits: int, symmetric: bool) -> QParams:
        """Clipping against rounding, over the histogram."""
        density = self.density()
        low, high = min(density.low, 0.0), max(density.high, 0.0)
        return best_ends(low, high, bits, symmetric, density.squared_error)


@register_observer
class OMSEObserver(HistogramObserver):
    """The scale of least mean squared error: one line search, as the paper does, for the share of the range.

    References
    ----------
    Kravchik et al., "Low-bit Quantization of Neural Networks for Efficient Inference", arXiv 1902.06822:
    OMSE, the optimal MSE quantization.
    """

    name = "omse"

    def qparams(self, bits: int, symmetric: bool) -> QParams:
        """Zero keeps its place in the range; `mse` lets the ends move apart."""
        density = self.density()
        low, high = min(density.low, 0.0), max(density.high, 0.0)
        return best_share(low, high, bits, symmetric, density.squared_error)


@register_observer
class LpObserver(HistogramObserver):
    """The range of least mean ``|error| ** lp_norm``, both ends searched apart.

    Above 2 a clipped outlier costs more than with squares, below 2 less.

    References
    ----------
    Nahshan et al., "Loss Aware Post-training Quantization", arXiv 1911.07190: step sizes that minimise
    the L_p norm of the error, p being free. The default of 2.4 is that of the code of Li et al., "BRECQ",
    arXiv 2102.05426.
    """

    name = "lp"

    def __init__(self, config: SiteConfig) -> None:
        super().__init__(config)
        self.lp_norm = float(config.lp_norm)

    def qparams(self, bits: int, symmetric: bool) -> QParams:
        """Clipping against rounding, over the histogram."""
        density = self.density()
        low, high = min(density.low, 0.0), max(density.high, 0.0)
        error_of = partial(density.power_error, power=self.lp_norm)
        return best_ends(low, high, bits, symmetric, error_of)
