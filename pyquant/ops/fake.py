"""Fake-quantization on NumPy arrays, forward and backward."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyquant import _C
from pyquant.ops.common import dense

__all__ = ["fake_quantize", "fake_quantize_backward", "fake_quantize_learned_backward"]


def _grids(
    op: str, scale: ArrayLike, zero_point: ArrayLike, axis: int | None
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    scales = np.ascontiguousarray(scale, np.float32).reshape(-1)
    if axis is None and scales.size != 1:
        raise ValueError(f"{op}: expected one scale without an axis, got {scales.size}")
    zeros = np.asarray(zero_point)
    if not np.issubdtype(zeros.dtype, np.integer):
        raise TypeError(f"{op}: expected zero_point of an integer type, got {zeros.dtype}")
    if zeros.size and not -32768 <= zeros.min() <= zeros.max() <= 32767:
        raise ValueError(f"{op}: expected zero points of int16's range, got {zeros.min()} to {zeros.max()}")
    return scales, np.ascontiguousarray(zeros, np.int32).reshape(-1)


@overload
def fake_quantize(
    x: ArrayLike,
    scale: ArrayLike,
    zero_point: ArrayLike = ...,
    quant_min: int = ...,
    quant_max: int = ...,
    *,
    axis: int | None = ...,
    mask: Literal[False] = ...,
    out: NDArray[Any] | None = ...,
    threads: int | None = ...,
) -> NDArray[np.float32]: ...


@overload
def fake_quantize(
    x: ArrayLike,
    scale: ArrayLike,
    zero_point: ArrayLike = ...,
    quant_min: int = ...,
    quant_max: int = ...,
    *,
    axis: int | None = ...,
    mask: Literal[True],
    threads: int | None = ...,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]: ...


def fake_quantize(
    x: ArrayLike,
    scale: ArrayLike,
    zero_point: ArrayLike = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    *,
    axis: int | None = None,
    mask: bool = False,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> NDArray[np.float32] | tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """`dequantize` of `quantize` in one pass (quantize.h, fake.h).

    Parameters
    ----------
    x : float32 array
    scale : float32, one or [channels]
    zero_point : int, or integers [channels] along `axis`
    quant_min, quant_max : int
        Of int16's range.
    mask : bool
        Also tell which elements lie inside: ``quant_min <= rint(x / scale) + zero_point <= quant_max``.
    out : ndarray, optional
        May be `x`. Not with a mask, nor with a zero point for each channel.

    Returns
    -------
    float32 array of the shape of `x`
        With `mask`: and a uint8 array, bit ``i % 8`` of byte ``i // 8`` for element i in C order.
    """
    zeros = np.asarray(zero_point)
    if not mask and zeros.ndim == 0:
        scales, _ = _grids("fake_quantize", scale, zeros, axis)
        return _C.fake_quantize(
            dense(x),
            scales,
            zero_point=int(zeros),
            quant_min=quant_min,
            quant_max=quant_max,
            axis=axis,
            out=out,
            threads=threads,
        )
    if out is not None:
        raise ValueError("fake_quantize: expected no out with a mask or several zero points")
    result, bits = _C.fake_quantize_mask(
        dense(x),
        *_grids("fake_quantize", scale, zeros, axis),
        quant_min=quant_min,
        quant_max=quant_max,
        axis=axis,
        threads=threads,
    )
    return (result, bits) if mask else result


def fake_quantize_backward(
    g: ArrayLike, mask: NDArray[np.uint8], *, threads: int | None = None
) -> NDArray[np.float32]:
    """Straight-through gradient: `g` where the bit of `mask` is set, else 0 (fake.h).

    Parameters
    ----------
    g : float32 array
    mask : uint8 [ceil(g.size / 8)]
        As `fake_quantize` gives it.
    """
    return _C.fake_quantize_backward(dense(g), mask, threads=threads)


def fake_quantize_learned_backward(
    x: ArrayLike,
    g: ArrayLike,
    scale: ArrayLike,
    zero_point: ArrayLike = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    *,
    axis: int | None = None,
    threads: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Gradients of learned step size quantization [1]_ [2]_, in one pass over `x` and `g` (fake.h).

    Parameters
    ----------
    x, g : float32 arrays of one shape
    scale : float32, one or [channels]
    zero_point : int, or integers [channels]
    quant_min, quant_max : int

    Returns
    -------
    dx : float32 array of the shape of `x`
    d_scale, d_zero_point : float64 [channels], [1] without an axis
        Sums without LSQ's factor 1 / sqrt(count * quant_max).

    References
    ----------
    .. [1] Esser et al., Learned Step Size Quantization, arXiv 1902.08153, eq. 3 and 5.
    .. [2] Bhalgat et al., LSQ+, arXiv 2004.09576.
    """
    return _C.fake_quantize_learned_backward(
        dense(x),
        dense(g),
        *_grids("fake_quantize_learned_backward", scale, zero_point, axis),
        quant_min=quant_min,
        quant_max=quant_max,
        axis=axis,
        threads=threads,
    )
