"""The Hessian-guided observer: squared errors weighted by squared gradients of the loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyquant.config import SiteConfig
from pyquant.observers.base import register_observer
from pyquant.observers.density import Density, FloatArray
from pyquant.observers.ranges import HistogramObserver
from pyquant.observers.search import best_ends
from pyquant.qparams import QParams
from pyquant.torch_ops import HISTOGRAM_BINS, HISTOGRAM_EMPTY

__all__ = ["HessianObserver"]

_HALF = HISTOGRAM_BINS // 2
_PART = 2**13  # elements whose float64 copies stay in the first caches


@register_observer
class HessianObserver(HistogramObserver):
    """The range of least mean ``(gradient * error)^2``: errors count where the loss feels them.

    Beside the histogram of the values, a second one sums g^2 of the values in each bin, in float64. The scale
    of the loss does not matter as long as it is the same for every batch (a mean over batches of one size).
    Where no gradient but 0 was seen, plain squared errors decide.

    The sums depend on the order in which they are added, in the last bits: merging gives the same bits for
    the same order, and agrees within n 2^-53 of each sum for n additions in any other.

    References
    ----------
    Yuan et al., "PTQ4ViT", arXiv 2111.12293, section 3.3: the Hessian-guided metric, whose diagonal Hessian
    of a layer's output is the squared gradient; Ding et al., "Towards Accurate Post-Training Quantization for
    Vision Transformer" (APQ-ViT), arXiv 2303.14341.
    """

    name = "hessian"
    needs_gradient = True
    weights: Tensor

    def __init__(self, config: SiteConfig) -> None:
        super().__init__(config)
        self.register_buffer("weights", torch.zeros(HISTOGRAM_BINS, dtype=torch.float64))

    def update(self, x: Tensor, grad: Tensor | None = None) -> None:
        """The histogram in C, then a sum for each bin."""
        if grad is None:
            raise RuntimeError(
                "hessian: needs the gradient of a loss (pyquant.calibrate with loss=), got none"
            )
        if grad.shape != x.shape:
            raise RuntimeError(
                f"hessian: expected a gradient of shape {tuple(x.shape)}, got {tuple(grad.shape)}"
            )
        if x.numel() == 0:
            return
        if not all(math.isfinite(float(end)) for end in grad.aminmax()):  # NaN comes through both
            raise RuntimeError("hessian: expected a finite gradient, got NaN or infinity")
        before = float(self.meta[3])
        super().update(x)
        after = float(self.meta[3])
        added = torch.zeros_like(self.weights)
        # By a power of two in float64: exact, hence so is the floor. Zeros alone: their bin stays the same.
        factor = _HALF * 2.0**-after if after != HISTOGRAM_EMPTY else 0.0
        parts = (torch.split(each.reshape(-1), _PART) for each in (x, grad))
        for values, gradients in zip(*parts, strict=True):
            bins = torch.floor(values.double() * factor).long() + _HALF
            added += torch.bincount(bins, weights=gradients.double().square(), minlength=HISTOGRAM_BINS)
        self.weights.copy_(_grown(self.weights, before, after) + added)

    def reset(self) -> None:
        """Back to no elements."""
        super().reset()
        self.weights.zero_()

    def _merge(self, other: Any) -> None:
        """The counts exactly, the sums by one addition a bin."""
        if not bool((other.weights.isfinite() & (other.weights >= 0)).all()):
            raise ValueError("hessian: expected finite sums of squares >= 0")
        mine, theirs = float(self.meta[3]), float(other.meta[3])
        weights = self.weights.clone()
        super()._merge(other)
        now = float(self.meta[3])
        self.weights.copy_(_grown(weights, mine, now) + _grown(other.weights, theirs, now))

    def _tell(self, other: Any) -> bool:
        """Itself, or all that a histogram tells."""
        if type(other) is HessianObserver:
            other.load_state_dict(self.state_dict())
            return True
        return super()._tell(other)

    def weighted(self) -> Density:
        """The density of the values, each weighing its squared gradient. Precondition: not `empty`."""
        weights = self.weights.cpu().numpy()
        plain = self.density()
        exponent = float(self.meta[3])
        if exponent == HISTOGRAM_EMPTY or not weights.any():
            return plain
        used = weights.nonzero()[0]
        first, last = int(used[0]), int(used[-1])
        width = math.ldexp(1.0, int(exponent)) / _HALF
        origin = (first - _HALF) * width
        kept: FloatArray = np.asarray(weights[first : last + 1] / weights.sum())
        end = origin + (last + 1 - first) * width
        return Density(origin, width, kept, max(plain.low, origin), min(plain.high, end))

    def qparams(self, bits: int, symmetric: bool) -> QParams:
        """As `mse`, over the weighted density; the whole range is that of all values."""
        plain = self.density()
        low, high = min(plain.low, 0.0), max(plain.high, 0.0)
        return best_ends(low, high, bits, symmetric, self.weighted().squared_error)


def _grown(weights: Tensor, exponent: float, needed: float) -> Tensor:
    """Sums over [-2^needed, 2^needed): neighbouring bins merge in pairs around 0, as the counts do."""
    if HISTOGRAM_EMPTY in (exponent, needed) or needed == exponent:
        return weights
    shift = min(int(needed - exponent), 11)
    bins = (torch.arange(-_HALF, _HALF, device=weights.device) >> shift) + _HALF
    return torch.bincount(bins, weights=weights, minlength=HISTOGRAM_BINS)
