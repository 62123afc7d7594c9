"""Known-answer check of every kernel that this machine can run.

Inputs come from a counter-based generator written out here, so that no version of NumPy can change them.
The answers in `pyquant.selftest_answers` are digests of what the executable specification makes of the
same inputs (``python -m tests.golden.make_selftest``); no kernel had a part in them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyquant import _C
from pyquant.numerics import softmax_method_code
from pyquant.selftest_answers import ANSWERS

__all__ = ["CASES", "GRID_X", "GRID_Y", "Case", "Result", "digest", "run"]

Array = NDArray[Any]

RANGE = {"int8": (-128, 127), "int16": (-32768, 32767)}
# 2^x in 32 steps an octave, scaled to pmax, and the constants of a 64-wide head (docs/numerics/attention.md).
TABLES = {
    "table16": (
        (32766, 32064, 31377, 30704, 30047, 29403, 28773, 28156, 27553, 26962, 26385, 25819, 25266, 24725,
         24195, 23676, 23169, 22673, 22187, 21711, 21246, 20791, 20345, 19909, 19483, 19065, 18657, 18257,
         17866, 17483, 17108, 16742),
        16383,
    ),
    "table8": (
        (510, 499, 488, 478, 468, 458, 448, 438, 429, 420, 411, 402, 393, 385, 377, 369, 361, 353, 345, 338,
         331, 324, 317, 310, 303, 297, 290, 284, 278, 272, 266, 261),
        255,
    ),
}  # fmt: skip
GRID_X = (float(np.float32(0.04)), -11, -128, 127)
GRID_Y = (float(np.float32(0.03)), 5, -128, 127)


@dataclass(frozen=True, eq=False)
class Case:
    """One call: the row of the kernel list it checks, the op, and its operands by name."""

    kernel: str
    op: str
    name: str
    arrays: Mapping[str, Array] = field(default_factory=dict)
    numbers: Mapping[str, int | str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its name among the answers."""
        return f"{self.kernel}: {self.name}"


@dataclass(frozen=True)
class Result:
    """What became of one kernel; ``status`` is ``ok``, ``MISMATCH`` or ``not checked``."""

    kernel: str
    isa: str
    status: str
    detail: str


def digest(*arrays: Array) -> str:
    """Half a SHA-256 of dtypes, shapes and elements: 128 bits tell slips from answers."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.name}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return sha.hexdigest()[:32]


# ---- inputs ----


def _words(seed: int, count: int) -> NDArray[np.uint64]:
    """splitmix64 of `seed * 2^32 + i`."""
    x = np.arange(count, dtype=np.uint64) + np.uint64(seed << 32)
    x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)  # wraps, as it should
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def _integers(seed: int, shape: tuple[int, ...], dtype: str, low: int, high: int) -> Array:
    words = _words(seed, int(np.prod(shape))) % np.uint64(high - low + 1)
    values: Array = (words.astype(np.int64) + low).astype(dtype).reshape(shape)
    return values


def _full(seed: int, shape: tuple[int, ...], dtype: str) -> Array:
    return _integers(seed, shape, dtype, *RANGE[dtype])


def _clamp(dtype: str, zero_point: int) -> dict[str, int | str]:
    low, high = RANGE[dtype]
    return {"zero_point": zero_point, "quant_min": low + 3, "quant_max": high - 2, "dtype": dtype}


def _gemm(seed: int, m: int, n: int, k: int, dtype: str, ends: bool = False) -> Case:
    """`ends`: only the least and the greatest values, where a 16-bit sum would saturate."""
    x, w = _full(seed, (m, k), "int8"), _integers(seed + 1, (n, k), "int8", -127, 127)
    if ends:
        x, w = np.where(x < 0, -128, 127).astype(np.int8), np.where(w < 0, -127, 127).astype(np.int8)
    arrays = {"x": x, "w": w, "bias": _integers(seed + 2, (n,), "int32", -2000, 2000)}
    numbers: dict[str, int | str] = {"x_zero_point": -17, "dtype": dtype}
    if dtype != "int32":
        arrays["multiplier"] = _integers(seed + 3, (n,), "int32", 2**30, 2**31 - 1)
        # A sum of k products spreads over about 7400 sqrt(k); this maps it to a third of the type.
        arrays["shift"] = np.full(n, {"int8": 41, "int16": 33}[dtype] + ends, np.uint8)
        numbers |= _clamp(dtype, 5)
    name = f"{m}x{n}x{k} to {dtype}{' at the ends' if ends else ''}"
    return Case("gemm_s8s8", "gemm", name, arrays, numbers)


def _gemm_chains(seed: int, m: int, n: int, k: int, ends: bool = False) -> Case:
    """Four k whole, four halved, four quartered, and so on, which makes chains of one, two and three."""
    case = _gemm(seed, m, n, k, "int8", ends)
    arrays = {**case.arrays, "w": case.arrays["w"] >> (np.arange(k) // 4 % 3).astype(np.int8)}
    # Left to itself, packing takes chains only where the machine's best kernel has a form for them.
    return replace(case, kernel="gemm_chains", arrays=arrays, numbers={**case.numbers, "chains": 1})


def _gemm_s8s4(seed: int, m: int, n: int, k: int, group_size: int, dtype: str, ends: bool = False) -> Case:
    """Any even k: each byte of w is two weights. `ends`: only -8 and 7."""
    x = _full(seed, (m, k), "int8")
    w = _integers(seed + 1, (n, k // 2), "uint8", 0, 255)
    if ends:
        x, w = np.where(x < 0, -128, 127).astype(np.int8), np.where(w < 128, 0x88, 0x77).astype(np.uint8)
    arrays = {"x": x, "w": w, "bias": _integers(seed + 2, (n,), "int32", -2000, 2000)}
    numbers: dict[str, int | str] = {"x_zero_point": -17, "group_size": group_size, "dtype": dtype}
    if group_size:
        arrays["group_multiplier"] = _integers(seed + 3, (n, -(-k // group_size)), "uint8", 1, 255)
    if dtype != "int32":
        arrays["multiplier"] = _integers(seed + 4, (n,), "int32", 2**30, 2**31 - 1)
        # A sum of k products spreads over about 340 sqrt(k), times 150 in groups.
        arrays["shift"] = np.full(n, {"int8": 37, "int16": 29}[dtype] + 7 * (group_size > 0), np.uint8)
        numbers |= _clamp(dtype, 5)
    groups = f" in groups of {group_size}" if group_size else ""
    name = f"{m}x{n}x{k}{groups} to {dtype}{' at the ends' if ends else ''}"
    return Case("gemm_s8s4", "gemm_s8s4", name, arrays, numbers)


def _attention(seed: int, method: str, q_len: int, k_len: int, d: int, causal: bool) -> Case:
    table, pmax = TABLES[method]
    arrays = {
        "q": _full(seed, (1, 2, q_len, d), "int8"),
        "k": _full(seed + 1, (1, 1, k_len, d), "int8"),
        "v": _full(seed + 2, (1, 1, k_len, d), "int8"),
        "keep": _integers(seed + 3, (1, 1, q_len, k_len), "uint8", 0, 1),
        "table": np.array(table, np.int16),
    }
    arrays["keep"][..., 0, :] = 0  # a row without a key
    numbers: dict[str, int | str] = {
        "q_zero_point": 0, "k_zero_point": 9, "v_zero_point": -4, "method": method, "delta_max": 51987,
        "softmax_multiplier": 77454, "softmax_shift": 23, "pmax": pmax, "multiplier": 1431655765, "shift": 30,
        "zero_point": 5, "quant_min": -128, "quant_max": 127, "causal": int(causal),
    }  # fmt: skip
    name = f"{q_len} queries, {k_len} keys, width {d}, {method}{', causal' if causal else ''}"
    return Case("attention_s8", "attention", name, arrays, numbers)


def _layernorm(seed: int, channels: int, x_type: str, y_type: str, rms: bool) -> Case:
    shift = {"int8": 40, "int16": 32}[y_type]
    reach = 2 ** (shift + 4)
    arrays = {
        "x": _full(seed, (3, channels), x_type),
        "gain": _integers(seed + 1, (channels,), "int32", -(2**30), 2**30),
        "offset": _integers(seed + 2, (channels,), "int64", -reach, reach),
    }
    arrays["x"][1] = -1  # no variance
    arrays["x"][1, 0] = 1  # little variance
    numbers: dict[str, int | str] = {"epsilon": 12345, "shift": shift, "rms": int(rms)}
    numbers |= {"x_zero_point": -7 if rms else 0, **_clamp(y_type, -3)}
    name = f"{channels} channels, {x_type} to {y_type}{', rms' if rms else ''}"
    return Case("layernorm", "layernorm", name, arrays, numbers)


def _layernorm_newton(seed: int, code: int, x_type: str, y_type: str, rms: bool) -> Case:
    """Methods 1 to 3 (layernorm.h). |z| is at most 2^30, so that this gain reaches a third of the type."""
    case = _layernorm(seed, 67, x_type, y_type, rms)
    shift = {"int8": 52, "int16": 43}[y_type]
    arrays = {**case.arrays, "offset": case.arrays["offset"] << (shift - int(case.numbers["shift"]))}
    numbers = {**case.numbers, "epsilon": 0, "shift": shift, "method": code}
    numbers["iterations"] = 4 if code == 2 else 0
    name = f"method {code}, {case.name}"
    return replace(case, kernel="layernorm_newton", name=name, arrays=arrays, numbers=numbers)


def _layernorm_ptf(seed: int, x_type: str, y_type: str, rms: bool) -> Case:
    """Gains of both signs, some of them 0; a shift to 8 bits that saturates now and then."""
    case = _layernorm(seed, 83, x_type, y_type, rms)
    gain = _integers(seed + 3, (83,), "int32", 2**30, 2**31 - 1) * (case.arrays["x"][0] % 3 - 1)
    arrays = {
        **case.arrays,
        "gain": gain.astype(np.int32),
        "offset": case.arrays["offset"] >> (int(case.numbers["shift"]) - 32),
        "alpha": _integers(seed + 4, (83,), "uint8", 0, 3),
        "exponent": _integers(seed + 5, (83,), "uint8", 18, 21) - {"int8": 0, "int16": 8}[y_type],
    }
    numbers: dict[str, int | str] = {
        **case.numbers,
        "epsilon": 0,
        "shift": 32,
        "method": 4,
        "x_zero_point": -7,
    }
    numbers |= {"ptf_multiplier": 1717986918, "ptf_shift": {"int8": 29, "int16": 37}[x_type]}
    name = f"method 4, {case.name}"
    return replace(
        case, kernel="layernorm_ptf", name=name, arrays=arrays, numbers={**numbers, "ptf_zero_point": -9}
    )


def _softmax(seed: int, method: str, x_type: str, y_type: str) -> Case:
    """On the finest grid that holds 1."""
    unit = {"int8": 12582912, "int16": 49152}[x_type]  # the whole type spans 12 octaves of 32 steps
    x = _full(seed, (5, 77), x_type)
    x[1] = -3  # all alike
    x[2, 9:] = RANGE[x_type][0]
    numbers: dict[str, int | str] = {"method": method, "multiplier": 1082130432, "softmax_bits": 0}
    numbers |= {"softmax_multiplier": unit, "softmax_shift": 23, "pmax": 16383}
    numbers |= {"shift": {"int8": 23, "int16": 15}[y_type], **_clamp(y_type, -90)}
    if method in TABLES:
        table, numbers["pmax"] = TABLES[method]
        stored: Array = np.array(table, np.int16)
    else:  # no method's own exponentials: what divides before and what does not is what counts here
        stored = (np.arange(300, -1, -1, dtype=np.int32) ** 2 * 7) // 40
        numbers |= {"softmax_bits": 8, "pmax": 255}
    numbers["delta_max"] = min((2**32 - 2**22 - 1) // unit, 65535)
    name = f"5x77, {method}, {x_type} to {y_type}"
    return Case("softmax_rows", "softmax", name, {"x": x, "table": stored}, numbers)


def _requantize(seed: int, x_type: str, y_type: str, multiplier: int, shift: int) -> Case:
    numbers: dict[str, int | str] = {"x_zero_point": 11, "multiplier": multiplier, "shift": shift}
    arrays = {"x": _full(seed, (201,), x_type)}
    return Case("requantize", "requantize", f"{x_type} to {y_type}", arrays, {**numbers, **_clamp(y_type, 4)})


def _add(seed: int, types: tuple[str, str, str], multipliers: tuple[int, int], shift: int) -> Case:
    arrays = {"a": _full(seed, (5, 67), types[0]), "b": _full(seed + 1, (67,), types[1])}
    numbers: dict[str, int | str] = {"a_zero_point": 3, "b_zero_point": -8, "shift": shift}
    numbers |= {"a_multiplier": multipliers[0], "b_multiplier": multipliers[1], **_clamp(types[2], -2)}
    return Case("add", "add", f"{types[0]} and {types[1]} to {types[2]}", arrays, numbers)


def _mean(seed: int, x_type: str, y_type: str, multiplier: int, shift: int) -> Case:
    numbers: dict[str, int | str] = {"x_zero_point": 6, "multiplier": multiplier, "shift": shift}
    arrays = {"x": _full(seed, (2, 33, 41), x_type)}
    return Case("mean", "mean", f"{x_type} to {y_type}", arrays, {**numbers, **_clamp(y_type, 1)})


def _transpose(seed: int, dtype: str) -> Case:
    """Larger than two tiles of `copy`, in both directions no multiple of a vector."""
    return Case("transpose", "transpose", f"131x83 of {dtype}", {"x": _full(seed, (131, 83), dtype)})


def _floats(seed: int, count: int) -> Array:
    """Exact multiples of 2^-13 up to 64 in size, with ties of the scale 1/2 among them."""
    x = _integers(seed, (count,), "int64", -(2**19), 2**19)
    x[::5] = (x[::5] // 4096) * 4096 + 2048
    return (x * 2.0**-13).astype(np.float32)


def _quantize(seed: int, dtype: str, scale: float) -> Case:
    arrays = {"x": _floats(seed, 301), "scale": np.array([scale], np.float32)}
    return Case("quantize_f32", "quantize", f"{dtype} in steps of {scale}", arrays, _clamp(dtype, -5))


def _quantize_channels(seed: int) -> Case:
    """A scale for each of the last axis' channels, powers of two times 3 / 8."""
    scale = np.ldexp(np.float32(0.375), _integers(seed, (43,), "int32", -2, 2)).astype(np.float32)
    arrays = {"x": _floats(seed + 1, 7 * 43).reshape(7, 43), "scale": scale}
    return Case("quantize_f32", "quantize", "43 channels", arrays, {**_clamp("int8", 2), "axis": 1})


def _levels(seed: int, count: int, size: int) -> Case:
    """Octaves of both signs, thresholds at 3/4, which are exact; scales of 3/8 and 1/2 for two columns."""
    half = 2.0 ** (np.arange(count // 2) - count // 2 + 6)
    table = np.concatenate([-half[::-1], half]).astype(np.float32)
    arrays = {"x": _floats(seed, 2 * size).reshape(size, 2), "scale": np.array([0.375, 0.5], np.float32)}
    outer = table * np.float32(0.75)
    limits = np.concatenate([outer[: count // 2 - 1], np.zeros(1, np.float32), outer[count // 2 + 1 :]])
    arrays |= {"levels": table, "thresholds": limits}
    return Case("levels", "levels", f"{count} levels", arrays, {"axis": 1})


def _fake(seed: int) -> Case:
    """Eighths of a step on both sides of the range, gradients in quarters: every sum is exact."""
    x = _integers(seed, (1003,), "int32", -1200, 1200).astype(np.float32) * np.float32(0.03125)
    g = _integers(seed + 1, (1003,), "int32", -8, 8).astype(np.float32) * np.float32(0.25)
    scale, zero_point = np.array([0.25], np.float32), np.array([3], np.int32)
    arrays = {"x": x, "g": g, "scale": scale, "zero_point": zero_point}
    return Case("fake_forward", "fake", "1003 elements", arrays, {"quant_min": -128, "quant_max": 127})


def _fake_back(case: Case) -> Case:
    return replace(case, kernel="fake_backward", op="fake_back")


def _cases() -> Iterator[Case]:
    for i, dtype in enumerate(("int8", "int16", "int32")):
        yield _gemm(10 + 10 * i, 13, 130, 70, dtype)
    yield _gemm(40, 5, 65, 300, "int32", ends=True)
    yield _gemm(50, 5, 65, 300, "int8", ends=True)
    yield _gemm_chains(60, 13, 130, 70)
    yield _gemm_chains(70, 1, 65, 300, ends=True)
    yield _gemm_s8s4(300, 13, 130, 70, 0, "int8")
    yield _gemm_s8s4(310, 13, 130, 150, 32, "int16")
    yield _gemm_s8s4(320, 1, 130, 150, 12, "int32")
    yield _gemm_s8s4(330, 2, 65, 300, 0, "int32", ends=True)
    yield _gemm_s8s4(340, 7, 65, 300, 64, "int8", ends=True)
    for i, method in enumerate(TABLES):
        yield _attention(60 + 10 * i, method, 9, 70, 40, causal=False)
        yield _attention(80 + 10 * i, method, 35, 35, 16, causal=True)
    for seed, shape, causal in ((300, (9, 200, 40), False), (310, (135, 135, 8), True)):
        same = _attention(seed, "table16", *shape, causal=causal)
        yield replace(same, kernel="attention_online64_s8", op="attention_online64")
    for i, x_type in enumerate(RANGE):
        for j, y_type in enumerate(RANGE):
            yield _layernorm(100 + 20 * i + 10 * j, 197, x_type, y_type, rms=False)
            yield _layernorm(140 + 20 * i + 10 * j, 67, x_type, y_type, rms=True)
            for code in (1, 2, 3):
                yield _layernorm_newton(400 + 20 * i + 10 * j, code, x_type, y_type, rms=code == 2)
            yield _layernorm_ptf(440 + 20 * i + 10 * j, x_type, y_type, rms=i == j)
    for i, method in enumerate((*TABLES, "ibert")):
        for j, (x_type, y_type) in enumerate((("int8", "int8"), ("int16", "int16"))):
            yield _softmax(180 + 2 * i + j, method, x_type, y_type)
    table = {"x": _full(200, (1003,), "int8"), "table": _full(201, (256,), "int8")}
    yield Case("table_s8", "table", "1003 elements", table)
    yield _requantize(210, "int8", "int8", 1717986918, 31)
    yield _requantize(211, "int8", "int16", 1677721600, 24)
    yield _requantize(212, "int16", "int8", 1832519379, 39)
    yield _requantize(213, "int16", "int16", 1717986918, 31)
    yield _add(220, ("int8", "int8", "int8"), (1717986854, 1288490141), 31)
    yield _add(222, ("int16", "int16", "int16"), (1288490141, 1717986854), 31)
    yield _add(224, ("int16", "int8", "int16"), (8000000, 1500000000), 23)
    yield _add(226, ("int8", "int8", "int16"), (1100000000, 1500000000), 23)
    yield _mean(230, "int8", "int8", 2082408385, 36)
    yield _mean(231, "int8", "int16", 2082408385, 28)
    yield _mean(232, "int16", "int8", 2082408385, 44)
    yield _mean(233, "int16", "int16", 2082408385, 36)
    yield _transpose(234, "int8")
    yield _transpose(235, "int16")
    yield _quantize(240, "int8", 0.5)
    yield _quantize(241, "int8", 0.37)
    yield _quantize(242, "int16", 0.003)
    yield _quantize_channels(243)
    yield _fake(260)
    yield _fake_back(_fake(260))
    yield _levels(244, 16, 100)
    yield _levels(246, 90, 1100)
    yield Case("observe_minmax", "observe", "501 elements", {"x": _floats(250, 501)})
    columns = {"x": _floats(251, 5 * 43).reshape(5, 43)}
    yield Case("observe_minmax", "observe", "43 channels", columns, {"axis": 1})
    # Grows in a piece of 512 and between two; values on edges of bins, and some left behind the last piece.
    growing = _floats(252, 1741) * np.exp2(np.arange(1741) // 400 * 2 - 9).astype(np.float32)
    yield Case("observe_histogram", "histogram", "1741 growing elements", {"x": growing})
    yield Case(
        "observe_histogram", "histogram", "1100 tiny elements", {"x": growing[:1100] * np.float32(2.0**-125)}
    )
    x = _floats(260, 5003)
    yield Case("metrics_sums", "metrics", "5003 elements", {"x": x, "y": x + _floats(261, 5003) / 8})
    tiny = {"x": x * np.float32(2.0**-70), "y": x * np.float32(1.5 * 2.0**-70)}
    yield Case("metrics_sums", "metrics", "5003 tiny elements", tiny)
    for i, dtype in enumerate(RANGE):
        integers = {"x": x, "y": _full(262 + i, (5003,), dtype), "scale": np.array([0.004], np.float32)}
        yield Case("metrics_sums", "metrics", f"5003 elements, {dtype}", integers, {"zero_point": 3})


CASES: tuple[Case, ...] = tuple(_cases())


# ---- calls ----


def _call_gemm(arrays: dict[str, Any], numbers: dict[str, Any]) -> tuple[Array, ...]:
    x = arrays.pop("x")
    return (_C.gemm(x, _C.GemmWeights(**arrays, **numbers), threads=1),)


def _call_gemm_s8s4(arrays: dict[str, Any], numbers: dict[str, Any]) -> tuple[Array, ...]:
    x = arrays.pop("x")
    return (_C.gemm(x, _C.pack_gemm_s8s4(k=x.shape[1], **arrays, **numbers), threads=1),)


def _call_attention(
    entry: Callable[..., Array], arrays: dict[str, Any], numbers: dict[str, Any]
) -> tuple[Array, ...]:
    # The kernels know windows as a second axis.
    arrays = {name: array[:, None] if array.ndim == 4 else array for name, array in arrays.items()}
    numbers["method"] = softmax_method_code(numbers["method"])
    numbers["causal"] = bool(numbers["causal"])
    return (entry(**arrays, **numbers, threads=1)[:, 0],)


def _call_layernorm(arrays: dict[str, Any], numbers: dict[str, Any]) -> tuple[Array, ...]:
    numbers["rms"] = bool(numbers["rms"])
    return (_C.layernorm(**arrays, **numbers, threads=1),)


def _call_softmax(arrays: dict[str, Any], numbers: dict[str, Any]) -> tuple[Array, ...]:
    numbers["method"] = softmax_method_code(numbers["method"])
    return (_C.softmax(**arrays, **numbers, threads=1),)


def _call_transpose(arrays: dict[str, Any], numbers: dict[str, Any]) -> tuple[Array, ...]:
    x = arrays["x"]
    return (_C.copy(x, x.shape[::-1], (1, x.shape[1]), threads=1),)


def _call_quantize(arrays: dict[str, Any], numbers: dict[str, Any]) -> tuple[Array, ...]:
    q = _C.quantize(**arrays, **numbers, threads=1)
    back = _C.dequantize(q, arrays["scale"], numbers["zero_point"], numbers.get("axis"), threads=1)
    fake = _C.fake_quantize(**arrays, **{n: v for n, v in numbers.items() if n != "dtype"}, threads=1)
    return q, back, fake


def _call_levels(arrays: dict[str, Any], numbers: dict[str, Any]) -> tuple[Array, ...]:
    return tuple(_C.levels(**arrays, **numbers, codes=codes, threads=1) for codes in (False, True))


def _call_fake(arrays: dict[str, Any], numbers: dict[str, Any]) -> tuple[Array, ...]:
    del arrays["g"]
    y, mask = _C.fake_quantize_mask(**arrays, **numbers, threads=1)
    return y, mask


def _call_fake_back(arrays: dict[str, Any], numbers: dict[str, Any]) -> tuple[Array, ...]:
    mask = np.packbits(np.arange(arrays["g"].size) % 3 == 0, bitorder="little")
    straight = _C.fake_quantize_backward(arrays["g"], mask, threads=1)
    learned = _C.fake_quantize_learned_backward(**arrays, **numbers, threads=1)
    return straight, *learned


def _call_observe(arrays: dict[str, Any], numbers: dict[str, Any]) -> tuple[Array, ...]:
    x, axis = arrays["x"], numbers.get("axis")
    count = 1 if axis is None else x.shape[axis]
    low, high = np.full(count, np.inf, np.float32), np.full(count, -np.inf, np.float32)
    _C.observe_minmax(x, low, high, axis, threads=1)
    return low, high


def _call_histogram(arrays: dict[str, Any], numbers: dict[str, Any]) -> tuple[Array, ...]:
    counts = np.zeros(_C.HISTOGRAM_BINS, np.int64)
    meta = np.array([0.0, np.inf, -np.inf, _C.HISTOGRAM_EMPTY])
    _C.observe_histogram(arrays["x"], counts, meta, threads=1)
    return counts, meta


def _call_metrics(arrays: dict[str, Any], numbers: dict[str, Any]) -> tuple[Array, ...]:
    states = np.zeros((1, _C.METRICS_STATE))
    x, y = arrays["x"], arrays["y"]
    scale = float(arrays["scale"][0]) if "scale" in arrays else 1.0
    _C.metrics_update(x, y, states, 1, 1, 1, x.size, scale, numbers.get("zero_point", 0), threads=1)
    return (states[0, :5],)


_CALLS: dict[str, Callable[[dict[str, Any], dict[str, Any]], tuple[Array, ...]]] = {
    "gemm": _call_gemm,
    "gemm_s8s4": _call_gemm_s8s4,
    "attention": partial(_call_attention, _C.attention),
    "attention_online64": partial(_call_attention, _C.attention_online64),
    "layernorm": _call_layernorm,
    "softmax": _call_softmax,
    "table": lambda arrays, numbers: (_C.table(**arrays, **numbers, threads=1),),
    "requantize": lambda arrays, numbers: (_C.requantize(**arrays, **numbers, threads=1),),
    "add": lambda arrays, numbers: (_C.add(**arrays, **numbers, threads=1),),
    "mean": lambda arrays, numbers: (_C.mean(**arrays, **numbers, threads=1),),
    "transpose": _call_transpose,
    "quantize": _call_quantize,
    "fake": _call_fake,
    "fake_back": _call_fake_back,
    "levels": _call_levels,
    "observe": _call_observe,
    "histogram": _call_histogram,
    "metrics": _call_metrics,
}


@contextmanager
def _limited_to(isa: str) -> Iterator[None]:
    _C.isa_limit(isa)
    try:
        yield
    finally:
        _C.isa_limit(os.environ.get("PYQUANT_ISA") or None)


def _check(kernel: str, isa: str, answers: Mapping[str, str]) -> Result:
    wrong, cases = [], [case for case in CASES if case.kernel == kernel]
    with _limited_to(isa):
        for case in cases:
            outputs = _CALLS[case.op](dict(case.arrays), dict(case.numbers))
            if digest(*outputs) != answers.get(case.key):
                wrong.append(case.name)
    if not cases:
        return Result(kernel, isa, "MISMATCH", "no known answer is stored for this kernel")
    if wrong:
        return Result(kernel, isa, "MISMATCH", f"{len(wrong)} of {len(cases)} cases: {'; '.join(wrong)}")
    return Result(kernel, isa, "ok", f"{len(cases)} cases")


def _check_tables(answers: Mapping[str, str]) -> Result:
    """The tables made at convert go through the machine's libm; in a saved program they are stored."""
    names = _C.unary_names()
    made = {name: digest(_C.derive_table(name, GRID_X, GRID_Y)) for name in names}
    wrong = [name for name in names if made[name] != answers.get(f"derive_table: {name}")]
    status = "MISMATCH" if wrong else "ok"
    return Result("derive_table", "libm", status, "; ".join(wrong) or f"{len(names)} functions")


def run(answers: Mapping[str, str] = ANSWERS) -> tuple[Result, ...]:
    """Check every kernel of this build that the machine and ``PYQUANT_ISA`` allow.

    Not to be called while other threads run kernels: it switches instruction sets for the process.
    """
    present = set(_C.cpu_features())
    results = []
    for kernel, isa, needs, eligible in _C.kernels():
        if eligible:
            results.append(_check(kernel, isa, answers))
            continue
        missing = [feature for feature in needs if feature not in present]
        limit = f"PYQUANT_ISA={os.environ.get('PYQUANT_ISA')}"
        results.append(
            Result(kernel, isa, "not checked", f"no {', '.join(missing)} here" if missing else limit)
        )
    results.append(_check_tables(answers))
    return tuple(results)
