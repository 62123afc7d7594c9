"""Inputs that every implementation of an op is tried on: random ones, and the ones at the ends of the ranges.

A Case is an op's name with its arrays and integers; `tests/spec/arrays.py` runs the specification on it,
`tests/variants/calls.py` the C kernels. Golden vectors are cases with their results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tests.spec import derive
from tests.spec.attention import Softmax
from tests.spec.gemm import pack_s4
from tests.spec.numbers import Affine, Dyadic, dyadic, float32

Array = NDArray[np.generic]
Rng = np.random.Generator

TYPE_RANGE = {"int8": (-128, 127), "int16": (-32768, 32767)}
ENDS = ("random", "low", "high", "mixed")


@dataclass(frozen=True)
class Case:
    """`arrays` and `numbers` are the op's operands by name; an array that is None is absent."""

    op: str
    name: str
    arrays: dict[str, Array | None]
    numbers: dict[str, int | str] = field(default_factory=dict)


def integers(rng: Rng, shape: tuple[int, ...], dtype: str, kind: str = "random") -> Array:
    """Values of a type: uniform, all its least, all its greatest, or only those two."""
    low, high = TYPE_RANGE[dtype]
    if kind == "mixed":
        return rng.choice(np.array([low, high], dtype), shape)
    values = {"random": rng.integers(low, high + 1, shape), "low": np.full(shape, low)}
    return values.get(kind, np.full(shape, high)).astype(dtype)


def output(rng: Rng, dtype: str) -> dict[str, int | str]:
    """A zero point, and all of the type or, one time in three, a range that cuts some of it off."""
    low, high = TYPE_RANGE[dtype]
    if rng.random() < 1 / 3:
        low, high = int(rng.integers(low, low // 2)), int(rng.integers(high // 2, high))
    return {
        "zero_point": int(rng.integers(low // 4, high // 4)),
        "quant_min": low,
        "quant_max": high,
        "dtype": dtype,
    }


def requant(rng: Rng, target: float) -> Dyadic:
    """A multiplier of about `target`, give or take an octave."""
    return dyadic(float(target * 2.0 ** rng.uniform(-1, 1)))


def gemm(rng: Rng, m: int, n: int, k: int, dtype: str, kind: str = "random") -> Case:
    w = integers(rng, (n, k), "int8", kind).clip(-127, None)
    room = 2**31 - 1 - 255 * np.abs(w.astype(np.int64)).sum(axis=1, initial=0)
    if kind == "random":
        room = np.minimum(room, 2000)
    bias = (room * rng.choice([-1, 1], n) if kind != "random" else rng.integers(-room, room + 1)).astype(
        np.int32
    )
    deviation = 74.0 * 100.0 * float(k + 1) ** 0.5  # of a sum of k products of uniform s8
    scales = [requant(rng, (40.0 if dtype == "int8" else 10000.0) / deviation) for _ in range(n)]
    numbers: dict[str, int | str] = {"x_zero_point": int(rng.integers(-128, 128)), "dtype": "int32"}
    if dtype != "int32":
        numbers |= output(rng, dtype)
    return Case(
        "gemm",
        f"{m}x{n}x{k} {dtype} {kind}",
        {
            "x": integers(rng, (m, k), "int8", kind),
            "w": w,
            "bias": bias if rng.random() < 0.9 or kind != "random" else None,
            "multiplier": None if dtype == "int32" else np.array([d.multiplier for d in scales], np.int32),
            "shift": None if dtype == "int32" else np.array([d.shift for d in scales], np.uint8),
        },
        numbers,
    )


def gemm_s8s4(
    rng: Rng, m: int, n: int, k: int, group_size: int, dtype: str, kind: str = "random", least: int = -7
) -> Case:
    """`least` is the least weight, -7 or -8; group_size 0 is one scale a column."""
    q = rng.integers(least, 8, (n, k))
    if kind != "random":
        end = least if kind == "low" else 7
        q = rng.choice([least, 7], (n, k)) if kind == "mixed" else np.full((n, k), end)
    groups = -(-k // group_size) if group_size else 1
    factor = rng.integers(1, min(255, (2**30 - 1) // (255 * 8 * max(k, 1))) + 1, (n, groups))
    step = np.repeat(factor, group_size or max(k, 1), axis=1)[:, :k] if group_size else np.ones((n, k), int)
    room = 2**31 - 1 - 255 * np.abs(step * q).sum(axis=1, initial=0)
    if kind == "random":
        room = np.minimum(room, 2000)
    bias = (room * rng.choice([-1, 1], n) if kind != "random" else rng.integers(-room, room + 1)).astype(
        np.int32
    )
    deviation = 4.4 * 100.0 * float((step**2).sum() / max(n, 1) + 1) ** 0.5
    scales = [requant(rng, (40.0 if dtype == "int8" else 10000.0) / deviation) for _ in range(n)]
    numbers: dict[str, int | str] = {
        "group_size": group_size,
        "x_zero_point": int(rng.integers(-128, 128)),
        "dtype": "int32",
    }
    if dtype != "int32":
        numbers |= output(rng, dtype)
    packed = [pack_s4(row) for row in q.tolist()]
    return Case(
        "gemm_s8s4",
        f"{m}x{n}x{k} groups of {group_size} {dtype} {kind} from {least}",
        {
            "x": integers(rng, (m, k), "int8", kind),
            "w": np.array(packed, np.uint8).reshape(n, (k + 1) // 2),
            "bias": bias if rng.random() < 0.9 or kind != "random" else None,
            "multiplier": None if dtype == "int32" else np.array([d.multiplier for d in scales], np.int32),
            "shift": None if dtype == "int32" else np.array([d.shift for d in scales], np.uint8),
            "group_multiplier": factor.astype(np.uint8) if group_size else None,
        },
        numbers,
    )


def attention(
    rng: Rng,
    shape: tuple[int, int, int, int, int, int],
    method: str = "table16",
    kind: str = "random",
    mask: str = "",
    causal: bool = False,
) -> Case:
    """shape is (batch, heads, kv_heads, q_len, k_len, head_dim); mask is "", "keep", "add" or "both"."""
    batch, heads, kv_heads, q_len, k_len, d = shape
    grids = [Affine(0.02, int(z), -128, 127) for z in rng.integers(-128, 128, 3)]
    if kind != "random":  # the widest differences q - z_q and v - z_v
        grids = [Affine(0.02, z, -128, 127) for z in (127, 0, -128)]
    y = Affine(0.03, int(rng.integers(-40, 40)), -128, 127)
    scale = float(d + 1) ** -0.5 * (1.0 if kind == "random" else 1e-3)
    q_grid, k_grid, v_grid = grids
    softmax, ratio = derive.attention(
        method, q_grid, k_grid, v_grid, y, scale, d, k_len, mask in ("add", "both")
    )
    keep = add = None
    if mask in ("keep", "both"):
        keep = rng.integers(0, 2, (batch, 1, q_len, k_len)).astype(np.uint8)
        keep[..., :1, :] = 0  # a row without a key
    if mask in ("add", "both"):
        add = rng.integers(-20000, 20000, (1, heads, q_len, k_len)).astype(np.int32)
        if add.size:
            add.flat[0], add.flat[-1] = 2**24, -(2**24)
    return Case(
        "attention",
        f"{'x'.join(map(str, shape))} {method} {kind} {mask} {'causal' if causal else ''}".strip(),
        {
            "q": integers(rng, (batch, heads, q_len, d), "int8", kind),
            "k": integers(rng, (batch, kv_heads, k_len, d), "int8", "mixed" if kind != "random" else kind),
            "v": integers(rng, (batch, kv_heads, k_len, d), "int8", kind),
            "keep": keep,
            "mask_add": add,
            "table": np.array(softmax.table, np.int16 if isinstance(softmax, Softmax) else np.int32),
        },
        {
            "q_zero_point": grids[0].zero_point,
            "k_zero_point": grids[1].zero_point,
            "v_zero_point": grids[2].zero_point,
            "method": method,
            "delta_max": softmax.delta_max,
            "softmax_multiplier": softmax.multiplier,
            "softmax_shift": softmax.shift,
            "pmax": softmax.pmax,
            **({} if isinstance(softmax, Softmax) else {"softmax_bits": softmax.method.bits}),
            "multiplier": ratio.multiplier,
            "shift": ratio.shift,
            "zero_point": y.zero_point,
            "quant_min": -128,
            "quant_max": 127,
            "causal": int(causal),
        },
    )


def layernorm(
    rng: Rng, rows: int, channels: int, x_type: str, y_type: str, kind: str = "random", rms: bool = False
) -> Case:
    gamma = rng.normal(1, 0.5, channels).astype(np.float32).tolist()
    beta = rng.normal(0, 0.5, channels).astype(np.float32).tolist()
    constants = derive.layernorm(
        gamma, beta, 1e-6, float32(0.01), float32(0.03 if y_type == "int8" else 1e-4)
    )
    x = integers(rng, (rows, channels), x_type, kind)
    if kind == "small":  # variance of a few units
        x = rng.integers(-1, 2, (rows, channels)).astype(x_type)
    if kind == "peak" and channels:  # the largest normalised value
        x = integers(rng, (rows, channels), x_type, "low")
        x[:, -1] = TYPE_RANGE[x_type][1]
    low, high = TYPE_RANGE[x_type]
    return Case(
        "layernorm",
        f"{rows}x{channels} {x_type} to {y_type} {kind}{' rms' if rms else ''}",
        {"x": x, "gain": np.array(constants.gain, np.int32), "offset": np.array(constants.offset, np.int64)},
        {
            "epsilon": constants.epsilon,
            "shift": constants.shift,
            "rms": int(rms),
            "x_zero_point": int(rng.integers(low, high + 1)) if rms else 0,
            **output(rng, y_type),
        },
    )


def table(rng: Rng, n: int) -> Case:
    return Case(
        "table", f"{n}", {"x": integers(rng, (n,), "int8"), "table": integers(rng, (256,), "int8")}, {}
    )


def requantize(rng: Rng, n: int, x_type: str, y_type: str, kind: str = "random", shift: int = 0) -> Case:
    """shift 0 is a realistic multiplier; another one is the greatest multiplier with that shift."""
    ratio = 2.0 ** (7 * (y_type == "int16") - 9 * (x_type == "int16"))
    scale = Dyadic(2**31 - 1, shift) if shift else requant(rng, ratio)
    low, high = TYPE_RANGE[x_type]
    return Case(
        "requantize",
        f"{n} {x_type} to {y_type} {kind} {shift}",
        {"x": integers(rng, (n,), x_type, kind)},
        {
            "x_zero_point": int(rng.integers(low, high + 1))
            if kind == "random"
            else (high if kind == "low" else low),
            "multiplier": scale.multiplier,
            "shift": scale.shift,
            **output(rng, y_type),
        },
    )


def add(
    rng: Rng, n: int, period: int, types: tuple[str, str, str], kind: str = "random", shift: int = 0
) -> Case:
    a_step, b_step, y_step = (2.0 ** (-8 * (t == "int16")) for t in types)
    a_scale, b_scale = (float32(step * 2.0 ** rng.uniform(-2, 0)) for step in (a_step, b_step))
    constants = derive.add(a_scale, b_scale, float32(1.5 * y_step))
    if shift:
        constants = derive.Add(2**31 - 1, 2**31 - 1, shift)
    zero_points = [int(rng.integers(*TYPE_RANGE[t])) for t in types[:2]]
    if kind in ("low", "high"):  # the farthest from the zero point
        zero_points = [TYPE_RANGE[t][kind == "low"] for t in types[:2]]
    return Case(
        "add",
        f"{n}/{period} {'+'.join(types[:2])} to {types[2]} {kind} {shift}",
        {
            "a": integers(rng, (n // period, period), types[0], kind),
            "b": integers(rng, (period,), types[1], kind),
        },
        {
            "a_zero_point": zero_points[0],
            "b_zero_point": zero_points[1],
            "a_multiplier": constants.a_multiplier,
            "b_multiplier": constants.b_multiplier,
            "shift": constants.shift,
            **output(rng, types[2]),
        },
    )


def mean(rng: Rng, shape: tuple[int, int, int], x_type: str, y_type: str, kind: str = "random") -> Case:
    scale = requant(rng, 2.0 ** (7 * (y_type == "int16") - 8 * (x_type == "int16")) / shape[1])
    low, high = TYPE_RANGE[x_type]
    return Case(
        "mean",
        f"{'x'.join(map(str, shape))} {x_type} to {y_type} {kind}",
        {"x": integers(rng, shape, x_type, kind)},
        {
            "x_zero_point": int(rng.integers(low, high + 1))
            if kind == "random"
            else (high if kind == "low" else low),
            "multiplier": scale.multiplier,
            "shift": scale.shift,
            **output(rng, y_type),
        },
    )


def softmax(
    rng: Rng, rows: int, n: int, x_type: str, y_type: str, method: str = "table16", kind: str = "random"
) -> Case:
    """kind "near": all values within six steps of each other."""
    low, high = TYPE_RANGE[x_type]
    unit = 0.05 if x_type == "int8" else 0.0004
    y_low, y_high = TYPE_RANGE[y_type]
    y = Affine(float32(1 / (y_high - y_low)), y_low, y_low, y_high)
    if rng.random() < 0.5:  # half as fine, and no whole range
        y = Affine(float32(1 / y_high), int(rng.integers(-5, 6)), y_low + 1, y_high - 3)
    constants, requant = derive.softmax_rows(method, Affine(float32(unit), 7, low, high), y, n)
    x = integers(rng, (rows, n), x_type, "high" if kind == "near" else kind)
    if kind == "near":
        x = (x - rng.integers(0, 7, (rows, n))).astype(x_type)
    by_octaves = isinstance(constants, Softmax)
    return Case(
        "softmax",
        f"{rows}x{n} {x_type} to {y_type} {method} {kind}",
        {"x": x, "table": np.array(constants.table, np.int16 if by_octaves else np.int32)},
        {
            "method": method,
            "delta_max": constants.delta_max,
            "softmax_multiplier": constants.multiplier,
            "softmax_shift": constants.shift,
            "pmax": constants.pmax,
            "softmax_bits": 0 if isinstance(constants, Softmax) else constants.method.bits,
            "multiplier": requant.multiplier,
            "shift": requant.shift,
            "zero_point": y.zero_point,
            "quant_min": y.quant_min,
            "quant_max": y.quant_max,
            "dtype": y_type,
        },
    )


def all_types() -> Iterator[tuple[str, str]]:
    for x_type in TYPE_RANGE:
        for y_type in TYPE_RANGE:
            yield x_type, y_type


# Each method by table, and parameters at their ends.
SOFTMAX_METHODS = (
    "ibert", "ibert(bits=15,n=8)", "ivit", "ivit(bits=8,n=6,step=0.19)", "fqvit", "fqvit(bits=3)", "iptq",
    "iptq(bits=9,fraction=4)", "qflash", "qflash(bits=8,fraction=9)", "index", "index(bits=8,clip=9.5)",
    "sole",
)  # fmt: skip


def small_cases(seed: int = 0) -> list[Case]:
    """Cases that the specification does in a few seconds altogether: every op, type, edge and end."""
    rng = np.random.default_rng(seed)
    cases = []
    for dtype in ("int8", "int16", "int32"):
        cases += [
            gemm(rng, *shape, dtype) for shape in ((0, 3, 4), (1, 1, 1), (2, 3, 0), (5, 17, 33), (7, 9, 64))
        ]
        cases += [gemm(rng, 3, 5, 31, dtype, kind) for kind in ENDS[1:]]
        cases += [gemm(rng, 3, 65, 13, dtype)]
    for method in ("table16", "table8"):
        cases += [
            attention(rng, shape, method)
            for shape in ((1, 1, 1, 1, 1, 1), (2, 2, 1, 5, 7, 8), (1, 1, 1, 3, 33, 16))
        ]
        cases += [attention(rng, (1, 2, 2, 4, 9, 4), method, kind) for kind in ENDS[1:]]
        cases += [attention(rng, (2, 2, 1, 4, 7, 4), method, mask=mask) for mask in ("keep", "add", "both")]
        cases += [
            attention(rng, (1, 2, 1, q, k, 8), method, causal=True) for q, k in ((6, 6), (3, 7), (7, 3))
        ]
    cases += [attention(rng, (1, 1, 1, 2, 0, 4)), attention(rng, (1, 2, 2, 0, 5, 4))]
    for x_type, y_type in all_types():
        cases += [
            layernorm(rng, rows, c, x_type, y_type) for rows, c in ((0, 3), (1, 1), (2, 31), (3, 64), (2, 97))
        ]
        cases += [
            layernorm(rng, 2, 17, x_type, y_type, kind) for kind in ("low", "high", "mixed", "small", "peak")
        ]
        cases += [
            layernorm(rng, 2, 33, x_type, y_type, kind, True) for kind in ("random", "low", "high", "mixed")
        ]
        cases += [requantize(rng, n, x_type, y_type) for n in (0, 1, 67)]
        cases += [requantize(rng, 33, x_type, y_type, kind, s) for kind in ENDS for s in (1, 31, 62)]
        cases += [
            mean(rng, shape, x_type, y_type) for shape in ((0, 3, 2), (1, 1, 1), (2, 7, 5), (1, 33, 17))
        ]
        cases += [mean(rng, (1, 9, 3), x_type, y_type, kind) for kind in ENDS[1:]]
        cases += [add(rng, n, p, (x_type, y_type, y_type)) for n, p in ((0, 1), (1, 1), (66, 33), (40, 40))]
        cases += [add(rng, 20, 10, (x_type, x_type, y_type), kind, s) for kind in ENDS for s in (1, 62)]
    cases += [table(rng, n) for n in (0, 1, 31, 32, 33, 257)]
    later = (small_s8s4_cases, small_online_cases, small_norm_cases, small_softmax_cases)
    return [*cases, *(case for more in later for case in more(seed))]


def small_norm_cases(seed: int) -> list[Case]:
    from tests.spec.norm_cases import small_cases as of_methods  # which imports this module

    return of_methods(seed)


def online(case: Case) -> Case:
    """The same operands for the online form."""
    return replace(case, op="attention_online64")


def small_online_cases(seed: int) -> list[Case]:
    """Keys around a block of 64 and two, masks that empty blocks, and both ends of the ranges."""
    rng = np.random.default_rng([seed, 64])
    cases = [attention(rng, (1, 2, 1, 3, keys, 4)) for keys in (0, 1, 63, 64, 65, 127, 128, 129, 200)]
    cases += [attention(rng, (1, 2, 2, 2, 150, 4), kind=kind) for kind in ENDS[1:]]
    cases += [attention(rng, (2, 2, 1, 3, 140, 3), mask=mask) for mask in ("keep", "add", "both")]
    cases += [attention(rng, (1, 1, 1, q, k, 5), causal=True) for q, k in ((70, 70), (3, 131), (131, 66))]
    cases += [attention(rng, (1, 1, 1, 2, keys, 1)) for keys in (66, 131)]  # small enough to be stored
    return [online(case) for case in [*cases, attention(rng, (1, 2, 2, 0, 5, 4))]]


def small_s8s4_cases(seed: int) -> list[Case]:
    """Random numbers of their own, so that these cases moved none of those before."""
    rng = np.random.default_rng([seed, 4])
    cases = []
    for dtype in ("int8", "int16", "int32"):
        for m, n, k, group_size in (
            (0, 3, 4, 0),
            (1, 1, 1, 0),
            (2, 3, 0, 0),
            (2, 3, 0, 4),
            (5, 17, 33, 0),
            (7, 9, 64, 32),
            (3, 5, 31, 4),
            (2, 18, 21, 8),
            (1, 3, 7, 16),
        ):
            cases.append(gemm_s8s4(rng, m, n, k, group_size, dtype))
    cases += [gemm_s8s4(rng, 3, 5, 31, 4, "int16", kind) for kind in ENDS[1:]]
    cases += [gemm_s8s4(rng, 3, 5, 75, 0, "int8", kind, -8) for kind in ENDS]
    cases += [gemm_s8s4(rng, 2, 3, 299, 36, "int32", kind) for kind in ENDS[1:]]
    for method in SOFTMAX_METHODS:
        cases += [attention(rng, shape, method) for shape in ((1, 1, 1, 1, 1, 1), (1, 2, 1, 7, 41, 8))]
        cases += [attention(rng, (1, 1, 1, 9, 33, 8), method, causal=True)]
        if "(" not in method:
            cases += [attention(rng, (1, 1, 1, 7, 19, 4), method, mask=mask) for mask in ("keep", "both")]
            cases += [attention(rng, (1, 1, 1, 7, 30, 4), method, kind) for kind in ("low", "mixed")]
    return cases


def small_softmax_cases(seed: int) -> list[Case]:
    """Rows of every method and pair of types, around the steps of the kernels."""
    rng = np.random.default_rng([seed, 8])
    cases = []
    for method in ("table16", "table8", *SOFTMAX_METHODS):
        for n, (x_type, y_type) in zip((41, 9, 17, 33), all_types(), strict=True):
            cases.append(softmax(rng, 2, n, x_type, y_type, method))
        if "(" not in method:
            cases += [softmax(rng, 1, 15, "int8", "int16", method, kind) for kind in ("mixed", "near")]
            cases += [softmax(rng, 1, 20, "int16", "int8", method, "near")]
    for x_type, y_type in all_types():
        cases += [softmax(rng, rows, n, x_type, y_type) for rows, n in ((0, 3), (3, 0), (3, 1), (1, 64))]
        cases += [softmax(rng, 1, 33, x_type, y_type, "table16", kind) for kind in ENDS[1:]]
    return cases
