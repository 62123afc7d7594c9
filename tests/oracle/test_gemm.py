"""How far the integer GEMM is from the real product.

Accumulators are exact: they are compared with int64 products, digit for digit. A requantized result is off by
its rounding, 1/2, and by the dyadic multiplier, m >= 2^30 rounded to an integer: |acc| M * 2^-31.
"""

from __future__ import annotations

import numpy as np
import pytest

from pyquant import _C
from tests.spec.cases import ENDS, TYPE_RANGE, integers

SHAPES = [(1, 1, 1), (3, 17, 31), (64, 65, 197), (5, 384, 1536)]


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_accumulators_are_exact(shape: tuple[int, int, int], kind: str) -> None:
    m, n, k = shape
    rng = np.random.default_rng(k)
    x, w = integers(rng, (m, k), "int8", kind), np.maximum(integers(rng, (n, k), "int8", kind), -127)
    bias = rng.integers(-(2**20), 2**20, n).astype(np.int32)
    for zero_point in (-128, 0, 127):
        weights = _C.GemmWeights(w, bias, x_zero_point=zero_point, dtype="int32")
        exact = (x.astype(np.int64) - zero_point) @ w.T.astype(np.int64) + bias
        np.testing.assert_array_equal(_C.gemm(x, weights), exact)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_greatest_accumulator(sign: int) -> None:
    """|bias| + 255 * 127 * k = 2^31 - 1 exactly, all of one sign, over the longest row that fits."""
    k = (2**31 - 1) // (255 * 127)
    room = 2**31 - 1 - 255 * 127 * k
    x, w = np.full((2, k), 127, np.int8), np.full((1, k), sign * 127, np.int8)
    bias = np.array([sign * room], np.int32)
    weights = _C.GemmWeights(w, bias, x_zero_point=-128, dtype="int32")
    assert (_C.gemm(x, weights) == sign * (2**31 - 1)).all()
    with pytest.raises(OverflowError, match="gemm"):
        _C.GemmWeights(w, bias + np.int32(sign), x_zero_point=-128, dtype="int32")


@pytest.mark.parametrize("y_type", TYPE_RANGE)
@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_requantized_results_are_within_half_a_step(
    shape: tuple[int, int, int], kind: str, y_type: str
) -> None:
    m, n, k = shape
    rng = np.random.default_rng(n)
    w = rng.normal(size=(n, k)).astype(np.float32)
    bias = rng.normal(size=n).astype(np.float32)
    s_x = float(np.float32(0.03))
    s_y = float(np.float32(0.05 * k**0.5 * (1 if y_type == "int8" else 2**-8)))
    w_scale = _C.derive_weight_scale(w, bias, s_x)
    w_q, bias_q, multiplier, shift = _C.derive_gemm(w, bias, w_scale, s_x, s_y)
    low, high = TYPE_RANGE[y_type]
    weights = _C.GemmWeights(
        w_q,
        bias_q,
        multiplier,
        shift,
        x_zero_point=9,
        zero_point=-4,
        quant_min=low,
        quant_max=high,
        dtype=y_type,
    )
    x = integers(rng, (m, k), "int8", kind)
    acc = (x.astype(np.int64) - 9) @ w_q.T.astype(np.int64) + bias_q
    real = acc * (s_x * w_scale.astype(np.float64) / s_y)
    bound = 0.5 + np.abs(real) * 2.0**-31 + 1e-9
    assert (np.abs(_C.gemm(x, weights) - np.clip(real - 4, low, high)) <= bound).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_linear_layer_end_to_end(bits: int) -> None:
    """Float in, float out: each grid gives half a step, carried to the output by what it is multiplied with.

    |x - x^| <= s_x / 2 times sum |w|; |w - w^| <= s_w / 2 times sum |x^|; bias s_x s_w / 2; output s_y / 2.
    """
    rng = np.random.default_rng(bits)
    x, w = rng.uniform(-1, 1, (20, 96)).astype(np.float32), rng.normal(size=(33, 96)).astype(np.float32)
    bias = rng.normal(size=33).astype(np.float32)
    s_x, s_y = np.array([1 / 127], np.float32), np.array([0.4], np.float32)
    w_scale = _C.derive_weight_scale(w, bias, float(s_x[0]), bits)
    constants = _C.derive_gemm(w, bias, w_scale, float(s_x[0]), float(s_y[0]), bits)
    q = _C.quantize(x, s_x)
    y = _C.dequantize(_C.gemm(q, _C.GemmWeights(*constants)), s_y)
    real = x.astype(np.float64) @ w.T.astype(np.float64) + bias
    x_hat = np.abs(_C.dequantize(q, s_x).astype(np.float64))
    bound = s_x[0] / 2 * np.abs(w.astype(np.float64)).sum(axis=1) + np.outer(x_hat.sum(axis=1), w_scale / 2)
    bound += s_x[0] * w_scale / 2 + s_y[0] / 2
    held = np.clip(real, -128.0 * s_y[0], 127.0 * s_y[0])
    assert (np.abs(y - held) <= bound * (1 + 1e-6)).all()
