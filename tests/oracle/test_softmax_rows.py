"""How far each integer softmax of a row is from the real one, with bounds derived for each method.

Write e for the real weight e^-d of an element d nats below the maximum, S for the sum of e over the row (at
least 1: the maximum's own), and E, of greatest value top, for the method's exponential. With

    | E / top - e | <= rho e + alpha

sums over n elements differ by at most rho S + alpha n, so that

    | E / sum E - e / S | <= (rho e + alpha + (rho S + alpha n) e / S) / (S (1 - rho) - alpha n)

where that divisor is positive. h is half a step of the index, which rho counts as e^h - 1; the slope m / 2^s
adds less than 2^-20. What a method does between the share a = E / sum E and P / L is the last column; then y
has one rounding, half a step.

method   step      curve                                                         P / L
table16  ln2 / 32  rounding: alpha = 3/4 of a unit                               a
table8   ln2 / 32  the same                                                      a
ibert    2^-9      quadratic: alpha = 3.1e-3                                     floors: 2^-8, 2^-15
ivit     2^-6      straight octaves: rho = 0.0791; log2(e) by 1.4375, too        floors: 2^-14, n / 1024 of a
                   little by 0.0052: d ln2 times that; three floors: 2 units
fqvit    2^-9      ibert's                                                       2^-code, t = round(1 / a) in
                                                                                 [3/4, 3/2) of 2^code
iptq     2^-8      straight octaves: 0.0615; 1.4453: 0.0026; 3 units             a
qflash   ln2 / 128 straight octaves: 0.0615; rounding: 1/2 + 1/32 of a unit      a
index    6.6 / 31  rounding: 1/2 of a unit of 255; e^-6.6 (1 + h) where it ends  nearest: 1 / 510
sole     2^-6      whole octaves: 2^(1/2) - 1; 1.4375 as above; 2 units; ends    a sum / L, in [0.8, 1.24] a
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pyquant import _C, numerics, ops
from pyquant.methods import methods
from tests.spec.cases import TYPE_RANGE

Float = NDArray[np.float64]
KINDS = ["random", "flat", "one hot", "near"]
LN2 = math.log(2)
# step in nats, rho, rho for each nat of distance, alpha
CURVES: dict[str, tuple[float, float, float, float]] = {
    "table16": (LN2 / 32, 0.0, 0.0, 0.75 / 16383),
    "table8": (LN2 / 32, 0.0, 0.0, 0.75 / 255),
    "ibert": (2.0**-9, 0.0, 0.0, 3.1e-3),
    "ivit": (2.0**-6, 0.0791, 0.0052 * LN2, 2 * 2.0**-6),
    "fqvit": (2.0**-9, 0.0, 0.0, 3.1e-3),
    "iptq": (2.0**-8, 0.0615, 0.0026 * LN2, 3 * 2.0**-8 + 2.0**-14),
    "qflash": (LN2 / 128, 0.0615, 0.0, 0.54 / 127),
    "index": (6.6 / 31, 0.0, 0.0, 0.5 / 255 + math.exp(-6.6) * (1 + 6.6 / 62)),
    "sole": (2.0**-6, math.sqrt(2) - 1, 0.0052 * LN2 * math.sqrt(2), 2 * 2.0**-6 + 2.0**-14),
}


def share_bound(method: str, distance: Float) -> Float:
    """Of |E / sum E - softmax|; distance [.., n] in nats."""
    step, rho, slope, alpha = CURVES[method]
    e = np.exp(-distance)
    # e^-d times (slope d) is at most slope / e, at any distance
    rel = (1 + rho) * math.exp(step / 2 * (1 + 2.0**-20)) - 1 + 2.0**-20
    absolute = alpha + slope / math.e
    total = e.sum(axis=-1, keepdims=True)
    below = total * (1 - rel) - absolute * e.shape[-1]
    bound = (rel * e + absolute + e / total * (rel * total + absolute * e.shape[-1])) / below
    return np.where(below > 0, np.minimum(bound, 1.0), 1.0)


def interval(method: str, real: Float, bound: Float) -> tuple[Float, Float]:
    """Where P / L lies if E / sum E lies within `bound` of the real share."""
    low, high = np.maximum(real - bound, 0.0), np.minimum(real + bound, 1.0)
    if method == "ibert":
        return low - 2.0**-8 - 2.0**-15, high
    if method == "ivit":
        return low * (1 - min(real.shape[-1] / 1024, 1.0)) - 2.0**-14, high
    if method == "index":
        return low - 1 / 510, high + 1 / 510
    if method == "fqvit":  # a = 1 / (t +- 1/2); codes end at 2^-14
        return low / (1 + low / 2) * 0.75 - 2.0**-14, high / (1 - high / 2) * 1.5
    if method == "sole":
        return low * 0.8, high * 1.24
    return low, high


def rows(rng: np.random.Generator, kind: str, n: int, dtype: str) -> NDArray[Any]:
    low, high = TYPE_RANGE[dtype]
    x = np.full((6, n), low)
    if kind == "random":
        x = rng.integers(low, high + 1, (6, n))
    if kind == "near":
        x = high - rng.integers(0, (high - low) // 40, (6, n))
    if kind == "one hot":
        x[np.arange(6), rng.integers(0, n, 6)] = high
    return x.astype(dtype)


def run(method: str, x: NDArray[Any], s_x: float, y_type: str) -> tuple[Float, float]:
    """P / L on the finest grid of `y_type` as real numbers, and half of its step."""
    low, high = TYPE_RANGE[y_type]
    y_scale = float(np.float32(1 / (high - low)))
    constants = numerics.derive_softmax(
        method, (s_x, 0, *TYPE_RANGE[str(x.dtype)]), (y_scale, low, low, high), x.shape[-1]
    )
    y = ops.softmax(x, **constants.keywords(), zero_point=low, dtype=y_type)
    return (y.astype(np.float64) - low) * y_scale, y_scale / 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("y_type", TYPE_RANGE)
@pytest.mark.parametrize("x_type", TYPE_RANGE)
@pytest.mark.parametrize("method", methods("softmax"))
def test_within_the_bound(method: str, x_type: str, y_type: str, kind: str) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    for n in (1, 2, 10, 100, 1000):
        for scale in (0.02, 0.15):
            s_x = float(np.float32(scale if x_type == "int8" else scale / 256))
            x = rows(rng, kind, n, x_type)
            distance = (x.max(axis=1, keepdims=True).astype(np.float64) - x) * s_x
            real = np.exp(-distance)
            real /= real.sum(axis=1, keepdims=True)
            low, high = interval(method, real, share_bound(method, distance))
            y, half = run(method, x, s_x, y_type)
            slack = half * (1 + 1e-6) + 1e-6
            assert (y >= np.minimum(low, 1.0) - slack).all(), (n, scale, float((low - y).max()))
            assert (y <= high + slack).all(), (n, scale, float((y - high).max()))


@pytest.mark.parametrize("x_type", TYPE_RANGE)
def test_table16_adds_little_to_the_output_rounding(x_type: str) -> None:
    """The index, off by up to 1/64 octave, is what 16 bits show: 1.1 % of each element, and of the sum."""
    rng = np.random.default_rng(9)
    s_x = float(np.float32(0.05 if x_type == "int8" else 0.05 / 256))
    x = rows(rng, "random", 200, x_type)
    distance = (x.max(axis=1, keepdims=True).astype(np.float64) - x) * s_x
    real = np.exp(-distance)
    real /= real.sum(axis=1, keepdims=True)
    y, half = run("table16", x, s_x, "int16")
    assert (np.abs(y - real) <= real * 0.022 + 1.5 / 16383 * (1 + 200 * real) + half).all()
    assert np.abs(y.sum(axis=1) - 1).max() < 200 * half + 1e-3


@pytest.mark.parametrize("method", methods("softmax"))
def test_equal_scores_share_alike(method: str) -> None:
    """Every method gives n equal elements the same, and all but those of few codes nearly 1 / n."""
    for n in (2, 5, 64):
        y, half = run(method, np.full((1, n), -3, np.int8), 0.1, "int16")
        assert (y == y[0, 0]).all()
        tolerance = {"fqvit": 0.5 / n, "sole": 0.25 / n, "index": 1 / 500, "ibert": 1 / 250, "ivit": 1 / 1000}
        assert abs(y[0, 0] - 1 / n) <= tolerance.get(method, 1e-4) + half


def test_the_reference_and_the_kernels_are_one() -> None:
    x = rows(np.random.default_rng(3), "random", 333, "int16")
    want = run("table16", x, 1e-4, "int8")[0]
    _C.isa_limit("ref")
    try:
        np.testing.assert_array_equal(run("table16", x, 1e-4, "int8")[0], want)
    finally:
        _C.isa_limit(None)
