"""Normalisation and softmax of rows, and what works element by element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pyquant import _C
from pyquant.numerics import NORM_METHODS, softmax_method_code
from pyquant.ops.common import Integers, check_axis, dense, limits

__all__ = ["add", "layernorm", "mean", "requantize", "softmax", "table"]


def _norm_code(method: str) -> int:
    if method not in NORM_METHODS:
        raise ValueError(f"layernorm: expected method to be one of {', '.join(NORM_METHODS)}, got {method!r}")
    return NORM_METHODS[method]


def layernorm(
    x: ArrayLike,
    gain: ArrayLike,
    offset: ArrayLike,
    *,
    epsilon: int,
    shift: int,
    rms: bool = False,
    x_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    dtype: DTypeLike = "int8",
    method: str = "exact",
    iterations: int = 0,
    alpha: ArrayLike | None = None,
    exponent: ArrayLike | None = None,
    ptf_multiplier: int = 0,
    ptf_shift: int = 0,
    ptf_zero_point: int = 0,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> Integers:
    """Integer LayerNorm (or RMSNorm) over the last axis (layernorm.h).

    Parameters
    ----------
    x : int8 or int16 [..., C], C in [1, 32767]
    gain : int32 [C]
    offset : int64 [C]
    epsilon, shift : int
        As `pyquant.numerics.derive_layernorm` gives.
    rms : bool
        RMSNorm: no mean is subtracted, and `x_zero_point` counts.
    x_zero_point : int
        Used by RMSNorm and by the method ptf.
    method, iterations, alpha, exponent, ptf_multiplier, ptf_shift, ptf_zero_point
        As `pyquant.numerics.derive_layernorm` gives for a method other than ``exact``.

    Returns
    -------
    ndarray of `dtype`, the shape of x
    """
    kind, low, high = limits(dtype, quant_min, quant_max)
    return _C.layernorm(
        dense(x),
        dense(gain),
        dense(offset),
        epsilon,
        shift,
        rms=rms,
        x_zero_point=x_zero_point,
        zero_point=zero_point,
        dtype=kind,
        out=out,
        threads=threads,
        quant_min=low,
        quant_max=high,
        method=_norm_code(method),
        iterations=iterations,
        alpha=None if alpha is None else dense(alpha),
        exponent=None if exponent is None else dense(exponent),
        ptf_multiplier=ptf_multiplier,
        ptf_shift=ptf_shift,
        ptf_zero_point=ptf_zero_point,
    )


def softmax(
    x: ArrayLike,
    table: ArrayLike,
    *,
    method: str,
    delta_max: int,
    softmax_multiplier: int,
    softmax_shift: int,
    pmax: int,
    multiplier: int,
    shift: int,
    softmax_bits: int = 0,
    zero_point: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    dtype: DTypeLike = "int8",
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> Integers:
    """Integer softmax over the last axis, by one of the methods of attention (softmax_rows.h).

    Parameters
    ----------
    x : int8 or int16 [..., n]
        Its zero point does not matter.
    table, method, delta_max, softmax_multiplier, softmax_shift, pmax, softmax_bits, multiplier, shift
        As `pyquant.numerics.derive_softmax` gives.

    Returns
    -------
    ndarray of `dtype`, the shape of x

    Examples
    --------
    >>> from pyquant.numerics import derive_softmax
    >>> constants = derive_softmax("table16", (0.1, 0, -128, 127), (1 / 256, -128, -128, 127), 3)
    >>> y = softmax(np.array([10, 10, -100], np.int8), **constants.keywords(), zero_point=-128)
    >>> ((y.astype(int) + 128) / 256).tolist()
    [0.5, 0.5, 0.0]
    """
    kind, low, high = limits(dtype, quant_min, quant_max)
    return _C.softmax(
        dense(x),
        dense(table),
        softmax_method_code(method),
        delta_max,
        softmax_multiplier,
        softmax_shift,
        pmax,
        multiplier,
        shift,
        softmax_bits=softmax_bits,
        zero_point=zero_point,
        dtype=kind,
        out=out,
        threads=threads,
        quant_min=low,
        quant_max=high,
    )


def table(
    x: ArrayLike, table: ArrayLike, *, out: NDArray[Any] | None = None, threads: int | None = None
) -> NDArray[np.int8]:
    """``y = table[x + 128]``: any function of int8 to int8 (elementwise.h).

    Parameters
    ----------
    x : int8, any shape
    table : int8 [256]

    Examples
    --------
    >>> negate = np.arange(128, -128, -1).clip(-128, 127).astype(np.int8)
    >>> globals()["table"](np.array([-128, 5], np.int8), negate).tolist()
    [127, -5]
    """
    return _C.table(dense(x), dense(table), out, threads)


def requantize(
    x: ArrayLike,
    multiplier: int,
    shift: int,
    *,
    x_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    dtype: DTypeLike = "int8",
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> Integers:
    """Move integers to another grid: ``(x - x_zero_point) * multiplier / 2**shift``, half up (elementwise.h).

    Parameters
    ----------
    x : int8 or int16, any shape

    Examples
    --------
    >>> requantize(np.array([3, -3, 100], np.int8), 2**30, 31).tolist()
    [2, -1, 50]
    """
    kind, low, high = limits(dtype, quant_min, quant_max)
    return _C.requantize(
        dense(x),
        multiplier,
        shift,
        x_zero_point=x_zero_point,
        zero_point=zero_point,
        dtype=kind,
        out=out,
        threads=threads,
        quant_min=low,
        quant_max=high,
    )


def add(
    a: ArrayLike,
    b: ArrayLike,
    *,
    a_multiplier: int,
    b_multiplier: int,
    shift: int,
    a_zero_point: int = 0,
    b_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    dtype: DTypeLike = "int16",
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> Integers:
    """Residual add of two grids onto a third, with one rounding (elementwise.h).

    Parameters
    ----------
    a, b : int8 or int16
        Broadcast as NumPy does. No copy is made where b's shape is the end of a's.
    a_multiplier, b_multiplier, shift : int
        As `pyquant.numerics.derive_add` gives.
    """
    kind, low, high = limits(dtype, quant_min, quant_max)
    a, b = dense(a), dense(b)
    shape = np.broadcast_shapes(a.shape, b.shape)
    trailing = b.reshape(b.shape[next((i for i, n in enumerate(b.shape) if n != 1), b.ndim) :])
    if a.shape != shape:
        a = dense(np.broadcast_to(a, shape))
    if trailing.shape != shape[len(shape) - trailing.ndim :]:
        trailing = dense(np.broadcast_to(b, shape))
    return _C.add(
        a,
        trailing,
        a_multiplier,
        b_multiplier,
        shift,
        a_zero_point=a_zero_point,
        b_zero_point=b_zero_point,
        zero_point=zero_point,
        dtype=kind,
        out=out,
        threads=threads,
        quant_min=low,
        quant_max=high,
    )


def mean(
    x: ArrayLike,
    axis: int,
    multiplier: int,
    shift: int,
    *,
    keepdims: bool = False,
    x_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    dtype: DTypeLike = "int8",
    threads: int | None = None,
) -> Integers:
    """Mean over one axis of 1 to 32,767 elements (elementwise.h).

    Parameters
    ----------
    x : int8 or int16
    multiplier, shift : int
        Of ``x_scale / (elements * y_scale)``.
    """
    kind, low, high = limits(dtype, quant_min, quant_max)
    array = dense(x)
    at = check_axis("mean", axis, array.ndim)
    before, after = array.shape[:at], array.shape[at + 1 :]
    y = _C.mean(
        array.reshape(math.prod(before), array.shape[at], math.prod(after)),
        multiplier,
        shift,
        x_zero_point=x_zero_point,
        zero_point=zero_point,
        dtype=kind,
        threads=threads,
        quant_min=low,
        quant_max=high,
    )
    return y.reshape(*before, *((1,) if keepdims else ()), *after)
