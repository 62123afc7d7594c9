"""The integer kernels on NumPy arrays.

All functions check everything, raise one clear error for a bad argument, release the GIL, and answer
Ctrl-C. Results do not depend on `threads` or on the instruction set.

Arguments that come back everywhere:

threads : int, optional
    Threads to use; None is ``OMP_NUM_THREADS``, else the processors of this process.
out : ndarray, optional
    Where the result goes: C-contiguous, of the result's shape and dtype. It may not overlap an operand,
    except that element-wise functions may write over an operand exactly.
zero_point, quant_min, quant_max : int
    The output's map: the rounded value plus `zero_point`, clamped. The limits default to all of `dtype`.
dtype : {"int8", "int16"}
    Of the output.
multiplier, shift : int
    The factor ``multiplier / 2**shift``; see `pyquant.numerics.derive_dyadic`.

The exact integer definitions are in the C headers named by each function; where the constants come from
is in `pyquant.numerics`.

Raises, all functions: TypeError for a dtype or kind of argument, ValueError for a shape, range, layout
or overlap, OverflowError where a constant or a size does not fit, MemoryError, KeyboardInterrupt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pyquant import _C
from pyquant.numerics import softmax_method_code

__all__ = [
    "AttentionTrace",
    "Histogram",
    "PackedWeights",
    "add",
    "attention",
    "attention_trace",
    "concat",
    "copy",
    "dequantize",
    "fake_quantize",
    "gather",
    "gemm",
    "layernorm",
    "mean",
    "minmax",
    "pack_gemm",
    "quantize",
    "requantize",
    "table",
]

Integers: TypeAlias = NDArray[np.signedinteger[Any]]
PackedWeights: TypeAlias = _C.GemmWeights


def _dense(value: ArrayLike) -> NDArray[Any]:
    """An array in C order, copied only where it is not; dtype and byte order stay, and are checked in C."""
    array = np.asarray(value)
    return array if array.flags.c_contiguous else array.copy(order="C")


def _limits(dtype: DTypeLike, quant_min: int | None, quant_max: int | None) -> tuple[np.dtype[Any], int, int]:
    """The dtype, and the limits with their defaults."""
    kind = np.dtype(dtype)
    if kind not in (np.int8, np.int16):
        raise TypeError(f"expected dtype to be int8 or int16, got {kind}")
    info = np.iinfo(kind)
    low = int(info.min) if quant_min is None else quant_min
    high = int(info.max) if quant_max is None else quant_max
    return kind, low, high


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
        kind, low, high = _limits(kind, quant_min, quant_max)
    return _C.GemmWeights(
        _dense(w),
        None if bias is None else _dense(bias),
        None if multiplier is None else _dense(multiplier),
        None if shift is None else _dense(shift),
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
        rows = given if given.strides[1] == given.itemsize else _dense(given)
        return _C.gemm(rows if _has_rows(rows) else _dense(rows), w, out, threads)
    if given.ndim == 0:
        raise ValueError("gemm: expected x of at least 1 axis, got 0")
    n = w.shape[0]
    shape = given.shape[:-1]
    flat_out = None if out is None else _reshaped(out, (math.prod(shape), n), (*shape, n))
    flat = _dense(given).reshape(math.prod(shape), given.shape[-1])
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


class AttentionTrace(NamedTuple):
    """What an attention computed on its way.

    y int8 as `attention` gives; score int32 [batch, groups, heads, q_len, k_len], in steps of
    ``q_scale * k_scale``; p uint16 of that shape, the weights in units of the row maximum's ``pmax``;
    l uint32 [batch, groups, heads, q_len], the sums of p. The softmax is ``p / l``.
    """

    y: NDArray[np.int8]
    score: NDArray[np.int32]
    p: NDArray[np.uint16]
    l: NDArray[np.uint32]  # noqa: E741


def _attention_operands(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, keep: ArrayLike | None, mask_add: ArrayLike | None
) -> tuple[list[NDArray[Any]], list[NDArray[Any] | None], bool]:
    """q, k, v, keep, mask_add of five axes each; whether the caller gave four."""
    arrays = [np.asarray(value) for value in (q, k, v)]
    four = arrays[0].ndim == 4
    axes = 4 if four else 5
    for name, array in zip("qkv", arrays, strict=True):
        if array.ndim != axes or not 4 <= array.ndim <= 5:
            raise ValueError(f"attention: expected {name} of 4 or 5 axes like q, got {array.ndim}")
    arrays = [array[:, None] if four else array for array in arrays]
    arrays = [a if a.shape[-1] < 2 or a.strides[-1] == a.itemsize else _dense(a) for a in arrays]
    masks: list[NDArray[Any] | None] = []
    for name, value in (("keep", keep), ("mask_add", mask_add)):
        mask = None if value is None else np.asarray(value)
        if mask is not None:
            if mask.ndim > axes:
                raise ValueError(f"attention: expected {name} of at most {axes} axes, got {mask.ndim}")
            mask = mask.reshape((1,) * (axes - mask.ndim) + mask.shape)
            mask = mask[:, None] if four else mask
        masks.append(mask)
    return arrays, masks, four


def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    table: ArrayLike,
    *,
    method: str,
    delta_max: int,
    softmax_multiplier: int,
    softmax_shift: int,
    pmax: int,
    multiplier: int,
    shift: int,
    q_zero_point: int = 0,
    k_zero_point: int = 0,
    v_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    keep: ArrayLike | None = None,
    mask_add: ArrayLike | None = None,
    causal: bool = False,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> NDArray[np.int8]:
    """Integer scaled-dot-product attention, softmax inside (attention.h).

    Parameters
    ----------
    q : int8 [batch, heads, q_len, d] or [batch, groups, heads, q_len, d]
    k, v : int8, the same with kv_heads (which divides heads) and k_len
    table, method, delta_max, softmax_multiplier, softmax_shift, pmax, multiplier, shift
        As `pyquant.numerics.derive_attention` gives.
    keep : uint8 or bool, broadcast to [..., heads, q_len, k_len], optional
        0 excludes the key.
    mask_add : int32, the same, optional
        Added to the scores; |value| <= 2^24.
    causal : bool
        Exclude key j for query i where ``j > i + (k_len - q_len)``.

    Returns
    -------
    ndarray of int8, the shape of q
    """
    arrays, masks, four = _attention_operands(q, k, v, keep, mask_add)
    if out is not None and four:
        if out.ndim != 4:
            raise ValueError(f"attention: expected out of 4 axes, got {out.ndim}")
        out = out[:, None]
    y = _C.attention(
        arrays[0],
        arrays[1],
        arrays[2],
        _dense(table),
        method=softmax_method_code(method),
        delta_max=delta_max,
        softmax_multiplier=softmax_multiplier,
        softmax_shift=softmax_shift,
        pmax=pmax,
        multiplier=multiplier,
        shift=shift,
        q_zero_point=q_zero_point,
        k_zero_point=k_zero_point,
        v_zero_point=v_zero_point,
        zero_point=zero_point,
        quant_min=quant_min,
        quant_max=quant_max,
        keep=masks[0],
        mask_add=masks[1],
        causal=causal,
        out=out,
        threads=threads,
    )
    return y[:, 0] if four else y


def attention_trace(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    table: ArrayLike,
    *,
    method: str,
    keep: ArrayLike | None = None,
    mask_add: ArrayLike | None = None,
    **constants: Any,
) -> AttentionTrace:
    """`attention` on the reference kernel, with its sub-sites. The arguments are the same, without `out`."""
    if "out" in constants:
        raise TypeError("attention_trace: out is not an argument")
    arrays, masks, four = _attention_operands(q, k, v, keep, mask_add)
    y, score, p, l = _C.attention_trace(  # noqa: E741
        arrays[0],
        arrays[1],
        arrays[2],
        _dense(table),
        softmax_method_code(method),
        keep=masks[0],
        mask_add=masks[1],
        **constants,
    )
    return AttentionTrace(y[:, 0] if four else y, score, p, l)


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

    Returns
    -------
    ndarray of `dtype`, the shape of x
    """
    kind, low, high = _limits(dtype, quant_min, quant_max)
    return _C.layernorm(
        _dense(x),
        _dense(gain),
        _dense(offset),
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
    return _C.table(_dense(x), _dense(table), out, threads)


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
    kind, low, high = _limits(dtype, quant_min, quant_max)
    return _C.requantize(
        _dense(x),
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
    kind, low, high = _limits(dtype, quant_min, quant_max)
    a, b = _dense(a), _dense(b)
    shape = np.broadcast_shapes(a.shape, b.shape)
    trailing = b.reshape(b.shape[next((i for i, n in enumerate(b.shape) if n != 1), b.ndim) :])
    if a.shape != shape:
        a = _dense(np.broadcast_to(a, shape))
    if trailing.shape != shape[len(shape) - trailing.ndim :]:
        trailing = _dense(np.broadcast_to(b, shape))
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
    kind, low, high = _limits(dtype, quant_min, quant_max)
    array = _dense(x)
    at = _axis("mean", axis, array.ndim)
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


def _axis(op: str, axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise ValueError(f"{op}: expected {-ndim} <= axis < {ndim}, got {axis}")
    return axis % ndim


def copy(
    x: ArrayLike,
    shape: Sequence[int],
    strides: Sequence[int],
    offset: int = 0,
    *,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """``y[i0, i1, ..] = x.flat[offset + i0 * strides[0] + i1 * strides[1] + ..]`` (layout.h).

    Any transpose, slice, flip, expansion or cut into patches, as a new array.

    Parameters
    ----------
    x : any integer type, any shape
    shape, strides : up to 8 ints each
        Strides in elements; negative and zero are allowed.

    Examples
    --------
    >>> copy(np.arange(6, dtype=np.int8), (3, 2), (1, 3)).tolist()
    [[0, 3], [1, 4], [2, 5]]
    """
    return _C.copy(_dense(x), shape, strides, offset, out, threads)


def concat(arrays: Sequence[ArrayLike], axis: int = 0, *, threads: int | None = None) -> NDArray[Any]:
    """Join up to 8 arrays of one integer type along an axis (layout.h).

    Examples
    --------
    >>> concat([np.array([[1], [2]], np.int8), np.array([[3], [4]], np.int8)], axis=1).tolist()
    [[1, 3], [2, 4]]
    """
    parts = [_dense(array) for array in arrays]
    if not parts or parts[0].ndim == 0:
        raise ValueError("concat: expected at least 1 array of at least 1 axis")
    at = _axis("concat", axis, parts[0].ndim)
    before, after = parts[0].shape[:at], parts[0].shape[at + 1 :]
    for part in parts:
        if part.ndim != parts[0].ndim or (part.shape[:at], part.shape[at + 1 :]) != (before, after):
            raise ValueError(
                f"concat: expected arrays that agree on every axis but {at}, "
                f"got shapes {parts[0].shape} and {part.shape}"
            )
    outer, inner = math.prod(before), math.prod(after)
    y = _C.concat([part.reshape(outer, part.shape[at] * inner) for part in parts], outer, None, threads)
    return y.reshape(*before, sum(part.shape[at] for part in parts), *after)


def gather(table: ArrayLike, index: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
    """``table[index]`` along the first axis (layout.h).

    Parameters
    ----------
    table : any integer type [rows, ...]
    index : int32, any shape

    Raises
    ------
    IndexError
        An index is outside [0, rows); negative ones do not count from the end.
    """
    rows, where = _dense(table), _dense(index)
    if rows.ndim < 1:
        raise ValueError("gather: expected table of at least 1 axis, got 0")
    inner = rows.shape[1:]
    y = _C.gather(rows.reshape(rows.shape[0], math.prod(inner)), where.reshape(-1), None, threads)
    return y.reshape(*where.shape, *inner)


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
    kind, low, high = _limits(dtype, quant_min, quant_max)
    return _C.quantize(
        _dense(x),
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
        _dense(q), _scales(scale, axis), zero_point=zero_point, axis=axis, out=out, threads=threads
    )


def fake_quantize(
    x: ArrayLike,
    scale: ArrayLike,
    zero_point: int = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    *,
    axis: int | None = None,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """`dequantize` of `quantize`, in one pass (quantize.h). `out` may be `x`."""
    return _C.fake_quantize(
        _dense(x),
        _scales(scale, axis),
        zero_point=zero_point,
        quant_min=quant_min,
        quant_max=quant_max,
        axis=axis,
        out=out,
        threads=threads,
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
    array = _dense(x)
    channels = 1 if axis is None else array.shape[_axis("minmax", axis, array.ndim)]
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
        _C.observe_histogram(_dense(x), self.counts, self.meta, threads=threads)

    def merge(self, other: Histogram) -> None:
        """Add what another histogram has seen."""
        _C.histogram_merge(self.counts, self.meta, other.counts, other.meta)
