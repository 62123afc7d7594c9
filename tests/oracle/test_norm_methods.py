"""How far LayerNorm's methods are from the real function, with a bound derived for each row.

I-BERT and I-ViT, in units of the normalised value n = sqrt(C) (x - mean) / S, S^2 = sum (x - mean)^2. The
mean is rounded, off by d (|d| <= 1/2), so that y = x - mean - d and S'^2 = sum y^2 = S^2 + C d^2:

    the rounded mean                    sqrt(C) |d| / S' + |n| (1 - S / S')
    std for S'                          |p| |std - S'| / std, p = sqrt(C) y / S'
    floor(F / std), F = 2^31 - 1 once   |p| (std + 1) / 2^31
    floor(y factor / 2)                 sqrt(C) / 2^30

times |gamma| / s_y, plus 1/2 for the last rounding and (|z| / 2 + 1/2) / 2^s for gain and offset.

FQ-ViT on its 8-bit input X, in output steps, with A = |gamma| / (std s_y):

    M = floor(A 2^N), 128 <= M < 256    |X| A / 128 (N clamped to 31: |X| / 2^31)
    mean part and B, rounded            1 / 2^N, and |mean| A 2^-26 + A 2^-20 for the constants
    the last rounding                   1/2
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pyquant import numerics, ops
from tests.oracle.test_layernorm import ROWS, rows
from tests.spec.cases import TYPE_RANGE
from tests.spec.norm_methods import root

CHANNELS = (1, 2, 7, 64, 384, 1031, 32767)
FLOAT = NDArray[np.float64]


def outputs(y_type: str) -> dict[str, int | str]:
    low, high = TYPE_RANGE[y_type]
    return {"dtype": y_type, "quant_min": low, "quant_max": high}


def layer(rng: np.random.Generator, channels: int, y_type: str) -> tuple[FLOAT, FLOAT, float]:
    gamma = rng.normal(1, 0.5, channels).astype(np.float32)
    gamma[: channels // 20] = 0  # beta alone is left
    beta = rng.normal(0, 0.5, channels).astype(np.float32)
    return gamma, beta, float(np.float32(0.03 if y_type == "int8" else 2e-4))


def clamped(real: FLOAT, y_type: str) -> FLOAT:
    return np.clip(real, *TYPE_RANGE[y_type])


@pytest.mark.parametrize("rms", [False, True], ids=["layer", "rms"])
@pytest.mark.parametrize("method", ["ibert", "ivit", "ivit_published"])
@pytest.mark.parametrize("x_type", TYPE_RANGE)
@pytest.mark.parametrize("kind", ROWS)
def test_newton_within_the_bound(kind: str, x_type: str, method: str, rms: bool) -> None:
    rng = np.random.default_rng(ROWS.index(kind))
    for channels in CHANNELS:
        for y_type in TYPE_RANGE:
            x = rows(rng, kind, channels, x_type).astype(np.int64)
            gamma, beta, s_y = layer(rng, channels, y_type)
            c = numerics.derive_layernorm(channels, gamma, beta, 1e-6, 0.02, s_y, method)
            zero = int(rng.integers(-5, 6)) if rms else 0
            y = ops.layernorm(x.astype(x_type), **c.keywords(), rms=rms, x_zero_point=zero, **outputs(y_type))

            centre = np.full((len(x), 1), zero) if rms else x.mean(1, keepdims=True)
            rounded = np.floor(centre + 0.5).astype(np.int64)  # channels < 2^15: exact
            differences = x - rounded
            squares = (differences**2).sum(1, keepdims=True)
            std = np.array([[root(method, max(int(v), 1))] for v in squares[:, 0]])
            real = np.sqrt(((x - centre) ** 2).sum(1, keepdims=True))
            estimate = np.maximum(np.sqrt(squares), 1.0)
            n = math.sqrt(channels) * (x - centre) / np.where(real > 0, real, 1.0)
            p = math.sqrt(channels) * differences / estimate
            of_mean = math.sqrt(channels) * np.abs(rounded - centre) / estimate
            bound = of_mean + np.abs(n) * (1 - real / estimate)
            bound += np.abs(p) * (np.abs(std - estimate) / std + (std + 1) / 2**31)
            bound += math.sqrt(channels) / 2**30
            z_max = 2**30  # of the gain's own rounding
            steps = np.abs(gamma.astype(np.float64) / s_y) * bound + 0.5 + (z_max / 2 + 1) / 2**c.shift + 1e-6
            want = clamped(n * gamma.astype(np.float64) / s_y + beta.astype(np.float64) / s_y, y_type)
            assert (np.abs(y - want) <= steps).all(), (kind, channels, y_type)


def expanded(x: NDArray[np.int64], zero: int, c: numerics.LayerNormConstants) -> NDArray[np.int64]:
    """X of layernorm.h, on the scale s1."""
    shift = c.ptf_shift + c.alpha.astype(np.int64)
    step = ((x - zero) * c.ptf_multiplier + (1 << (shift - 1))) >> shift
    return np.clip(step, -128 - c.ptf_zero_point, 127 - c.ptf_zero_point) << c.alpha


def ranges(x: NDArray[np.int64], zero: int, s_x: float) -> NDArray[np.float32]:
    real = (x - zero) * s_x
    return np.stack([real.min(0), real.max(0)]).astype(np.float32)


@pytest.mark.parametrize("rms", [False, True], ids=["layer", "rms"])
@pytest.mark.parametrize("x_type", TYPE_RANGE)
@pytest.mark.parametrize("kind", ROWS)
def test_ptf_within_the_bound(kind: str, x_type: str, rms: bool) -> None:
    rng = np.random.default_rng(ROWS.index(kind))
    s_x = float(np.float32(0.02))
    for channels in CHANNELS:
        for y_type in TYPE_RANGE:
            x = rows(rng, kind, channels, x_type).astype(np.int64)
            gamma, beta, s_y = layer(rng, channels, y_type)
            zero = int(rng.integers(-5, 6))
            c = numerics.derive_layernorm(channels, gamma, beta, 1e-6, s_x, s_y, "ptf", ranges(x, zero, s_x))
            y = ops.layernorm(x.astype(x_type), **c.keywords(), rms=rms, x_zero_point=zero, **outputs(y_type))

            wide = expanded(x, zero, c).astype(np.float64)
            mean = np.zeros((len(x), 1)) if rms else wide.mean(1, keepdims=True)
            std = np.sqrt((wide**2).mean(1, keepdims=True) if rms else wide.var(1, keepdims=True))
            a = np.abs(gamma.astype(np.float64)) / (np.where(std > 0, std, np.inf) * s_y)
            n = np.where(a > 0, np.clip(7 - np.floor(np.log2(np.where(a > 0, a, 1.0))), 0, 31), 4)
            want = np.sign(gamma) * a * (wide - mean) + beta.astype(np.float64) / s_y
            bound = 0.5 + 2.0**-n + np.abs(wide) * np.maximum(a / 128, 2.0**-31) + 1e-6
            bound += np.abs(mean) * a * 2.0**-26 + a * 2.0**-20
            assert (np.abs(y - clamped(want, y_type)) <= bound).all(), (kind, channels, y_type)


def test_ptf_brings_each_channel_to_eight_bits() -> None:
    """x within half a step of its channel's scale; the scales are the powers of two that channels need."""
    rng = np.random.default_rng(1)
    sizes = np.array([100.0, 40.0, 20.0, 10.0, 1.0])
    x = (rng.uniform(-1, 1, (500, 5)) * sizes * 300).astype(np.int64)
    s_x = float(np.float32(1 / 300))
    x_range = ranges(x, 0, s_x)
    c = numerics.derive_layernorm(5, None, None, 0.0, s_x, 0.03, "ptf", x_range)
    assert c.alpha is not None
    assert c.alpha.tolist() == [3, 2, 1, 0, 0]
    s1 = (float(x_range[1].max()) - float(x_range[0].min())) / 255 / 8
    error = np.abs(expanded(x, 0, c) * s1 - x * s_x)
    assert (error <= s1 * 2.0**c.alpha * 0.501).all()


def released(
    wide: FLOAT, s1: float, gamma: NDArray[np.float32], beta: NDArray[np.float32], s_y: float
) -> FLOAT:
    """FQ-ViT's integer LayerNorm as released computes it, with A and B in floating point."""
    channels = wide.shape[-1]
    mean = wide.mean(1, keepdims=True) * s1
    squares = channels * (wide**2).sum(1, keepdims=True) - wide.sum(1, keepdims=True) ** 2
    std = s1 / channels * np.sqrt(squares)
    a = s1 / std * gamma.astype(np.float64) / s_y
    n = np.clip(7 - np.floor(np.log2(np.abs(a))), 0, 31)
    m = np.clip(np.floor(np.abs(a) * 2**n), 0, 255)
    b = np.round((beta.astype(np.float64) - mean / std * gamma) / s_y * 2**n)
    return np.round((np.sign(a) * m * wide + b) / 2**n)


def test_ptf_is_the_released_arithmetic_but_for_ties() -> None:
    """A has 29 bits here and float64's there: M differs only where A 2^N lies that near to an integer. B is
    the difference of two rounded parts here, rounded once there: 1 / 2^N at most, which moves few results."""
    rng = np.random.default_rng(2)
    x = rng.integers(-20000, 20000, (200, 384))
    gamma = rng.normal(1, 0.5, 384).astype(np.float32)
    beta = rng.normal(0, 0.5, 384).astype(np.float32)
    s_x, s_y = float(np.float32(1e-3)), float(np.float32(0.03))
    x_range = ranges(x, 0, s_x)
    c = numerics.derive_layernorm(384, gamma, beta, 0.0, s_x, s_y, "ptf", x_range)
    y = ops.layernorm(x.astype(np.int16), **c.keywords()).astype(np.int64)
    s1 = (float(x_range[1].max()) - float(x_range[0].min())) / 255 / 8
    want = np.clip(released(expanded(x, 0, c).astype(np.float64), s1, gamma, beta, s_y), -128, 127)
    assert np.abs(y - want).max() <= 1
    assert (y != want).mean() < 0.005


def test_on_a_usual_layer_all_methods_are_near() -> None:
    """384 channels of a 16-bit residual stream: SQNR in dB, of which the output's 8 bits make 35.2."""
    rng = np.random.default_rng(3)
    x = np.round(rng.normal(0, 2000, (197, 384)))
    s_x, s_y = float(np.float32(1e-3)), float(np.float32(0.06))
    real = x * s_x
    want = (real - real.mean(1, keepdims=True)) / real.std(1, keepdims=True)
    found = {}
    for method in [*numerics.NORM_METHODS, "ivit(iterations=1)", "ivit(iterations=2)"]:
        c = numerics.derive_layernorm(384, None, None, 0.0, s_x, s_y, method, ranges(x, 0, s_x))
        y = ops.layernorm(x.astype(np.int16), **c.keywords()) * s_y
        found[method] = 20 * np.log10(np.linalg.norm(want) / np.linalg.norm(want - y))
    for method in ("ibert", "ivit", "ivit_published"):
        assert abs(found[method] - found["exact"]) < 0.02
    assert found["exact"] - 2 < found["ptf"] < found["exact"]  # 33.9
    assert found["ivit(iterations=1)"] < found["exact"] - 10  # 18.2
    assert found["exact"] - 2 < found["ivit(iterations=2)"] < found["exact"]  # 34.2
