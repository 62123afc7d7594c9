"""How far the element-wise ops are from the real functions; each tolerance is derived beside its test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from pyquant import _C
from tests.spec.cases import ENDS, TYPE_RANGE, integers

PAIRS = [(x, y) for x in TYPE_RANGE for y in TYPE_RANGE]


def limits(dtype: str) -> dict[str, int | str]:
    low, high = TYPE_RANGE[dtype]
    return {"quant_min": low, "quant_max": high, "dtype": dtype}


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize(("x_type", "y_type"), PAIRS)
def test_requantize(x_type: str, y_type: str, kind: str) -> None:
    """1/2 for the rounding, |x| M 2^-31 for the multiplier."""
    rng = np.random.default_rng(0)
    x = integers(rng, (3001,), x_type, kind)
    low, high = TYPE_RANGE[y_type]
    for real in np.exp(rng.uniform(-9, 6, 20)).tolist():
        multiplier, shift = _C.derive_dyadic(real)
        y = _C.requantize(x, multiplier, shift, x_zero_point=-77, zero_point=5, **limits(y_type))
        exact = (x.astype(np.float64) + 77) * real
        bound = 0.5 + np.abs(exact) * 2.0**-31 + 1e-9
        assert (np.abs(y - np.clip(exact + 5, low, high)) <= bound).all()


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize(("x_type", "y_type"), PAIRS)
def test_add(x_type: str, y_type: str, kind: str) -> None:
    """One rounding, 1/2; each multiplier is off by at most 1/2 of 2^-s: (|a| + |b|) / 2^(s+1)."""
    rng = np.random.default_rng(1)
    a, b = integers(rng, (50, 61), x_type, kind), integers(rng, (50, 61), x_type, kind)
    low, high = TYPE_RANGE[y_type]
    for _ in range(20):
        s_a, s_b, s_y = (float(np.float32(v)) for v in np.exp(rng.uniform(-6, 0, 3)))
        m_a, m_b, s = _C.derive_add(s_a, s_b, s_y)
        y = _C.add(a, b, m_a, m_b, s, a_zero_point=3, b_zero_point=-9, zero_point=11, **limits(y_type))
        real_a, real_b = a.astype(np.float64) - 3, b.astype(np.float64) + 9
        exact = real_a * (s_a / s_y) + real_b * (s_b / s_y)
        bound = 0.5 + (np.abs(real_a) + np.abs(real_b)) / 2.0 ** (s + 1) + np.abs(exact) * 1e-14
        assert (np.abs(y - np.clip(exact + 11, low, high)) <= bound + 1e-9).all()


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("reduce", [1, 2, 49, 197, 32767])
@pytest.mark.parametrize("x_type", TYPE_RANGE)
def test_mean(x_type: str, reduce: int, kind: str) -> None:
    """The sum is exact; 1/2 for the rounding, |sum| M 2^-31 for the multiplier of s_x / (reduce s_y)."""
    rng = np.random.default_rng(2)
    x = integers(rng, (2, reduce, 5), x_type, kind)
    s_x, s_y = (float(np.float32(v)) for v in (0.01, 0.02))
    multiplier, shift = _C.derive_dyadic(s_x / (reduce * s_y))
    y = _C.mean(x, multiplier, shift, x_zero_point=4, zero_point=-6, **limits(x_type))
    exact = (x.astype(np.int64) - 4).sum(axis=1) * (s_x / (reduce * s_y))
    low, high = TYPE_RANGE[x_type]
    bound = 0.5 + np.abs(exact) * 2.0**-31 + 1e-9
    assert (np.abs(y - np.clip(exact - 6, low, high)) <= bound).all()


REAL = {
    "gelu": lambda x: x * special.ndtr(x),
    "gelu_tanh": lambda x: x * special.expit(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)),
    "silu": lambda x: x * special.expit(x),
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "softplus": lambda x: np.logaddexp(x, 0),
    "relu": lambda x: np.maximum(x, 0),
}


@pytest.mark.parametrize("name", REAL)
def test_tables(name: str) -> None:
    """One rounding: 1/2, and float64's own error (below 1e-12 of a step here) at both sides."""
    rng = np.random.default_rng(3)
    q = np.arange(-128, 128)
    for _ in range(30):
        s_x, s_y = (float(np.float32(v)) for v in np.exp(rng.uniform(-5, -1, 2)))
        z_x, z_y = (int(v) for v in rng.integers(-128, 128, 2))
        table = _C.derive_table(name, (s_x, z_x, -128, 127), (s_y, z_y, -128, 127))
        exact = REAL[name]((q - z_x) * s_x) / s_y
        assert (np.abs(table - np.clip(exact + z_y, -128, 127)) <= 0.5 + 1e-9).all()
        x = integers(rng, (999,), "int8")
        np.testing.assert_array_equal(_C.table(x, table), table[x.astype(int) + 128])


def test_gelu_error_over_the_whole_grid() -> None:
    """GELU over [-4, 4] on an output grid that clips nothing: no entry is off by more than 1/2 step, and the
    rms error is 1/sqrt(12) within a fifth, as rounding errors of a smooth function are nearly uniform."""
    q = np.arange(-127, 128).astype(np.int8)
    s_x, s_y = float(np.float32(4 / 127)), float(np.float32(4.2 / 255))
    table = _C.derive_table("gelu", (s_x, 0, -128, 127), (s_y, -118, -128, 127))
    error = (_C.table(q, table) + 118.0) - REAL["gelu"](q * s_x) / s_y
    assert np.abs(error).max() <= 0.5
    assert 0.8 < error.std() * 12**0.5 < 1.2


@pytest.mark.parametrize("dtype", TYPE_RANGE)
def test_quantize(dtype: str) -> None:
    """The quotient is within 2^-24 of itself before it is rounded: 1/2 + |x / s| 2^-24; clamping is exact."""
    rng = np.random.default_rng(4)
    low, high = TYPE_RANGE[dtype]
    for scale in np.exp(rng.uniform(-12, 5, 30)).astype(np.float32):
        x = np.concatenate([rng.normal(size=2000) * 0.4 * (high - low) * scale, [3e38, -3e38, 0.0]]).astype(
            np.float32
        )
        s = np.array([scale], np.float32)
        q = _C.quantize(x, s, zero_point=7, **limits(dtype))
        exact = x.astype(np.float64) / float(scale)
        steps = np.clip(exact, 2 * low - 99, 2 * high + 99)
        assert (np.abs(q - np.clip(steps + 7, low, high)) <= 0.5 + np.abs(steps) * 2.0**-24).all()
        back = _C.dequantize(q, s, zero_point=7)
        real = (q.astype(np.float64) - 7) * float(scale)
        assert (np.abs(back - real) <= np.abs(real) * 2.0**-24).all()


def test_infinities_saturate_and_nan_is_an_error() -> None:
    s = np.array([0.1], np.float32)
    assert _C.quantize(np.array([np.inf, -np.inf], np.float32), s).tolist() == [127, -128]
    for at in (0, 5, 70):
        x = np.zeros(71, np.float32)
        x[at] = np.nan
        with pytest.raises(ValueError, match="NaN"):
            _C.quantize(x, s)
