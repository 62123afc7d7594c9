"""Between floats and integers, and what calibration observes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pyquant import _C
from pyquant.ops.common import Integers, check_axis, dense, limits

__all__ = ["Histogram", "dequantize", "minmax", "quantize"]


def _scales(scale: ArrayLike, axis: int | None) -> NDArray[np.float32]:
    scales = np.ascontiguousarray(scale, np.float32)
    if axis is None and scales.size != 1:
        raise ValueError(f"expected one scale without an axis, got {scales.size}")
    return scales.reshape(-1)


def quantize(
    x: ArrayLike,
    scale: ArrayLike,
    zero_point: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    *,
    axis: int | None = None,
    dtype: DTypeLike = "int8",
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> Integers:
    """``clamp(rne(x / scale) + zero_point, quant_min, quant_max)`` (quantize.h).

    Parameters
    ----------
    x : float32, any shape
        Infinities saturate; NaN is a ValueError.
    scale : float, or float32 [channels] with `axis`
    axis : int, optional
        The axis that the scales belong to.

    Examples
    --------
    >>> quantize(np.array([0.25, 0.75, -9.0], np.float32), 0.5).tolist()
    [0, 2, -18]
    """
    kind, low, high = limits(dtype, quant_min, quant_max)
    return _C.quantize(
        dense(x),
        _scales(scale, axis),
        zero_point=zero_point,
        axis=axis,
        dtype=kind,
        out=out,
        threads=threads,
        quant_min=low,
        quant_max=high,
    )


def dequantize(
    q: ArrayLike,
    scale: ArrayLike,
    zero_point: int = 0,
    *,
    axis: int | None = None,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """``(q - zero_point) * scale`` in float32 (quantize.h).

    Parameters
    ----------
    q : int8 or int16, any shape
    scale : float, or float32 [channels] with `axis`
    """
    return _C.dequantize(
        dense(q), _scales(scale, axis), zero_point=zero_point, axis=axis, out=out, threads=threads
    )


def minmax(
    x: ArrayLike, *, axis: int | None = None, threads: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Least and greatest value, of all or along `axis` (observe.h).

    Returns
    -------
    (minimum, maximum) : float32 [channels] each, [1] without an axis
        Infinity and minus infinity where x is empty.

    Raises
    ------
    ValueError
        x holds NaN or an infinity.
    """
    array = dense(x)
    channels = 1 if axis is None else array.shape[check_axis("minmax", axis, array.ndim)]
    minimum = np.full(channels, np.inf, np.float32)
    maximum = np.full(channels, -np.inf, np.float32)
    _C.observe_minmax(array, minimum, maximum, axis=axis, threads=threads)
    return minimum, maximum


def _empty_meta() -> NDArray[np.float64]:
    return np.array([0.0, np.inf, -np.inf, _C.HISTOGRAM_EMPTY])


@dataclass(eq=False)
class Histogram:
    """Counts over [-2^e, 2^e) that grow with the data, in fixed memory (observe.h).

    The state does not depend on the order or the split of what it has seen.

    Attributes
    ----------
    counts : int64 [2048]
    meta : float64 [4]
        (total, minimum, maximum, e).

    Examples
    --------
    >>> histogram = Histogram()
    >>> histogram.update(np.array([-1.0, 0.5], np.float32))
    >>> histogram.total, histogram.minimum, histogram.exponent
    (2, -1.0, 1)
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_C.HISTOGRAM_BINS, np.int64))
    meta: NDArray[np.float64] = field(default_factory=_empty_meta)

    @property
    def total(self) -> int:
        """Elements seen."""
        return int(self.meta[0])

    @property
    def minimum(self) -> float:
        """Least value seen; infinity while empty."""
        return float(self.meta[1])

    @property
    def maximum(self) -> float:
        """Greatest value seen; minus infinity while empty."""
        return float(self.meta[2])

    @property
    def exponent(self) -> int | None:
        """e, or None while only zeros have been seen."""
        return None if self.meta[3] == _C.HISTOGRAM_EMPTY else int(self.meta[3])

    def update(self, x: ArrayLike, *, threads: int | None = None) -> None:
        """Count float32 values. NaN or an infinity is a ValueError, and nothing is counted."""
        _C.observe_histogram(dense(x), self.counts, self.meta, threads=threads)

    def merge(self, other: Histogram) -> None:
        """Add what another histogram has seen."""
        _C.histogram_merge(self.counts, self.meta, other.counts, other.meta)
