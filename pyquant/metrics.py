"""How far an approximation is from the original: SQNR, MSE, cosine, largest error, KL divergence.

Arrays are NumPy's, or CPU tensors of torch, which this module does not import. The sums are taken by the C
kernels in one pass: the same bits for any number of threads and on any instruction set, within 8e-6
(relative) of exact sums, hence within 1e-4 dB. Derivation: csrc/include/pyquant/metrics.h.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyquant import _C
from pyquant.ops.common import check_axis, dense

__all__ = ["ErrorMetrics", "ErrorSummary", "cosine", "kl_divergence", "max_error", "mse", "sqnr"]

Figure: TypeAlias = "float | NDArray[np.float64]"

# Columns of a state: what metrics.h calls pq_metrics_state.
_XX, _YY, _XY, _DD, _LARGEST, _COUNT, _RATIOS, _SAMPLES, _EXACT = range(_C.METRICS_STATE)


@dataclass(frozen=True)
class ErrorSummary:
    """What `ErrorMetrics` found: numbers, or with `axis` arrays of one entry for each index of that axis.

    Attributes
    ----------
    sqnr : float or ndarray
        dB: 20 log10 of the mean of |x| / |x - y| over the samples that have an error. +inf if all samples
        are exact, -inf if all of x is zero where there is an error, NaN without samples.
    mse : float or ndarray
        Mean squared error over all elements; NaN without elements.
    cosine : float or ndarray
        sum x y / sqrt(sum x^2 sum y^2) over all elements. 1 if x and y are both zero, 0 if one of them is,
        NaN without elements.
    max_error : float or ndarray
        Largest |x - y|; 0 without elements.
    samples : int or ndarray
        Number of samples.
    exact : int or ndarray
        Samples without any error: they are no part of `sqnr`, where they would count as infinity.
    """

    sqnr: Figure
    mse: Figure
    cosine: Figure
    max_error: Figure
    samples: int | NDArray[np.int64]
    exact: int | NDArray[np.int64]


class ErrorMetrics:
    """Errors of a stream of batches, in fixed memory.

    How samples come in batches does not matter, to the bit. Merged states have the counts and the largest
    error of one long stream, and its sums up to the rounding of float64; a.merge(b) and b.merge(a) are equal.

    Parameters
    ----------
    axis : int, optional
        One summary for each index of this axis (channel, head, token), else one in all.
    sample_axis : int or None
        The axis along which samples lie; None: each array is one sample.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant.metrics import ErrorMetrics
    >>> errors = ErrorMetrics()
    >>> x = np.array([[3.0, 4.0], [6.0, 8.0], [1.0, 1.0]], np.float32)
    >>> y = np.array([[3.0, 3.5], [6.0, 7.0], [1.0, 1.0]], np.float32)
    >>> errors.update(x[:2], y[:2])
    >>> errors.update(x[2:], y[2:])
    >>> found = errors.compute()
    >>> found.sqnr, found.max_error, found.samples, found.exact  # 20 log10 of (10 + 10) / 2
    (20.0, 1.0, 3, 1)
    """

    def __init__(self, axis: int | None = None, *, sample_axis: int | None = 0) -> None:
        self.axis = axis
        self.sample_axis = sample_axis
        self._states: NDArray[np.float64] | None = None

    def update(
        self,
        x: Any,
        y: Any,
        *,
        scale: float | None = None,
        zero_point: int = 0,
        threads: int | None = None,
    ) -> None:
        """Add a batch.

        Parameters
        ----------
        x : array_like
            The original, float32, finite.
        y : array_like
            The approximation, of x's shape: float32, or int8 / int16 standing for
            ``(y - zero_point) * scale`` in float32.
        scale : float, optional
            Needed for integers, and only for them.
        zero_point : int
        threads : int, optional

        Raises
        ------
        TypeError
            Another dtype, or a scale that is missing or has no integers.
        ValueError
            Shapes that differ, an axis that is not there or is the sample axis, NaN or infinity: the
            message has the index in C order, with the sample axis brought to the front. Another length of
            `axis` than before. The metrics are as they were.
        """
        self._update("ErrorMetrics.update", x, y, scale, zero_point, threads)

    def _update(
        self, op: str, x: Any, y: Any, scale: float | None, zero_point: int, threads: int | None
    ) -> None:
        x, y = _pair(op, x, y)
        if (y.dtype.kind == "i") != (scale is not None):
            kind = "a scale for integers" if scale is None else f"int8 or int16 y with a scale, got {y.dtype}"
            raise TypeError(f"{op}: expected {kind}" + (f" ({y.dtype})" if scale is None else ""))
        x, y, shape = _rows(op, x, y, self.axis, self.sample_axis)
        states = self._states
        if states is None:
            states = np.zeros((shape[2], _C.METRICS_STATE))
        if len(states) != shape[2]:
            raise ValueError(
                f"{op}: expected {len(states)} along axis {self.axis}, as before, got {shape[2]}"
            )
        try:
            _C.metrics_update(x, y, states, *shape, 1.0 if scale is None else scale, zero_point, threads)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace("metrics_update", op, 1)) from None
        self._states = states

    def merge(self, other: ErrorMetrics) -> None:
        """Add what another one has seen.

        Raises
        ------
        ValueError
            The other has another axis, sample axis or number of groups.
        """
        mine, theirs = (self.axis, self.sample_axis), (other.axis, other.sample_axis)
        if mine != theirs:
            raise ValueError(f"merge: expected (axis, sample_axis) = {mine}, got {theirs}")
        if other._states is None:
            return
        if self._states is None:
            self._states = other._states.copy()
            return
        if self._states.shape != other._states.shape:
            raise ValueError(
                f"merge: expected {len(self._states)} along axis {self.axis}, got {len(other._states)}"
            )
        _C.metrics_merge(self._states, other._states)

    def compute(self) -> ErrorSummary:
        """The figures of all that was seen so far."""
        states = np.zeros((1, _C.METRICS_STATE)) if self._states is None else self._states
        rows = [_summary(row) for row in states.tolist()]
        if self.axis is None:
            return rows[0]

        def column(name: str, dtype: Any) -> NDArray[Any]:
            return np.array([getattr(row, name) for row in rows], dtype)

        figures = {name: column(name, np.float64) for name in ("sqnr", "mse", "cosine", "max_error")}
        return ErrorSummary(**figures, samples=column("samples", np.int64), exact=column("exact", np.int64))

    def state(self) -> dict[str, Any]:
        """All that it knows, as plain numbers and lists: for JSON or a checkpoint."""
        sums = None if self._states is None else self._states.tolist()
        return {"axis": self.axis, "sample_axis": self.sample_axis, "sums": sums}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ErrorMetrics:
        """Go on where `state` was taken.

        Raises
        ------
        ValueError
            It is not what `state` returns.
        """
        if set(state) != {"axis", "sample_axis", "sums"}:
            raise ValueError(f"from_state: expected axis, sample_axis and sums, got {sorted(state)}")
        made = cls(state["axis"], sample_axis=state["sample_axis"])
        if state["sums"] is not None:
            sums = np.array(state["sums"], np.float64)
            if sums.ndim != 2 or sums.shape[1] != _C.METRICS_STATE:
                raise ValueError(
                    f"from_state: expected sums of shape (groups, {_C.METRICS_STATE}), got {sums.shape}"
                )
            made._states = np.zeros_like(sums)
            _C.metrics_merge(made._states, sums)  # checks it
        return made


def sqnr(
    x: Any,
    y: Any,
    *,
    axis: int | None = None,
    sample_axis: int | None = 0,
    scale: float | None = None,
    zero_point: int = 0,
) -> Figure:
    """Signal to quantization noise ratio in dB.

    Parameters
    ----------
    x, y : array_like
        The original and the approximation, as for `ErrorMetrics.update`.
    axis : int, optional
        One figure for each index of this axis.
    sample_axis : int or None
        Samples lie along this axis: |x| / |x - y| is taken of each, then averaged (samples without error
        left out), then 20 log10. None: all is one sample.
    scale, zero_point : float, int
        Of integers in y.

    Returns
    -------
    float or ndarray
        See `ErrorSummary.sqnr`.

    Raises
    ------
    TypeError, ValueError
        As `ErrorMetrics.update`. An array of one axis, unless `sample_axis` is None: its elements would be
        the samples, which is rarely meant.

    References
    ----------
    .. [1] "Mixed Non-linear Quantization for Vision Transformers", arXiv 2407.18437.

    Examples
    --------
    >>> import numpy as np
    >>> from pyquant.metrics import sqnr
    >>> x = np.array([[3.0, 4.0], [30.0, 40.0]], np.float32)
    >>> sqnr(x, x * np.float32(0.5)), sqnr(x, x)
    (6.020..., inf)
    """
    return _once("sqnr", x, y, axis, sample_axis, scale, zero_point).sqnr


def mse(
    x: Any, y: Any, *, axis: int | None = None, scale: float | None = None, zero_point: int = 0
) -> Figure:
    """Mean squared error over all elements, or those of each index of an axis.

    Parameters and errors as for `sqnr`; result as `ErrorSummary.mse`.
    """
    return _once("mse", x, y, axis, None, scale, zero_point).mse


def cosine(
    x: Any, y: Any, *, axis: int | None = None, scale: float | None = None, zero_point: int = 0
) -> Figure:
    """Cosine of the angle between x and y, or between their parts at each index of an axis.

    Parameters and errors as for `sqnr`; result as `ErrorSummary.cosine`.
    """
    return _once("cosine", x, y, axis, None, scale, zero_point).cosine


def max_error(
    x: Any, y: Any, *, axis: int | None = None, scale: float | None = None, zero_point: int = 0
) -> Figure:
    """Largest absolute difference, or the largest at each index of an axis.

    Parameters and errors as for `sqnr`; result as `ErrorSummary.max_error`.
    """
    return _once("max_error", x, y, axis, None, scale, zero_point).max_error


def kl_divergence(x: Any, y: Any, *, threads: int | None = None) -> float:
    """KL(softmax(x) || softmax(y)) along the last axis in nats, mean over all rows.

    Parameters
    ----------
    x, y : array_like
        Logits [..., n], float32, finite, of one shape with n >= 1.
    threads : int, optional

    Returns
    -------
    float
        NaN without rows. Rows are computed in float64 without the system's exp and log, and their mean is
        correctly rounded: the same bits on every machine.

    Raises
    ------
    TypeError, ValueError
        As `ErrorMetrics.update`; also for n = 0 or no axis.
    """
    op = "kl_divergence"
    x, y = _pair(op, x, y)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"{op}: expected a last axis of at least 1, got shape {x.shape}")
    x, y = (array.reshape(-1, array.shape[-1]) for array in (x, y))
    try:
        kl = _C.metrics_kl(x, y, threads)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("metrics_kl", op, 1)) from None
    return math.fsum(kl.tolist()) / len(kl) if len(kl) else math.nan


def _once(
    op: str,
    x: Any,
    y: Any,
    axis: int | None,
    sample_axis: int | None,
    scale: float | None,
    zero_point: int,
) -> ErrorSummary:
    metrics = ErrorMetrics(axis, sample_axis=sample_axis)
    metrics._update(op, x, y, scale, zero_point, None)
    return metrics.compute()


def _array(value: Any) -> NDArray[Any]:
    """Of a torch tensor its own memory, without the gradient that NumPy would refuse."""
    return dense(value.detach() if hasattr(value, "detach") else value)


def _pair(op: str, x: Any, y: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    a, b = _array(x), _array(y)
    if a.shape != b.shape:
        raise ValueError(f"{op}: expected x and y of one shape, got {a.shape} and {b.shape}")
    return a, b


def _rows(
    op: str, x: NDArray[Any], y: NDArray[Any], axis: int | None, sample_axis: int | None
) -> tuple[NDArray[Any], NDArray[Any], tuple[int, int, int, int]]:
    """The arrays with samples in front, and (samples, pieces, groups, length) of metrics.h."""
    at = None if axis is None else check_axis(op, axis, x.ndim)
    if sample_axis is not None:
        front = check_axis(op, sample_axis, x.ndim)
        if x.ndim == 1:
            raise ValueError(f"{op}: expected samples of at least one axis; one sample is sample_axis=None")
        if at == front:
            raise ValueError(f"{op}: expected axis and sample_axis to differ, got {axis} and {sample_axis}")
        if front > 0:
            x, y = (dense(np.moveaxis(array, front, 0)) for array in (x, y))
            at = at + 1 if at is not None and at < front else at
    first = 0 if sample_axis is None else 1
    samples = math.prod(x.shape[:first])
    if at is None:
        return x, y, (samples, 1, 1, math.prod(x.shape[first:]))
    return x, y, (samples, math.prod(x.shape[first:at]), x.shape[at], math.prod(x.shape[at + 1 :]))


def _summary(row: list[float]) -> ErrorSummary:
    count, samples, exact = int(row[_COUNT]), int(row[_SAMPLES]), int(row[_EXACT])
    if samples == exact:
        ratio = math.inf if samples else math.nan
    else:
        mean = row[_RATIOS] / (samples - exact)
        ratio = 20 * math.log10(mean) if mean > 0 else -math.inf
    size = math.sqrt(row[_XX]) * math.sqrt(row[_YY])
    angle = row[_XY] / size if size > 0 else float(row[_XX] == row[_YY])
    return ErrorSummary(
        sqnr=ratio,
        mse=row[_DD] / count if count else math.nan,
        cosine=min(1.0, max(-1.0, angle)) if count else math.nan,
        max_error=row[_LARGEST],
        samples=samples,
        exact=exact,
    )
