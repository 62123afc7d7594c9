"""The C kernels equal the specification for every constant the entry points accept, not only derived ones.

A program file may hold anything that passes the checks: the greatest multipliers and offsets, shifts of 1 and
62, tables no exponential would give. SIMD code that emulates 64-bit shifts or narrows early shows here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyquant import _C
from tests.spec import arrays
from tests.spec.cases import TYPE_RANGE, Case, integers
from tests.spec.softmax import parse
from tests.variants.calls import actual, eligible_isas, limited_to, traced

EXAMPLES = settings(max_examples=min(settings().max_examples, 150))
SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from(list(TYPE_RANGE))
KINDS = st.sampled_from(["random", "low", "high", "mixed"])
SHIFTS = st.integers(1, 62) | st.sampled_from([1, 2, 30, 31, 32, 33, 61, 62])
MULTIPLIERS = st.integers(2**30, 2**31 - 1) | st.sampled_from([2**30, 2**31 - 1])


def check(case: Case) -> None:
    want = arrays.expected(case)["y"]
    for isa in eligible_isas():
        with limited_to(isa):
            np.testing.assert_array_equal(actual(case), want, err_msg=f"{case.op} on {isa}", strict=True)


def some(rng: np.random.Generator, size: int, low: int, high: int) -> Any:
    """Uniform integers of [low, high], both ends often."""
    values = rng.integers(low, high, size, dtype=np.int64, endpoint=True)
    ends = rng.random(size)
    return np.where(ends < 0.2, low, np.where(ends > 0.8, high, values))


def zero_point(rng: np.random.Generator, dtype: str) -> int:
    return int(some(rng, 1, *TYPE_RANGE[dtype])[0])


def output(rng: np.random.Generator, dtype: str) -> dict[str, int | str]:
    low, zero, high = sorted(int(v) for v in some(rng, 3, *TYPE_RANGE[dtype]))
    return {"zero_point": zero, "quant_min": low, "quant_max": high, "dtype": dtype}


@EXAMPLES
@given(SEEDS, DTYPES, DTYPES, KINDS, MULTIPLIERS, SHIFTS)
def test_requantize(seed: int, x_type: str, y_type: str, kind: str, multiplier: int, shift: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = {"x_zero_point": zero_point(rng, x_type), "multiplier": multiplier, "shift": shift}
    check(Case("requantize", "", {"x": integers(rng, (45,), x_type, kind)}, numbers | output(rng, y_type)))


@EXAMPLES
@given(SEEDS, DTYPES, DTYPES, DTYPES, KINDS, MULTIPLIERS, st.integers(0, 2**31 - 1), SHIFTS)
def test_add(
    seed: int, a_type: str, b_type: str, y_type: str, kind: str, larger: int, other: int, shift: int
) -> None:
    rng = np.random.default_rng(seed)
    multipliers = [larger, other] if seed % 2 else [other, larger]
    numbers = {
        "a_zero_point": zero_point(rng, a_type),
        "b_zero_point": zero_point(rng, b_type),
        "a_multiplier": multipliers[0],
        "b_multiplier": multipliers[1],
        "shift": shift,
    }
    operands = {"a": integers(rng, (3, 37), a_type, kind), "b": integers(rng, (37,), b_type, kind)}
    check(Case("add", "", operands, numbers | output(rng, y_type)))


@EXAMPLES
@given(SEEDS, DTYPES, DTYPES, KINDS, st.integers(1, 60), MULTIPLIERS, SHIFTS)
def test_mean(
    seed: int, x_type: str, y_type: str, kind: str, reduce: int, multiplier: int, shift: int
) -> None:
    rng = np.random.default_rng(seed)
    numbers = {"x_zero_point": zero_point(rng, x_type), "multiplier": multiplier, "shift": shift}
    check(
        Case("mean", "", {"x": integers(rng, (2, reduce, 19), x_type, kind)}, numbers | output(rng, y_type))
    )


@EXAMPLES
@given(
    SEEDS, DTYPES, DTYPES, KINDS, st.booleans(), st.integers(1, 50), st.integers(1, 62),
    st.integers(0, 2**61) | st.sampled_from([0, 1, 2**61]),
)  # fmt: skip
def test_layernorm(
    seed: int, x_type: str, y_type: str, kind: str, rms: bool, channels: int, shift: int, epsilon: int
) -> None:
    rng = np.random.default_rng(seed)
    # Around the sum's own size as well as at its ends: else every result would be clamped.
    size = int(rng.integers(1, 62))
    offset = np.clip(some(rng, channels, -(2**61) + 1, 2**61 - 1), -(2**size) + 1, 2**size - 1)
    gain = some(rng, channels, -(2**31), 2**31 - 1) >> int(rng.integers(0, 31))
    operands = {
        "x": integers(rng, (3, channels), x_type, kind),
        "gain": gain.astype(np.int32),
        "offset": offset.astype(np.int64),
    }
    numbers = {"epsilon": epsilon, "shift": shift, "rms": int(rms)}
    numbers["x_zero_point"] = zero_point(rng, x_type) if rms else 0
    check(Case("layernorm", "", operands, numbers | output(rng, y_type)))


@EXAMPLES
@given(SEEDS, st.sampled_from(["int8", "int16"]), KINDS, st.integers(0, 70), st.integers(1, 70))
def test_gemm(seed: int, y_type: str, kind: str, k: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    w = np.maximum(integers(rng, (n, k), "int8", kind), -128)
    room = 2**31 - 1 - 255 * np.abs(w.astype(np.int64)).sum(axis=1)
    operands = {
        "x": integers(rng, (5, k), "int8", kind),
        "w": w,
        "bias": (room * rng.choice([-1, 0, 1], n)).astype(np.int32),
        "multiplier": some(rng, n, 2**30, 2**31 - 1).astype(np.int32),
        "shift": some(rng, n, 1, 62).astype(np.uint8),
    }
    check(Case("gemm", "", operands, {"x_zero_point": zero_point(rng, "int8"), **output(rng, y_type)}))


@EXAMPLES
@given(SEEDS, st.sampled_from(["table16", "table8"]), KINDS, st.integers(1, 31), st.data())
def test_attention(seed: int, method: str, kind: str, softmax_shift: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    q_len, k_len, d = (data.draw(st.integers(1, most)) for most in (4, 40, 20))
    softmax_multiplier = data.draw(st.integers(1, 2**32 - 1 - 2 ** (softmax_shift - 1)))
    most = (2**32 - 1 - 2 ** (softmax_shift - 1)) // softmax_multiplier
    pmax = data.draw(st.integers(1, 255 if method == "table8" else 16383))
    falling = np.sort(some(rng, 31, 0, 2 * pmax))[::-1]
    operands = {
        "q": integers(rng, (1, 2, q_len, d), "int8", kind),
        "k": integers(rng, (1, 1, k_len, d), "int8", kind),
        "v": integers(rng, (1, 1, k_len, d), "int8", kind),
        "keep": None,
        "mask_add": some(rng, 2 * q_len * k_len, -(2**24), 2**24)
        .reshape(1, 2, q_len, k_len)
        .astype(np.int32),
        "table": np.concatenate([[2 * pmax], falling]).astype(np.int16),
    }
    numbers: dict[str, int | str] = {
        "q_zero_point": zero_point(rng, "int8"),
        "k_zero_point": zero_point(rng, "int8"),
        "v_zero_point": zero_point(rng, "int8"),
        "method": method,
        "delta_max": data.draw(st.integers(0, most)),
        "softmax_multiplier": softmax_multiplier,
        "softmax_shift": softmax_shift,
        "pmax": pmax,
        "multiplier": data.draw(MULTIPLIERS),
        "shift": data.draw(st.integers(1, 36)),
        **{name: value for name, value in output(rng, "int8").items() if name != "dtype"},
        "causal": 0,
    }
    case = Case("attention", "", operands, numbers)
    want = arrays.expected(case)
    for name, values in traced(case).items():
        np.testing.assert_array_equal(values, want[name], err_msg=name)
    for isa in eligible_isas():
        with limited_to(isa):
            np.testing.assert_array_equal(actual(case), want["y"], err_msg=f"attention on {isa}")


LOOKUPS = ("ibert", "ibert(bits=15)", "ivit", "ivit(bits=5)", "fqvit", "iptq", "qflash(bits=8)", "index")


@EXAMPLES
@given(SEEDS, st.sampled_from(["table16", "table8", *LOOKUPS, "sole"]), DTYPES, DTYPES, KINDS, st.data())
def test_softmax(seed: int, method: str, x_type: str, y_type: str, kind: str, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    n, softmax_shift = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 31))
    softmax_multiplier = data.draw(st.integers(1, 2**32 - 1 - 2 ** (softmax_shift - 1)))
    most = (2**32 - 1 - 2 ** (softmax_shift - 1)) // softmax_multiplier
    by_table = parse(method)
    if by_table is None:
        bits, pmax = 0, data.draw(st.integers(1, 255 if method == "table8" else 16383))
        falling = np.sort(some(rng, 31, 0, 2 * pmax))[::-1]
        table = np.concatenate([[2 * pmax], falling]).astype(np.int16)
    else:
        bits, pmax = by_table.bits, by_table.pmax
        weighs_itself = method.partition("(")[0] in ("iptq", "qflash", "index", "sole")
        largest = min(pmax if weighs_itself else 2**31 - 1, by_table.sum_limit // n)
        table = some(rng, data.draw(st.integers(1, 90)), 0, largest).astype(np.int32)
    numbers: dict[str, int | str] = {
        "method": method,
        "delta_max": data.draw(st.integers(0, most)),
        "softmax_multiplier": softmax_multiplier,
        "softmax_shift": softmax_shift,
        "pmax": pmax,
        "softmax_bits": bits,
        "multiplier": data.draw(MULTIPLIERS),
        "shift": data.draw(st.integers(1, 38)),
        **output(rng, y_type),
    }
    check(Case("softmax", "", {"x": integers(rng, (3, n), x_type, kind), "table": table}, numbers))


def test_attention_refuses_a_pmax_that_could_overflow() -> None:
    """4,096 keys, z_v = -128: pmax may be 2056. Counting |v| <= 128 only, it would have been 4095."""
    grid = (1.0, 0, -128, 127)
    values = _C.derive_attention("table16", grid, grid, (1.0, -128, -128, 127), grid, 1.0, 1, 4096)
    table, delta_max, softmax_multiplier, softmax_shift, pmax, _, multiplier, shift = values
    assert pmax == 2056
    q, k = np.zeros((1, 1, 1, 1, 1), np.int8), np.zeros((1, 1, 1, 4096, 1), np.int8)
    v = np.full_like(k, 127)
    rest = (delta_max, softmax_multiplier, softmax_shift)
    y = _C.attention(q, k, v, table, 0, *rest, pmax, multiplier, shift, v_zero_point=-128, zero_point=-128)
    assert y.item() == 127
    too_large = np.minimum(table * 2, 32766).astype(np.int16)
    too_large[0] = 2 * 4095
    too_large[1:] = np.minimum(too_large[1:], 2 * 4095)
    with pytest.raises(OverflowError, match="attention"):
        _C.attention(
            q, k, v, too_large, 0, *rest, 4095, multiplier, shift, v_zero_point=-128, zero_point=-128
        )
