"""Observers of a range: min-max, its moving average, the histogram, and the percentile of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyquant import _C
from pyquant.config import SiteConfig
from pyquant.observers.base import Observer, register_observer
from pyquant.observers.density import Density
from pyquant.qparams import QParams, qparams_from_range
from pyquant.torch_ops import HISTOGRAM_EMPTY, new_histogram

__all__ = ["EMAObserver", "HistogramObserver", "MinMaxObserver", "PercentileObserver"]


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

    def update(self, x: Tensor, grad: Tensor | None = None) -> None:
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

    def _merge(self, other: Any) -> None:
        """The wider of the two; what is no range (of a damaged file) is refused."""
        low, high = float(other.minimum), float(other.maximum)
        if not (low <= high < math.inf and low > -math.inf) and (low, high) != (math.inf, -math.inf):
            raise ValueError(f"{self.name}: expected finite minimum <= maximum, got {low} and {high}")
        self.minimum.copy_(torch.minimum(self.minimum, other.minimum))
        self.maximum.copy_(torch.maximum(self.maximum, other.maximum))

    def qparams(self, bits: int, symmetric: bool) -> QParams:
        """The whole range."""
        return qparams_from_range(float(self.minimum), float(self.maximum), bits, symmetric)


@register_observer
class EMAObserver(MinMaxObserver):
    """Exponential moving average of each batch's minimum and maximum (momentum 0.95 in I-BERT and I-ViT)."""

    name = "ema"
    mergeable = False

    def __init__(self, config: SiteConfig) -> None:
        super().__init__(config)
        self.momentum = config.momentum

    def update(self, x: Tensor, grad: Tensor | None = None) -> None:
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

    def update(self, x: Tensor, grad: Tensor | None = None) -> None:
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

    def _merge(self, other: Any) -> None:
        """Exact, as if one had seen both (observe.h)."""
        mine, theirs = ((o.counts.cpu().numpy(), o.meta.cpu().numpy()) for o in (self, other))
        counts, meta = mine[0].copy(), mine[1].copy()  # on the CPU they share memory with the buffers
        _C.histogram_merge(counts, meta, *theirs)
        self.counts.copy_(torch.from_numpy(counts))
        self.meta.copy_(torch.from_numpy(meta))

    def _tell(self, other: Observer) -> bool:
        """A histogram serves every question about it; its ends are exact."""
        if isinstance(other, HistogramObserver) and not other.needs_gradient:
            other.counts.copy_(self.counts)
            other.meta.copy_(self.meta)
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
