"""The search for a range: clipping against rounding, by an error that the caller defines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from pyquant.observers.base import quant_range
from pyquant.observers.density import FloatArray
from pyquant.qparams import SCALE_MAX, SCALE_MIN, QParams, qparams_from_range

__all__ = ["ErrorOf", "best_ends", "best_share", "grids"]

#: (scales, zero points, quant_min, quant_max) -> the error of each grid, float64 of the scales' shape.
ErrorOf: TypeAlias = Callable[[FloatArray, FloatArray, int, int], FloatArray]

# Shares of the whole range. One outlier may leave the rest a hundredth of it.
_SHRINK: FloatArray = np.concatenate([np.linspace(1.0, 0.2, 81), np.geomspace(0.2, 0.01, 41)[1:]])
_AROUND: FloatArray = 1.0 + np.array([0.0, -0.03, -0.02, -0.01, -0.005, 0.005, 0.01, 0.02, 0.03])
_ZOOMS, _POINTS = 3, 41  # each zoom divides the spacing of the shares by 20


def grids(lows: FloatArray, highs: FloatArray, bits: int, symmetric: bool) -> tuple[FloatArray, FloatArray]:
    """(scales, zero points) that `qparams_from_range` would choose, for many ranges at once."""
    quant_min, quant_max = quant_range(bits, symmetric)
    scale = np.maximum(-lows, highs) / quant_max if symmetric else (highs - lows) / (quant_max - quant_min)
    scale = np.clip(np.where(scale > 0, scale, 1.0), SCALE_MIN, SCALE_MAX)
    scale = scale.astype(np.float32).astype(np.float64)
    if symmetric:
        return scale, np.zeros_like(scale)
    return scale, np.clip(np.rint(quant_min - lows / scale), quant_min, quant_max)


def best_ends(low: float, high: float, bits: int, symmetric: bool, error_of: ErrorOf) -> QParams:
    """Both ends move: they are shrunk in turn, then together around the best.

    Parameters
    ----------
    low, high : float
        The whole range, with 0 inside. It must be beaten: of equal errors the wider range is taken.
    """

    def best(lows: FloatArray, highs: FloatArray) -> tuple[float, float]:
        at = _least(lows, highs, bits, symmetric, error_of)
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


def best_share(low: float, high: float, bits: int, symmetric: bool, error_of: ErrorOf) -> QParams:
    """One number moves: the share of the whole range that is kept, the same at both ends.

    A line search that zooms in: 121 shares, then three times 41 between the neighbours of the best, which
    itself stays among them, so that no zoom makes it worse.
    """
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    shares, best = _SHRINK, 1.0
    for zoom in range(_ZOOMS + 1):
        at = _least(low * shares, high * shares, bits, symmetric, error_of)
        best = float(shares[at])
        if zoom < _ZOOMS:
            ordered = np.sort(shares)
            place = int(np.searchsorted(ordered, best))
            ends = ordered[max(place - 1, 0)], ordered[min(place + 1, len(ordered) - 1)]
            shares = np.concatenate([[best], np.linspace(ends[1], ends[0], _POINTS)])
    return qparams_from_range(low * best, high * best, bits, symmetric)


def _least(lows: FloatArray, highs: FloatArray, bits: int, symmetric: bool, error_of: ErrorOf) -> int:
    """The first of equals: clipping must earn its place."""
    scale, zero_point = grids(lows, highs, bits, symmetric)
    return int(error_of(scale, zero_point, *quant_range(bits, symmetric)).argmin())
