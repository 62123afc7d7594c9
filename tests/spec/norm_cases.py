"""Cases of LayerNorm's methods, as tests/spec/cases.py makes those of the ops."""

from __future__ import annotations

import numpy as np

from tests.spec import derive
from tests.spec.arrays import NORM_METHODS
from tests.spec.cases import TYPE_RANGE, Array, Case, Rng, all_types, integers, output
from tests.spec.numbers import float32

METHODS = NORM_METHODS[1:]
KINDS = ("random", "low", "high", "mixed", "small", "peak", "one hot", "shifted")
X_SCALE = float32(0.01)


def rows_of(rng: Rng, shape: tuple[int, int], dtype: str, kind: str) -> Array:
    """Rows of a type: besides `integers`, little variance, one channel apart, a mean far from 0."""
    low, high = TYPE_RANGE[dtype]
    x = integers(rng, shape, dtype, kind)
    if kind == "small":
        x = rng.integers(-1, 2, shape).astype(dtype)
    if kind == "shifted":
        x = rng.integers(high - 3, high + 1, shape).astype(dtype)
    if kind in ("peak", "one hot") and shape[1]:
        x = np.full(shape, low if kind == "peak" else 0, dtype)
        x[:, -1] = high
    return x


def layernorm(
    rng: Rng,
    method: str,
    shape: tuple[int, int],
    types: tuple[str, str],
    kind: str = "random",
    rms: bool = False,
    iterations: int = 10,
) -> Case:
    """types are those of x and y."""
    (rows, channels), (x_type, y_type) = shape, types
    gamma = rng.normal(1, 0.5, channels).astype(np.float32)
    gamma[: channels // 16] = 0
    beta = rng.normal(0, 0.5, channels).astype(np.float32)
    y_scale = float32(0.03 if y_type == "int8" else 1e-4)
    low, high = TYPE_RANGE[x_type]
    numbers: dict[str, int | str] = {
        "epsilon": 0,
        "rms": int(rms),
        "x_zero_point": int(rng.integers(low, high + 1)) if rms or method == "ptf" else 0,
        "method": NORM_METHODS.index(method),
        "iterations": iterations if method == "ivit" else 0,
        **output(rng, y_type),
    }
    arrays: dict[str, Array | None] = {"x": rows_of(rng, (rows, channels), x_type, kind)}
    if method == "ptf":
        reach = rng.uniform(0.1, 1.2, channels) * (high * X_SCALE)
        ends = (-(reach / rng.integers(1, 9, channels)), reach / rng.integers(1, 9, channels))
        x_range = np.stack(ends).astype(np.float32)
        c = derive.norm_ptf(gamma.tolist(), beta.tolist(), X_SCALE, y_scale, x_range.tolist())
        arrays |= {
            "gain": np.array(c.gain, np.int32),
            "offset": np.array(c.offset, np.int64),
            "alpha": np.array(c.alpha, np.uint8),
            "exponent": np.array(c.exponent, np.uint8),
        }
        numbers |= {"ptf_multiplier": c.requant.multiplier, "ptf_shift": c.requant.shift}
        numbers |= {"ptf_zero_point": c.zero_point, "shift": 32}
    else:
        affine = derive.norm_newton(gamma.tolist(), beta.tolist(), y_scale)
        arrays |= {"gain": np.array(affine.gain, np.int32), "offset": np.array(affine.offset, np.int64)}
        numbers["shift"] = affine.shift
    name = f"{method} {rows}x{channels} {x_type} to {y_type} {kind}{' rms' if rms else ''}"
    return Case("layernorm", name, arrays, numbers)


def small_cases(seed: int) -> list[Case]:
    """Every method and type, in sizes that the specification does in no time; golden vectors are of these."""
    rng = np.random.default_rng(seed + 2)
    cases = []
    for method in METHODS:
        cases += [layernorm(rng, method, (2, 9), types) for types in (("int8", "int8"), ("int16", "int16"))]
        cases += [layernorm(rng, method, (1, 9), ("int16", "int8"), kind) for kind in ("peak", "small")]
        cases += [layernorm(rng, method, (1, 9), ("int16", "int16"), rms=True)]
    return [*cases, layernorm(rng, "ivit", (1, 9), ("int16", "int8"), iterations=1)]


def more_cases() -> list[Case]:
    """All kinds of rows."""
    rng = np.random.default_rng(3)
    cases = []
    for method in METHODS:
        for types in all_types():
            cases += [layernorm(rng, method, s, types) for s in ((0, 3), (1, 1), (2, 31), (3, 64))]
            cases += [
                layernorm(rng, method, (2, 33), types, kind, r) for kind in KINDS for r in (False, True)
            ]
    cases += [layernorm(rng, "ivit", (2, 33), ("int16", "int8"), iterations=n) for n in (2, 3, 16)]
    return cases
