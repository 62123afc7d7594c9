"""LayerNorm's methods in C equal the specification: rows of every kind, any constants, how these are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyquant import _C
from tests.spec import derive
from tests.spec.cases import TYPE_RANGE, Case, integers
from tests.spec.norm_cases import METHODS, more_cases
from tests.spec.numbers import float32
from tests.spec.test_reference_extremes import DTYPES, EXAMPLES, KINDS, SEEDS, check, output, some, zero_point


def test_kernels_are_the_specification() -> None:
    for case in more_cases():
        check(case)


@EXAMPLES
@given(
    SEEDS, DTYPES, DTYPES, KINDS, st.booleans(), st.integers(1, 50), st.integers(1, 62), st.integers(1, 16)
)
def test_newton(
    seed: int, x_type: str, y_type: str, kind: str, rms: bool, channels: int, shift: int, iterations: int
) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 62))
    offset = np.clip(some(rng, channels, -(2**61) + 1, 2**61 - 1), -(2**size) + 1, 2**size - 1)
    code = int(rng.integers(1, 4))
    operands = {
        "x": integers(rng, (3, channels), x_type, kind),
        "gain": (some(rng, channels, -(2**31), 2**31 - 1) >> int(rng.integers(0, 31))).astype(np.int32),
        "offset": offset.astype(np.int64),
    }
    numbers: dict[str, Any] = {"epsilon": 0, "shift": shift, "rms": int(rms), "method": code}
    numbers["iterations"] = iterations if code == 2 else 0
    numbers["x_zero_point"] = zero_point(rng, x_type) if rms else 0
    check(Case("layernorm", "", operands, numbers | output(rng, y_type)))


@EXAMPLES
@given(
    SEEDS, DTYPES, DTYPES, KINDS, st.booleans(), st.integers(1, 50), st.integers(1, 59), st.integers(1, 36)
)
def test_ptf(
    seed: int, x_type: str, y_type: str, kind: str, rms: bool, channels: int, ptf_shift: int, least: int
) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 62))
    offset = np.clip(some(rng, channels, -(2**61) + 1, 2**61 - 1), -(2**size) + 1, 2**size - 1)
    operands = {
        "x": integers(rng, (3, channels), x_type, kind),
        "gain": (some(rng, channels, 2**30, 2**31 - 1) * rng.integers(-1, 2, channels)).astype(np.int32),
        "offset": offset.astype(np.int64),
        "alpha": rng.integers(0, 4, channels).astype(np.uint8),
        "exponent": some(rng, channels, least, 36).astype(np.uint8),
    }
    numbers: dict[str, Any] = {"epsilon": 0, "shift": 32, "rms": int(rms), "method": 4, "iterations": 0}
    numbers |= {"ptf_multiplier": int(some(rng, 1, 2**30, 2**31 - 1)[0]), "ptf_shift": ptf_shift}
    numbers |= {"ptf_zero_point": zero_point(rng, "int8"), "x_zero_point": zero_point(rng, x_type)}
    check(Case("layernorm", "", operands, numbers | output(rng, y_type)))


def scales(rng: np.random.Generator) -> tuple[float, float]:
    return float32(np.exp(rng.uniform(-9, 2))), float32(np.exp(rng.uniform(-9, 2)))


def test_constants_are_the_specification() -> None:
    rng = np.random.default_rng(4)
    for _ in range(300):
        channels = int(rng.choice([1, 3, 64, 384]))
        gamma, beta = (
            (rng.normal(size=channels) * np.exp(rng.uniform(-9, 9))).astype(np.float32) for _ in range(2)
        )
        gamma[rng.random(channels) < 0.1] = 0
        x_scale, y_scale = scales(rng)
        size = np.exp(rng.uniform(-9, 9)) / rng.integers(1, 12, channels)
        x_range = np.sort(rng.normal(size=(2, channels)) * size, axis=0).astype(np.float32)
        for method in METHODS:
            arguments = (method, channels, gamma, beta, 1e-6, x_scale, y_scale, x_range)
            try:
                if method == "ptf":
                    lists = (gamma.tolist(), beta.tolist(), x_scale, y_scale, x_range.tolist())
                    ptf = derive.norm_ptf(*lists)
                    want = (0, ptf.gain, ptf.offset, 32, 4, 0, ptf.alpha, ptf.exponent)
                    want = (*want, ptf.requant.multiplier, ptf.requant.shift, ptf.zero_point)
                else:
                    c = derive.norm_newton(gamma.tolist(), beta.tolist(), y_scale)
                    code = METHODS.index(method) + 1
                    want = (0, c.gain, c.offset, c.shift, code, 10 * (code == 2), None, None, 0, 0, 0)
            except OverflowError:
                with pytest.raises(OverflowError):
                    _C.derive_norm(*arguments)
                continue
            got = tuple(v.tolist() if isinstance(v, np.ndarray) else v for v in _C.derive_norm(*arguments))
            assert got == want, method


@pytest.mark.parametrize("x_range", [None, np.full((2, 3), np.inf), np.array([[0, 1, 0], [1, 0, 1]])])
def test_ptf_wants_the_ranges(x_range: Any) -> None:
    given_range = None if x_range is None else x_range.astype(np.float32)
    with pytest.raises(ValueError, match="the range"):
        _C.derive_norm("ptf", 3, None, None, 0.0, 0.1, 0.1, given_range)


def test_types_are_all_used() -> None:
    """More cases than one of each method and type."""
    assert len({(c.numbers["method"], c.arrays["x"].dtype.name) for c in more_cases()}) == 4 * len(TYPE_RANGE)  # type: ignore[union-attr]
