"""The KL observer: the range whose quantized histogram tells most of the whole one."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pyquant.observers.base import register_observer
from pyquant.observers.density import FloatArray
from pyquant.observers.ranges import HistogramObserver
from pyquant.qparams import QParams, qparams_from_range

__all__ = ["KLObserver", "divergences"]

Bins: TypeAlias = npt.NDArray[np.intp]

_WIDEST = 8  # bits; with more, levels are finer than bins and there is nothing to learn


@register_observer
class KLObserver(HistogramObserver):
    """The range of least KL divergence between the clipped histogram and its quantized version.

    For each range of whole bins around 0: P is the histogram inside, what lies outside added to the bin at
    that end; Q is the histogram inside, its bins gathered into 2^bits levels of (nearly) equally many bins
    (2^(bits-1) of the absolute values on a symmetric grid), each level spread evenly over its bins that P has
    filled. The range with the least KL(P || Q) is taken, the widest of equals.

    Three things are added to the reference. On a grid with a zero point the range shrinks at the end behind
    which fewer values then lie. A level that P has filled with outliers alone counts as half a value in Q,
    where the divergence would be infinite and one outlier would forbid every range. And the bin that holds 0
    takes the larger of its neighbours' counts, if it has more: a grid represents 0 exactly, so that the zeros
    of a ReLU need no level of their own. With more than 8 bits the whole range is kept.

    References
    ----------
    Migacz, "8-bit Inference with TensorRT", GPU Technology Conference 2017, the entropy calibration.
    """

    name = "kl"

    def qparams(self, bits: int, symmetric: bool) -> QParams:
        """All ranges are compared, each by sums over its levels."""
        density = self.density(absolute=symmetric)
        low, high = min(density.low, 0.0), max(density.high, 0.0)
        if bits > _WIDEST or low == high:
            return qparams_from_range(-high if symmetric else low, high, bits, symmetric)
        counts, below = self._around_zero(symmetric)
        levels = 2 ** (bits - 1) if symmetric else 2**bits
        starts, ends = _ranges(counts, below, levels)
        best = int(divergences(counts, starts, ends, levels).argmin())
        width = density.width
        low = max(low, float(starts[best] - below) * width)
        high = min(high, float(ends[best] - below) * width)
        return qparams_from_range(-high if symmetric else low, high, bits, symmetric)

    def _around_zero(self, absolute: bool) -> tuple[FloatArray, int]:
        """(counts from the first bin in use to the last, 0 between or at an end, and how many lie below 0).

        Precondition: some value is not 0.
        """
        counts = self.counts.cpu().numpy().astype(np.float64)
        half = len(counts) // 2
        right, left = counts[half:], counts[:half][::-1]  # from 0 outwards
        if absolute:
            right, left = right + left, np.zeros(0)
        zero = max(right[1], left[0] if len(left) else 0.0)
        right = np.concatenate([[min(right[0], zero)], right[1:]])
        last = [int(side.nonzero()[0][-1]) + 1 if side.any() else 0 for side in (left, right)]
        return np.concatenate([left[: last[0]][::-1], right[: last[1]]]), last[0]


def _ranges(counts: FloatArray, below: int, levels: int) -> tuple[Bins, Bins]:
    """(first bin, end) of each range to compare, the widest first, down to as many bins as levels.

    Of the two bins at the ends the one goes behind which fewer values then lie outside (of equals, the one
    further from 0); 0 stays inside.
    """
    before = np.concatenate([[0.0], np.cumsum(counts)])
    start, end = 0, len(counts)
    starts, ends = [start], [end]
    while end - start > levels:
        outside = before[start + 1], before[-1] - before[end - 1]
        left_goes = (outside[0], end - below) < (outside[1], below - start)
        if start < below and (left_goes or end == below):
            start += 1
        else:
            end -= 1
        starts.append(start)
        ends.append(end)
    return np.array(starts, dtype=np.intp), np.array(ends, dtype=np.intp)


def divergences(counts: FloatArray, starts: Bins, ends: Bins, levels: int) -> FloatArray:
    """KL(P || Q) in nats of each range [start, end) of bins.

    With n bins, S_j the sum of the bins of level j, m_j its bins that P has filled and P_j its sum in P:
    KL = (sum P log P - sum_j P_j log(S_j / m_j)) / N + log(Q / N), N and Q being the totals. The first sum is
    a difference of running sums, so that a range costs a look-up a level.
    """
    total = counts.sum()
    before = np.concatenate([[0.0], np.cumsum(counts)])
    filled = np.concatenate([[0], np.cumsum(counts > 0)])
    logs = np.concatenate([[0.0], np.cumsum(_x_log_x(counts))])
    sizes = ends - starts
    edges = starts[:, None] + sizes[:, None] * np.arange(levels + 1) // levels
    sums = np.diff(before[edges], axis=1)
    bins = np.diff(filled[edges], axis=1).astype(np.float64)
    inside = sums.copy()  # of P
    entropy = logs[ends] - logs[starts]
    for column, bin_of, lost in (
        (0, starts, before[starts]),
        (levels - 1, ends - 1, total - before[ends]),
    ):
        # What lies outside moves into the bin at the end, which P then has filled.
        inside[:, column] += lost
        entropy += _x_log_x(counts[bin_of] + lost) - _x_log_x(counts[bin_of])
        bins[:, column] += (counts[bin_of] == 0) & (lost > 0)
    sums = np.where((inside > 0) & (sums == 0), 0.5, sums)
    terms = inside * np.log(np.where(inside > 0, sums / np.maximum(bins, 1.0), 1.0))
    return np.asarray((entropy - terms.sum(axis=1)) / total + np.log(sums.sum(axis=1) / total))


def _x_log_x(x: FloatArray) -> FloatArray:
    return np.asarray(x * np.log(np.where(x > 0, x, 1.0)))
