"""Linear layers."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pyquant import _C
from pyquant.ops.common import Integers, dense, limits

__all__ = [
    "PackedWeights",
    "gemm",
    "gemm_s8s4",
    "pack_gemm",
    "pack_gemm_s8s4",
    "pack_s4",
    "unpack_s4",
]

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
    return _run(x, w, out, threads)


def _run(x: ArrayLike, w: PackedWeights, out: NDArray[Any] | None, threads: int | None) -> Integers:
    """x [..., k] times packed weights."""
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


def pack_s4(w: ArrayLike) -> NDArray[np.uint8]:
    """Weights in [-8, 7] two to a byte, the even k in the low half; rows begin at a byte (gemm_s8s4.h).

    Parameters
    ----------
    w : integers [n, k]

    Returns
    -------
    ndarray of uint8 [n, ceil(k / 2)]

    Raises
    ------
    ValueError
        A weight is out of range, or w has not two axes.

    Examples
    --------
    >>> pack_s4([[1, -8, 7]]).tolist()
    [[129, 7]]
    """
    given = np.asarray(w)
    if given.dtype.kind not in "iu":
        raise TypeError(f"pack_s4: expected w of integers, got dtype {given.dtype}")
    if given.ndim != 2:
        raise ValueError(f"pack_s4: expected w of 2 axes, got {given.ndim}")
    if given.size and not (given.min() >= -8 and given.max() <= 7):
        raise ValueError(f"pack_s4: expected w in [-8, 7], got [{given.min()}, {given.max()}]")
    halves = np.zeros((given.shape[0], (given.shape[1] + 1) // 2 * 2), np.uint8)
    halves[:, : given.shape[1]] = given.astype(np.int8).view(np.uint8) & 15
    packed: NDArray[np.uint8] = halves[:, ::2] | halves[:, 1::2] << 4
    return packed


def unpack_s4(w: ArrayLike, k: int) -> NDArray[np.int8]:
    """The inverse of `pack_s4`: the first k weights of each row.

    Parameters
    ----------
    w : uint8 [n, ceil(k / 2)]

    Returns
    -------
    ndarray of int8 [n, k]
    """
    given = np.asarray(w)
    if given.dtype != np.uint8 or given.ndim != 2 or given.shape[1] != (k + 1) // 2:
        raise ValueError(
            f"unpack_s4: expected w uint8 (n, {(k + 1) // 2}) for k = {k}, got {given.dtype} {given.shape}"
        )
    halves = np.stack([given & 15, given >> 4], axis=2).reshape(given.shape[0], 2 * given.shape[1])[:, :k]
    weights: NDArray[np.int8] = (halves.astype(np.int8) ^ 8) - np.int8(8)
    return weights


def pack_gemm_s8s4(
    w: ArrayLike,
    k: int,
    bias: ArrayLike | None = None,
    multiplier: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    *,
    group_size: int = 0,
    group_multiplier: ArrayLike | None = None,
    x_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    dtype: DTypeLike = "int8",
) -> PackedWeights:
    """Check and pack the weights of `gemm_s8s4` for this machine, to use them more than once.

    The arguments are those of `gemm_s8s4`; k is the number of weights in a row. `gemm` takes the result too.
    """
    kind, low, high = np.dtype(dtype), 0, 0
    if kind != np.int32:
        kind, low, high = limits(kind, quant_min, quant_max)
    return _C.pack_gemm_s8s4(
        dense(w),
        k,
        None if bias is None else dense(bias),
        None if multiplier is None else dense(multiplier),
        None if shift is None else dense(shift),
        group_size=group_size,
        group_multiplier=None if group_multiplier is None else dense(group_multiplier),
        x_zero_point=x_zero_point,
        zero_point=zero_point,
        quant_min=low,
        quant_max=high,
        dtype=kind,
    )


def gemm_s8s4(
    x: ArrayLike,
    w: ArrayLike | PackedWeights,
    bias: ArrayLike | None = None,
    multiplier: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    *,
    group_size: int = 0,
    group_multiplier: ArrayLike | None = None,
    x_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    dtype: DTypeLike = "int8",
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> Integers:
    """`gemm` with weights of four bits, and optionally a small multiplier a group of k (gemm_s8s4.h).

    ``y = requantize(sum_g f_g * ((x - x_zero_point)_g @ w_g.T) + bias)``

    Parameters
    ----------
    x : int8 [..., k]
    w : uint8 [n, ceil(k / 2)], or what `pack_gemm_s8s4` gave (then the other constants are in it)
        Two weights a byte, as `pack_s4` makes them.
    bias, multiplier, shift, x_zero_point, zero_point, quant_min, quant_max, dtype
        As for `gemm`.
    group_size : int
        A multiple of 4, or 0 for one scale a column.
    group_multiplier : uint8 [n, ceil(k / group_size)], optional
        In [1, 255]; with a `group_size` only.

    Returns
    -------
    ndarray of `dtype` [..., n]

    Raises
    ------
    OverflowError
        A column's ``|bias| + 255 * sum f |w|`` passes 2^31 - 1.

    Examples
    --------
    >>> x, w = np.array([[1, 2, 0, 0, 5]], np.int8), pack_s4([[3, -4, 0, 0, 1]])
    >>> gemm_s8s4(x, w, dtype="int32").tolist()
    [[0]]
    >>> factors = np.array([[1, 10]], np.uint8)
    >>> gemm_s8s4(x, w, group_size=4, group_multiplier=factors, dtype="int32").tolist()
    [[45]]
    """
    if not isinstance(w, PackedWeights):
        shape = np.shape(x)
        if not shape:
            raise ValueError("gemm_s8s4: expected x of at least 1 axis, got 0")
        w = pack_gemm_s8s4(
            w,
            shape[-1],
            bias,
            multiplier,
            shift,
            group_size=group_size,
            group_multiplier=group_multiplier,
            x_zero_point=x_zero_point,
            zero_point=zero_point,
            quant_min=quant_min,
            quant_max=quant_max,
            dtype=dtype,
        )
    return _run(x, w, out, threads)
