"""Each bad argument of pq.ops is one clear error: it names the argument, the rule and the value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pyquant import _C, numerics, ops

X = np.zeros((2, 4), np.int8)
W = np.ones((3, 4), np.int8)
SQUARE = np.ones((3, 3), np.int8)
M = np.full(3, 2**30, np.int32)
S = np.full(3, 31, np.uint8)
HALF = {"multiplier": 2**30, "shift": 31}
ADD = {"a_multiplier": 2**30, "b_multiplier": 2**30, "shift": 31}
GRID = (0.1, 0, -128, 127)
SOFTMAX = numerics.derive_attention("table16", GRID, GRID, GRID, GRID, 1.0, 4, 6).keywords()
ROWS = numerics.derive_softmax("table16", GRID, GRID, 4).keywords()
NORM = numerics.derive_layernorm(4, None, None, 1e-5, 0.1, 0.1).keywords()
Q = np.zeros((1, 2, 3, 4), np.int8)
K = np.zeros((1, 2, 6, 4), np.int8)
F = np.zeros(4, np.float32)


def misaligned(dtype: str, size: int) -> np.ndarray:
    raw = np.zeros(size * np.dtype(dtype).itemsize + 1, np.uint8)
    return raw[1:].view(dtype)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def shared(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """x and out of that shape, one element apart."""
    flat = np.zeros(int(np.prod(shape)) + 1, np.int8)
    return {"x": flat[:-1].reshape(shape), "out": flat[1:].reshape(shape)}


def attention(**changes: Any) -> Any:
    return ops.attention(**{"q": Q, "k": K, "v": K, **SOFTMAX, **changes})


# op: (call, exception, words that the message must have)
CASES: dict[str, tuple[Callable[[], Any], type[Exception], list[str]]] = {
    "x float": (lambda: ops.gemm(F[None], W, dtype="int32"), TypeError, ["x", "int8", "float32"]),
    "x int64": (lambda: ops.gemm([[1, 2]], W, dtype="int32"), TypeError, ["x", "int8", "int64"]),
    "x and w disagree": (lambda: ops.gemm(X[:, :3], W, dtype="int32"), ValueError, ["(m, 4)", "(2, 3)"]),
    "x scalar": (lambda: ops.gemm(np.int8(3), W, dtype="int32"), ValueError, ["x", "1 axis"]),
    "w 1-D": (lambda: ops.gemm(X, W[0], dtype="int32"), ValueError, ["w", "2 axes", "got 1"]),
    "no multiplier": (lambda: ops.gemm(X, W), TypeError, ["multiplier", "None"]),
    "short bias": (lambda: ops.gemm(X, W, M[:2], M, S), ValueError, ["bias", "3 elements", "got 2"]),
    "bias int64": (lambda: ops.gemm(X, W, M.astype(np.int64), M, S), TypeError, ["bias", "int32"]),
    "shift int32": (lambda: ops.gemm(X, W, None, M, M), TypeError, ["shift", "uint8", "int32"]),
    "multiplier out of range": (lambda: ops.gemm(X, W, None, M // 2, S), ValueError, ["multiplier"]),
    "shift 0": (lambda: ops.gemm(X, W, None, M, S * 0), ValueError, ["shift"]),
    "x_zero_point": (lambda: ops.gemm(X, W, None, M, S, x_zero_point=128), ValueError, ["128"]),
    "clamp upside down": (
        lambda: ops.gemm(X, W, None, M, S, quant_min=5, quant_max=4),
        ValueError,
        ["quant"],
    ),
    "quant_max beyond int8": (lambda: ops.gemm(X, W, None, M, S, quant_max=128), ValueError, ["128"]),
    "accumulator": (
        lambda: ops.gemm(X, W, np.full(3, 2**31 - 1, np.int32), dtype="int32"),
        OverflowError,
        ["column", "0"],
    ),
    "dtype float": (lambda: ops.gemm(X, W, None, M, S, dtype="float32"), TypeError, ["dtype", "float32"]),
    "dtype int64": (lambda: ops.requantize(X, **HALF, dtype="int64"), TypeError, ["dtype", "int64"]),
    "threads 0": (lambda: ops.gemm(X, W, dtype="int32", threads=0), ValueError, ["threads", "0"]),
    "threads text": (lambda: ops.gemm(X, W, dtype="int32", threads="2"), TypeError, ["threads", "str"]),  # type: ignore[arg-type]
    "out shape": (
        lambda: ops.gemm(X, W, dtype="int32", out=np.zeros((2, 4), np.int32)),
        ValueError,
        ["out", "3", "4"],
    ),
    "out dtype": (
        lambda: ops.gemm(X, W, dtype="int32", out=np.zeros((2, 3), np.int16)),
        TypeError,
        ["out", "int32", "int16"],
    ),
    "out read-only": (
        lambda: ops.requantize(X, **HALF, out=read_only(X)),
        ValueError,
        ["out", "writable", "read-only"],
    ),
    "out overlaps x": (lambda: ops.requantize(**shared((2, 4)), **HALF), ValueError, ["out", "overlap", "x"]),
    "gemm in place": (
        lambda: ops.gemm(SQUARE, SQUARE, None, M, S, out=SQUARE),
        ValueError,
        ["out", "overlap", "x"],
    ),
    "quant_min beyond int8": (lambda: ops.gemm(X, W, None, M, S, quant_min=-200), ValueError, ["-200"]),
    "out strided": (
        lambda: ops.requantize(X, **HALF, out=np.zeros((2, 8), np.int8)[:, ::2]),
        ValueError,
        ["out", "contiguous"],
    ),
    "misaligned x": (lambda: ops.requantize(misaligned("int16", 4), **HALF), ValueError, ["x", "aligned"]),
    "byte order": (lambda: ops.requantize(X.astype(">i2"), **HALF), TypeError, ["x", "byte order"]),
    "multiplier float": (lambda: ops.requantize(X, 1.5, 31), TypeError, ["multiplier", "float"]),  # type: ignore[arg-type]
    "multiplier bool": (lambda: ops.requantize(X, True, 31), TypeError, ["multiplier", "bool"]),
    "multiplier huge": (lambda: ops.requantize(X, 2**70, 31), ValueError, ["multiplier", str(2**70)]),
    "shift 63": (lambda: ops.requantize(X, 2**30, 63), ValueError, ["shift", "63"]),
    "zero point outside": (
        lambda: ops.requantize(X, **HALF, zero_point=5, quant_max=4),
        ValueError,
        ["zero_point", "5"],
    ),
    "x_zero_point of s8": (lambda: ops.requantize(X, **HALF, x_zero_point=40000), ValueError, ["40000"]),
    "x int32": (lambda: ops.requantize(M, **HALF), TypeError, ["x", "int8 or int16", "int32"]),
    "table size": (lambda: ops.table(X, X[0]), ValueError, ["table", "256", "4"]),
    "table of s16": (lambda: ops.table(X.astype(np.int16), X), TypeError, ["x", "int8", "int16"]),
    "add shapes": (lambda: ops.add(X, W, **ADD), ValueError, ["broadcast"]),
    "add small multipliers": (
        lambda: ops.add(X, X, a_multiplier=5, b_multiplier=5, shift=3),
        ValueError,
        ["multiplier", "5"],
    ),
    "mean axis": (lambda: ops.mean(X, 2, **HALF), ValueError, ["axis", "2"]),
    "mean of nothing": (lambda: ops.mean(X[:, :0], 1, **HALF), ValueError, ["reduce", "0"]),
    "mean of too many": (lambda: ops.mean(np.zeros(32768, np.int8), 0, **HALF), ValueError, ["32768"]),
    "layernorm gain": (
        lambda: ops.layernorm(X[:, :3], **NORM),
        ValueError,
        ["gain", "3", "4"],
    ),
    "layernorm scalar": (lambda: ops.layernorm(np.int8(1), **NORM), ValueError, ["x", "axis"]),
    "layernorm epsilon": (lambda: ops.layernorm(X, **{**NORM, "epsilon": -1}), ValueError, ["epsilon", "-1"]),
    "layernorm shift": (lambda: ops.layernorm(X, **{**NORM, "shift": 63}), ValueError, ["shift", "63"]),
    "layernorm offset": (
        lambda: ops.layernorm(X, **{**NORM, "offset": np.full(4, 2**62)}),
        (ValueError, OverflowError),  # type: ignore[dict-item]
        ["offset"],
    ),
    "softmax scalar": (lambda: ops.softmax(np.int8(1), **ROWS), ValueError, ["x", "axis"]),
    "softmax x int32": (lambda: ops.softmax(M, **ROWS), TypeError, ["x", "int8 or int16", "int32"]),
    "softmax method": (lambda: ops.softmax(X, **{**ROWS, "method": "best"}), ValueError, ["table16", "best"]),
    "softmax table": (
        lambda: ops.softmax(X, **{**ROWS, "method": "ibert"}),
        TypeError,
        ["table", "int32", "int16"],
    ),
    "softmax entries": (
        lambda: ops.softmax(X, **{**ROWS, "method": "ibert", "table": np.zeros(8193, np.int32)}),
        ValueError,
        ["table", "8192", "8193"],
    ),
    "softmax pmax": (lambda: ops.softmax(X, **{**ROWS, "pmax": 20000}), ValueError, ["pmax", "20000"]),
    "softmax shift": (lambda: ops.softmax(X, **{**ROWS, "shift": 62}), OverflowError, ["62 bits"]),
    "softmax out": (lambda: ops.softmax(X, **ROWS, out=X[:, :3]), ValueError, ["out"]),
    "softmax y_scale": (
        lambda: numerics.derive_softmax("table16", GRID, (2.0**20, 0, -128, 127), 5000),
        OverflowError,
        ["y_scale", "5000"],
    ),
    "method": (lambda: attention(method="exact"), ValueError, ["method", "table16", "exact"]),
    "q axes": (lambda: attention(q=Q[0]), ValueError, ["q", "axes", "3"]),
    "k head_dim": (lambda: attention(k=K[..., :3]), ValueError, ["k", "axis 4", "3"]),
    "v keys": (lambda: attention(v=K[:, :, :5]), ValueError, ["v", "axis 3", "5"]),
    "heads": (lambda: attention(q=Q.repeat(3, 1)[:, :5], k=K, v=K), ValueError, ["heads", "5"]),
    "keep shape": (lambda: attention(keep=np.ones((3, 5), bool)), ValueError, ["keep", "6", "5"]),
    "keep float": (lambda: attention(keep=np.ones((3, 6), np.float32)), TypeError, ["keep", "float32"]),
    "mask int64": (lambda: attention(mask_add=np.zeros((3, 6), np.int64)), TypeError, ["mask_add", "int64"]),
    "pmax": (lambda: attention(pmax=20000), ValueError, ["pmax", "20000"]),
    "delta_max": (lambda: attention(delta_max=2**33), ValueError, ["delta_max", str(2**33)]),
    "attention out shares": (
        lambda: attention(out=np.lib.stride_tricks.as_strided(np.zeros(64, np.int8), Q.shape, (0, 0, 4, 1))),
        ValueError,
        ["out"],
    ),
    "attention out overlaps": (lambda: attention(out=Q), ValueError, ["out", "overlap", "q"]),
    "copy out of range": (lambda: ops.copy(X, (9,), (1,)), ValueError, ["copy"]),
    "copy negative offset": (lambda: ops.copy(X, (1,), (1,), -1), ValueError, ["copy"]),
    "copy huge": (lambda: ops.copy(X, (2**62, 8), (0, 0)), (ValueError, OverflowError), ["copy"]),  # type: ignore[dict-item]
    "copy strides": (lambda: ops.copy(X, (2, 2), (1,)), ValueError, ["strides", "2", "1"]),
    "copy axes": (lambda: ops.copy(X, (1,) * 9, (0,) * 9), ValueError, ["shape", "8", "9"]),
    "copy of floats": (lambda: ops.copy(F, (1,), (1,)), TypeError, ["x", "float32"]),
    "concat nothing": (lambda: ops.concat([]), ValueError, ["array"]),
    "concat many": (lambda: ops.concat([X] * 9), ValueError, ["8", "9"]),
    "concat dtypes": (lambda: ops.concat([X, X.astype(np.int16)]), TypeError, ["int8", "int16"]),
    "concat shapes": (lambda: ops.concat([X, W[:, :3]]), ValueError, ["(2, 4)", "(3, 3)"]),
    "gather range": (lambda: ops.gather(W, np.array([3], np.int32)), IndexError, ["3"]),
    "gather negative": (lambda: ops.gather(W, np.array([-1], np.int32)), IndexError, ["-1"]),
    "gather int64": (lambda: ops.gather(W, np.array([1])), TypeError, ["index", "int32", "int64"]),
    "quantize NaN": (lambda: ops.quantize(F * np.nan, 1.0), ValueError, ["NaN"]),
    "quantize float64": (lambda: ops.quantize(F.astype(float), 1.0), TypeError, ["x", "float32", "float64"]),
    "scale 0": (lambda: ops.quantize(F, 0.0), ValueError, ["scale", "0"]),
    "scale NaN": (lambda: ops.quantize(F, np.nan), ValueError, ["scale", "nan"]),
    "scales without axis": (lambda: ops.quantize(F, [1.0, 2.0]), ValueError, ["scale", "2"]),
    "scales of axis": (lambda: ops.quantize(F, [1.0, 2.0], axis=0), ValueError, ["scale", "4", "2"]),
    "axis": (lambda: ops.quantize(F, [1.0], axis=1), ValueError, ["axis", "1"]),
    "histogram infinity": (lambda: ops.Histogram().update(F + np.inf), ValueError, ["inf"]),
    "minmax NaN": (lambda: ops.minmax(F * np.nan), ValueError, ["NaN"]),
    "not an array": (lambda: _C.table("abc", X[0]), TypeError, ["x", "NumPy array", "str"]),  # type: ignore[arg-type]
    "dyadic 0": (lambda: numerics.derive_dyadic(0.0), ValueError, ["0"]),
    "dyadic huge": (lambda: numerics.derive_dyadic(2.0**40), OverflowError, ["dyadic"]),
    "dyadic text": (lambda: numerics.derive_dyadic("1"), TypeError, ["real", "str"]),  # type: ignore[arg-type]
    "function": (lambda: numerics.derive_table("sinc", GRID, GRID), ValueError, ["function", "sinc"]),
    "grid": (lambda: numerics.derive_table("relu", (0.1, 0), GRID), TypeError, ["x", "(0.1, 0)"]),  # type: ignore[arg-type]
    "bits": (lambda: numerics.derive_weight_scale(F[None], None, 1.0, 9), ValueError, ["bits", "9"]),
    "weights NaN": (lambda: numerics.derive_weight_scale(F[None] * np.nan, None, 1.0), ValueError, ["NaN"]),
    "isa": (lambda: _C.isa_limit("sse9"), ValueError, ["avx2", "sse9"]),
}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("name", CASES)
def test_bad_argument(name: str) -> None:
    call, exception, words = CASES[name]
    with pytest.raises(exception) as caught:
        call()
    message = str(caught.value)
    assert not [word for word in words if word.lower() not in message.lower()], message
    assert len(message) < 300
    assert "\n" not in message
