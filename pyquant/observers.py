"""Observers: what calibration remembers of an edge, and how that becomes a scale.

Each keeps a fixed amount of state, updated in one C pass a batch, so that memory does not grow with the number of
samples. A new one is a class here and its `register` row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pyquant.config import SiteConfig
from pyquant.graph.grid import keep_dtypes, quant_range
from pyquant.qparams import QParams, qparams_from_range
from pyquant.torch_ops import HISTOGRAM_EMPTY, new_histogram

__all__ = ["OBSERVERS", "Observer", "make_observer", "mse_weight_scale", "register_observer"]

FloatArray = npt.NDArray[np.float64]


class Observer(nn.Module, ABC):
    """State of one edge during calibration. Buffers keep their dtypes under ``.half()``."""

    name: ClassVar[str] = ""

    @abstractmethod
    def update(self, x: Tensor) -> None:
        """Take in one batch."""

    @property
    @abstractmethod
    def empty(self) -> bool:
        """True until something was observed."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything."""

    @abstractmethod
    def qparams(self, bits: int, symmetric: bool) -> QParams:
        """The quantization parameters for what was seen. Precondition: not `empty`."""

    def forward(self, x: Tensor) -> None:
        """`update`, detached and in float32."""
        with torch.no_grad():
            self.update(x.detach().to(torch.float32).contiguous())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Observer:
        return keep_dtypes(self, fn, super()._apply, recurse)


OBSERVERS: dict[str, type[Observer]] = {}


def register_observer(cls: type[Observer]) -> type[Observer]:
    """Class decorator: add an observer under its name."""
    OBSERVERS[cls.name] = cls
    return cls


def make_observer(name: str, config: SiteConfig) -> Observer:
    """An empty observer."""
    cls: Any = OBSERVERS[name]
    made: Observer = cls(config)
    return made


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

    def density(self) -> tuple[FloatArray, FloatArray, float, float]:
        """(points, weights, minimum, maximum): four points a bin, since a step of the grid may be as narrow as two."""
        total, low, high, exponent = (float(v) for v in self.meta.cpu())
        counts = self.counts.cpu().numpy().astype(np.float64)
        if exponent == HISTOGRAM_EMPTY:
            return np.zeros(1), np.ones(1), low, high
        bins = len(counts)
        width = 2.0 ** (exponent + 1) / bins
        used = np.flatnonzero(counts)
        left = -(2.0**exponent) + used * width
        points = (left[:, None] + (np.arange(4) + 0.5) / 4 * width).ravel()
        weights = np.repeat(counts[used] / 4, 4)
        zeros = total - counts.sum()
        if zeros > 0:
            points, weights = np.append(points, 0.0), np.append(weights, zeros)
        return np.clip(points, low, high), weights, low, high


@register_observer
class PercentileObserver(HistogramObserver):
    """The range that holds a given share of the values, the rest cut off evenly at both ends."""

    name = "percentile"

    def __init__(self, config: SiteConfig) -> None:
        super().__init__(config)
        self.percentile = config.percentile

    def qparams(self, bits: int, symmetric: bool) -> QParams:
        """Symmetric grids take the percentile of the absolute value."""
        points, weights, low, high = self.density()
        share = self.percentile / 100.0
        if symmetric:
            top = _quantile(np.abs(points), weights, share)
            return qparams_from_range(max(low, -top), min(high, top), bits, symmetric)
        tail = (1.0 - share) / 2
        return qparams_from_range(
            _quantile(points, weights, tail), _quantile(points, weights, 1.0 - tail), bits, symmetric)


def _quantile(points: FloatArray, weights: FloatArray, share: float) -> float:
    order = np.argsort(points, kind="stable")
    cumulative = np.cumsum(weights[order])
    index = int(np.searchsorted(cumulative, share * cumulative[-1]))
    return float(points[order[min(index, len(points) - 1)]])


@register_observer
class MSEObserver(HistogramObserver):
    """The range of least mean squared error: clipping against rounding, over the histogram."""

    name = "mse"

    def qparams(self, bits: int, symmetric: bool) -> QParams:
        """Both ends are shrunk in turn; the whole range is among the candidates, so clipping must earn its place."""
        points, weights, low, high = self.density()
        low, high = min(low, 0.0), max(high, 0.0)
        shrink = np.concatenate([[1.0], np.linspace(0.995, 0.2, 100)])

        def error(candidate_low: float, candidate_high: float) -> float:
            q = qparams_from_range(candidate_low, candidate_high, bits, symmetric)
            codes = np.clip(np.rint(points / q.scale) + q.zero_point, q.quant_min, q.quant_max)
            return float(np.dot(weights, ((codes - q.zero_point) * q.scale - points) ** 2))

        if symmetric:
            top = max(-low, high)
            best = min(shrink, key=lambda f: error(-top * f, top * f))
            return qparams_from_range(-top * float(best), top * float(best), bits, symmetric)
        best_low, best_high = low, high
        for _ in range(2):
            best_high = high * float(min(shrink, key=lambda f: error(best_low, high * f)))
            best_low = low * float(min(shrink, key=lambda f: error(low * f, best_high)))
        return qparams_from_range(best_low, best_high, bits, symmetric)


def mse_weight_scale(weight: Tensor, bits: int, steps: int = 80) -> Tensor:
    """Per-output-channel scale of least squared error, float32 [n].

    Parameters
    ----------
    weight : Tensor
        [n, k].
    bits : int
        Symmetric, narrow range.
    steps : int
        Candidates between 0.3 and 1 of the channel's absmax / quant_max; the first one that is best is taken.
    """
    low, high = quant_range(bits, symmetric=True)
    rows = weight.detach().reshape(weight.shape[0], -1).to(torch.float32)
    top = rows.abs().amax(dim=1) / high if rows.shape[1] else rows.new_zeros(rows.shape[0])
    top = torch.where(top > 0, top, torch.ones_like(top))
    best, least = top.clone(), torch.full_like(top, float("inf"), dtype=torch.float64)
    for factor in torch.linspace(1.0, 0.3, steps).tolist():
        scale = top * factor
        codes = torch.clamp(torch.round(rows / scale[:, None]), low, high)
        error = (codes * scale[:, None] - rows).double().square().sum(dim=1)
        better = error < least
        best, least = torch.where(better, scale, best), torch.where(better, error, least)
    return best.clamp(2.0**-100, 2.0**100)
