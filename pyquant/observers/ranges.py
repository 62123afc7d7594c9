"""The observers: min-max, EMA, percentile, MSE."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pyquant.config import SiteConfig
from pyquant.observers.base import Observer, quant_range, register_observer
from pyquant.observers.density import Density, FloatArray
from pyquant.qparams import SCALE_MAX, SCALE_MIN, QParams, qparams_from_range
from pyquant.torch_ops import HISTOGRAM_EMPTY, new_histogram

__all__ = ["EMAObserver", "HistogramObserver", "MSEObserver", "MinMaxObserver", "PercentileObserver"]


@register_observer
class MinMaxObserver(Observer):
    """The smallest and the largest value seen."""

    name = "minmax"
    minimum: Tensor
    maximum: Tensor

    def __init__(self, config: SiteConfig) -> None:
        super().__init__()
        self.register_buffer("minimum", torch.tensor(float("inf")))
        self.register_buffer("maximum", torch.tensor(float("-inf")))

    def update(self, x: Tensor) -> None:
        """One pass in C."""
        torch.ops.pyquant.observe_minmax(x, self.minimum, self.maximum)

    @property
    def empty(self) -> bool:
        """No element seen."""
        return bool(self.minimum > self.maximum)

    def reset(self) -> None:
        """Back to the empty range."""
        self.minimum.fill_(float("inf"))
        self.maximum.fill_(float("-inf"))

    def qparams(self, bits: int, symmetric: bool) -> QParams:
        """The whole range."""
        return qparams_from_range(float(self.minimum), float(self.maximum), bits, symmetric)


@register_observer
class EMAObserver(MinMaxObserver):
    """Exponential moving average of each batch's minimum and maximum (momentum 0.95 in I-BERT and I-ViT)."""

    name = "ema"

    def __init__(self, config: SiteConfig) -> None:
        super().__init__(config)
        self.momentum = config.momentum

    def update(self, x: Tensor) -> None:
        """The first batch sets the range, later ones move it."""
        if x.numel() == 0:
            return
        low, high = torch.full_like(self.minimum, float("inf")), torch.full_like(self.maximum, float("-inf"))
        torch.ops.pyquant.observe_minmax(x, low, high)
        first = self.minimum > self.maximum
        self.minimum.copy_(torch.where(first, low, self.minimum.lerp(low, 1.0 - self.momentum)))
        self.maximum.copy_(torch.where(first, high, self.maximum.lerp(high, 1.0 - self.momentum)))


class HistogramObserver(Observer):
    """2048 exact counts over a power-of-two range that grows (observe.h)."""

    counts: Tensor
    meta: Tensor

    def __init__(self, config: SiteConfig) -> None:
        super().__init__()
        counts, meta = new_histogram()
        self.register_buffer("counts", counts)
        self.register_buffer("meta", meta)

    def update(self, x: Tensor) -> None:
        """One pass in C."""
        torch.ops.pyquant.observe_histogram(x, self.counts, self.meta)

    @property
    def empty(self) -> bool:
        """No element seen."""
        return float(self.meta[0]) == 0

    def reset(self) -> None:
        """Back to no elements."""
        counts, meta = new_histogram()
        self.counts.copy_(counts)
        self.meta.copy_(meta)

    def _tell(self, other: Observer) -> bool:
        """A histogram serves every question about it; its ends are exact."""
        if isinstance(other, HistogramObserver):
            other.load_state_dict(self.state_dict())
        elif type(other) is MinMaxObserver:
            other.minimum.copy_(self.meta[1])
            other.maximum.copy_(self.meta[2])
        else:
            return False
        return True

    def density(self, *, absolute: bool = False) -> Density:
        """What the counts say about the values, or about their absolute values. Precondition: not `empty`."""
        total, low, high, exponent = (float(v) for v in self.meta.cpu())
        if absolute:
            nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
            low, high = nearest, max(abs(low), abs(high))
        if exponent == HISTOGRAM_EMPTY:  # zeros only
            return Density(0.0, 1.0, np.array([total]), low, high)
        counts = self.counts.cpu().numpy().astype(np.float64)
        half = len(counts) // 2
        width, origin = 2.0**exponent / half, -(2.0**exponent)
        if absolute:
            counts, origin = counts[half:] + counts[:half][::-1], 0.0
        used = np.flatnonzero(counts)
        first, last = int(used[0]), int(used[-1])
        return Density(origin + first * width, width, counts[first : last + 1], low, high)


@register_observer
class PercentileObserver(HistogramObserver):
    """The range that holds a given share of the values, the rest cut off evenly at both ends."""

    name = "percentile"

    def __init__(self, config: SiteConfig) -> None:
        super().__init__(config)
        self.percentile = config.percentile

    def qparams(self, bits: int, symmetric: bool) -> QParams:
        """Symmetric grids take the percentile of the absolute value."""
        share = self.percentile / 100.0
        if symmetric:
            top = self.density(absolute=True).quantile(share)
            return qparams_from_range(-top, top, bits, symmetric)
        density = self.density()
        tail = (1.0 - share) / 2
        return qparams_from_range(density.quantile(tail), density.quantile(1.0 - tail), bits, symmetric)


@register_observer
class MSEObserver(HistogramObserver):
    """The range of least mean squared error: clipping against rounding, over the histogram."""

    name = "mse"

    def qparams(self, bits: int, symmetric: bool) -> QParams:
        """The ends are shrunk in turn, then together around the best; the whole range must be beaten."""
        density = self.density()
        low, high = min(density.low, 0.0), max(density.high, 0.0)

        def best(lows: FloatArray, highs: FloatArray) -> tuple[float, float]:
            scale, zero_point = _grids(lows, highs, bits, symmetric)
            error = density.squared_error(scale, zero_point, *quant_range(bits, symmetric))
            at = int(error.argmin())  # the first of equals: clipping must earn its place
            return float(lows[at]), float(highs[at])

        if symmetric:
            top = max(-low, high)
            _, at = best(-top * _SHRINK, top * _SHRINK)
            around = np.minimum(at * _AROUND, top)
            _, at = best(-around, around)
            return qparams_from_range(-at, at, bits, symmetric)
        at_low, at_high = low, high
        for _ in range(2):
            at_low, at_high = best(np.full_like(_SHRINK, at_low), high * _SHRINK)
            at_low, at_high = best(low * _SHRINK, np.full_like(_SHRINK, at_high))
        lows, highs = np.meshgrid(np.maximum(at_low * _AROUND, low), np.minimum(at_high * _AROUND, high))
        return qparams_from_range(*best(lows.ravel(), highs.ravel()), bits, symmetric)


# Shares of the whole range. One outlier may leave the rest a hundredth of it.
_SHRINK: FloatArray = np.concatenate([np.linspace(1.0, 0.2, 81), np.geomspace(0.2, 0.01, 41)[1:]])
_AROUND: FloatArray = 1.0 + np.array([0.0, -0.03, -0.02, -0.01, -0.005, 0.005, 0.01, 0.02, 0.03])


def _grids(lows: FloatArray, highs: FloatArray, bits: int, symmetric: bool) -> tuple[FloatArray, FloatArray]:
    """(scales, zero points) that `qparams_from_range` would choose, for many ranges at once."""
    quant_min, quant_max = quant_range(bits, symmetric)
    scale = np.maximum(-lows, highs) / quant_max if symmetric else (highs - lows) / (quant_max - quant_min)
    scale = np.clip(np.where(scale > 0, scale, 1.0), SCALE_MIN, SCALE_MAX)
    scale = scale.astype(np.float32).astype(np.float64)
    if symmetric:
        return scale, np.zeros_like(scale)
    return scale, np.clip(np.rint(quant_min - lows / scale), quant_min, quant_max)
