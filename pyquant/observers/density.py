"""What a histogram knows of a distribution, and what a grid would cost on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Density", "FloatArray"]

FloatArray: TypeAlias = npt.NDArray[np.float64]

_MANY_LEVELS = 2**12  # a histogram has 2^11 bins over at most twice the range in use


@dataclass(frozen=True)
class Density:
    """A piecewise constant density over bins side by side.

    Parameters
    ----------
    origin, width : float
        Bin i covers [origin + i * width, origin + (i + 1) * width), cut to [low, high].
    counts : numpy.ndarray
        float64 [n]; the first and the last are positive.
    low, high : float
        The smallest and the largest value.
    """

    origin: float
    width: float
    counts: FloatArray
    low: float
    high: float

    @cached_property
    def _left(self) -> FloatArray:
        return np.asarray(np.maximum(self.origin + np.arange(len(self.counts)) * self.width, self.low))

    @cached_property
    def _widths(self) -> FloatArray:
        right = np.minimum(self.origin + np.arange(1, len(self.counts) + 1) * self.width, self.high)
        return np.asarray(np.maximum(right - self._left, 0.0))

    @cached_property
    def _before(self) -> FloatArray:
        return np.asarray(np.cumsum(self.counts) - self.counts)

    @cached_property
    def _start(self) -> FloatArray:
        """`excess` at the left end of each bin."""
        steps = (self._before + self.counts / 2) * self._widths
        return np.asarray(np.cumsum(steps) - steps)

    def quantile(self, share: float) -> float:
        """The value below which that share lies; 0 and 1 give the smallest and the largest."""
        after = np.cumsum(self.counts)
        at = share * after[-1]
        i = min(int(np.searchsorted(after, at)), len(after) - 1)
        inside = (at - self._before[i]) / self.counts[i]
        return float(self._left[i] + min(max(inside, 0.0), 1.0) * self._widths[i])

    def share_below(self, t: float) -> float:
        """The share of values under `t`, between 0 and 1."""
        inside = np.clip(t - self._left, 0.0, self._widths)
        share = np.where(
            self._widths > 0, inside / np.where(self._widths > 0, self._widths, 1.0), t > self.low
        )
        return float(share @ self.counts / self.counts.sum())

    def excess(self, t: FloatArray) -> FloatArray:
        """G(t) = the integral of (t - x) over x < t, where one count weighs 1."""
        cut = np.clip(t, self.low, self.high)
        i = np.clip((cut - self.origin) * (1.0 / self.width), 0, len(self.counts) - 1).astype(np.intp)
        inside = cut - self._left[i]
        half = (self.counts / np.where(self._widths > 0, 2.0 * self._widths, np.inf))[i]
        beyond = np.maximum(t - self.high, 0.0) * self.counts.sum()
        return np.asarray(self._start[i] + (self._before[i] + half * inside) * inside + beyond)

    def squared_error(self, scale: FloatArray, zero_point: FloatArray, low: int, high: int) -> FloatArray:
        """Summed squared error of quantization onto grids with integers low..high, one for each scale.

        With levels c_q = (q - zero_point) * scale, the sum over the levels of the integral of (x - c_q)^2
        over the values nearest to each telescopes to E (x - c_high)^2 - 2 scale * (sum of G(b)), b being
        the boundaries halfway between levels. So a candidate costs one look-up a boundary, and no pass over
        the bins for each level.
        """
        if high - low > _MANY_LEVELS:
            return self._fine_error(scale, zero_point, low, high)
        boundaries = (np.arange(low, high) + 0.5 - zero_point[:, None]) * scale[:, None]
        top = ((high - zero_point) * scale)[:, None]
        around_top = ((self._left + self._widths / 2 - top) ** 2 + self._widths**2 / 12) @ self.counts
        return np.asarray(around_top - 2.0 * scale * self.excess(boundaries).sum(axis=1))

    def _fine_error(self, scale: FloatArray, zero_point: FloatArray, low: int, high: int) -> FloatArray:
        """Steps narrower than a bin: rounding is uniform noise, scale^2 / 12, and the rest is clipping."""
        top, bottom = ((high - zero_point) * scale)[:, None], ((low - zero_point) * scale)[:, None]
        left, right = self._left, self._left + self._widths
        clipped = _square_above(left - top, right - top) + _square_above(bottom - right, bottom - left)
        return np.asarray((clipped + scale[:, None] ** 2 / 12) @ self.counts)

    def power_error(
        self, scale: FloatArray, zero_point: FloatArray, low: int, high: int, *, power: float
    ) -> FloatArray:
        """Summed ``|error| ** power`` of quantization onto grids with integers low..high, one for each scale.

        With c(x) the level nearest to x and d = x - c(x), an antiderivative of |d|^p that is continuous
        everywhere, beyond the last levels too, is F(x) = 2 h q(x) + sign(d) |d|^(p+1) / (p+1), q(x) being the
        number of the level and h = (scale/2)^(p+1) / (p+1): a whole level adds 2 h. So a bin costs two
        look-ups, wherever the levels lie in it.
        """
        left, right = self._left, self._left + self._widths
        wide = self._widths > 0
        per_width = np.where(wide, self.counts / np.where(wide, self._widths, 1.0), 0.0)
        found = np.empty_like(scale)
        for i, (step, zero) in enumerate(zip(scale, zero_point, strict=True)):
            half = (step / 2) ** (power + 1)

            def integral(
                x: FloatArray, step: float = step, zero: float = zero, half: float = half
            ) -> FloatArray:
                q = np.clip(np.rint(x / step), low - zero, high - zero)
                d = x - q * step
                signed: FloatArray = np.sign(d) * np.abs(d) ** (power + 1)
                return (2 * half * q + signed) / (power + 1)

            total = float((integral(right) - integral(left)) @ per_width)
            if not wide.all():  # all values of a bin are one
                q = np.clip(np.rint(left / step), low - zero, high - zero)
                total += float((np.abs(left - q * step) ** power) @ np.where(wide, 0.0, self.counts))
            found[i] = total
        return found


def _square_above(a: FloatArray, b: FloatArray) -> FloatArray:
    """Mean of max(x, 0)^2 over x in [a, b]."""
    over = np.maximum(a, 0.0)
    top = np.maximum(b, 0.0)
    share = np.where(b > a, (top - over) / np.where(b > a, b - a, 1.0), 1.0)
    return np.asarray(share * (over * over + over * top + top * top) / 3)
