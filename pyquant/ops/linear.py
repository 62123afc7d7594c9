"""Linear layers."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pyquant import _C
from pyquant.ops.common import Integers, dense, limits

__all__ = ["PackedWeights", "gemm", "pack_gemm"]

PackedWeights: TypeAlias = _C.GemmWeights


def pack_gemm(
    w: ArrayLike,
    bias: ArrayLike | None = None,
    multiplier: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    *,
    x_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    dtype: DTypeLike = "int8",
) -> PackedWeights:
    """Check and pack the weights of `gemm` for this machine, to use them more than once.

    The arguments are those of `gemm`.
    """
    kind, low, high = np.dtype(dtype), 0, 0
    if kind != np.int32:
        kind, low, high = limits(kind, quant_min, quant_max)
    return _C.GemmWeights(
        dense(w),
        None if bias is None else dense(bias),
        None if multiplier is None else dense(multiplier),
        None if shift is None else dense(shift),
        x_zero_point=x_zero_point,
        zero_point=zero_point,
        quant_min=low,
        quant_max=high,
        dtype=kind,
    )


def gemm(
    x: ArrayLike,
    w: ArrayLike | PackedWeights,
    bias: ArrayLike | None = None,
    multiplier: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    *,
    x_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    dtype: DTypeLike = "int8",
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> Integers:
    """``y = requantize((x - x_zero_point) @ w.T + bias)``, one factor an output column (gemm.h).

    Parameters
    ----------
    x : int8 [..., k]
    w : int8 [n, k], or what `pack_gemm` gave (then the other constants are in it)
    bias : int32 [n], optional
    multiplier, shift : int32 [n] and uint8 [n]
        Not used for ``dtype="int32"``, which gives the accumulators.
    dtype : {"int8", "int16", "int32"}

    Returns
    -------
    ndarray of `dtype` [..., n]

    Raises
    ------
    OverflowError
        A column's ``|bias| + 255 * sum |w|`` passes 2^31 - 1.

    Examples
    --------
    >>> x, w = np.array([[1, 2]], np.int8), np.array([[3, 4], [5, -6]], np.int8)
    >>> gemm(x, w, dtype="int32").tolist()
    [[11, -7]]
    """
    if not isinstance(w, PackedWeights):
        w = pack_gemm(
            w,
            bias,
            multiplier,
            shift,
            x_zero_point=x_zero_point,
            zero_point=zero_point,
            quant_min=quant_min,
            quant_max=quant_max,
            dtype=dtype,
        )
    given = np.asarray(x)
    if given.ndim == 2:
        rows = given if given.strides[1] == given.itemsize else dense(given)
        return _C.gemm(rows if _has_rows(rows) else dense(rows), w, out, threads)
    if given.ndim == 0:
        raise ValueError("gemm: expected x of at least 1 axis, got 0")
    n = w.shape[0]
    shape = given.shape[:-1]
    flat_out = None if out is None else _reshaped(out, (math.prod(shape), n), (*shape, n))
    flat = dense(given).reshape(math.prod(shape), given.shape[-1])
    y = _C.gemm(flat, w, flat_out, threads)
    return y.reshape(*shape, n) if out is None else out


def _has_rows(x: NDArray[Any]) -> bool:
    return bool(x.shape[0] < 2 or x.strides[0] >= x.shape[1] * x.itemsize)


def _reshaped(out: NDArray[Any], flat: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[Any]:
    """A view of `out` in another shape; the C side checks the rest."""
    if out.shape != shape:
        raise ValueError(f"expected out of shape {shape}, got {out.shape}")
    if not out.flags.c_contiguous:
        raise ValueError("expected out C-contiguous, got other strides")
    return out.reshape(flat)
