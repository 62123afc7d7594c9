"""How far integer LayerNorm is from the real function, with a bound derived for each row.

In output steps, where g = gain / 2^s ~ gamma / s_y * 2^-16 and z is the normalised value in Q16:

    last rounding                                                           1/2
    z = rnu(...)                                                            1/2 * |g|
    m_r: floor of the root 2^-31, floor of 2^62 / r and the cap 2^-30 each  |z| * 2^-29 * |g|
    E rounded to an integer: 1/sqrt(W) moves by (1/2) / (2 W)               |z| / (4 W) * |g|
    W = max(V + E, 1)                                                       only V + E = 0, where z = 0
    gain and offset rounded                                                 (|z| / 2 + 1/2) / 2^s

and clamping brings two numbers no farther apart. float64 itself adds less than 1e-9 of a value.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pyquant import _C
from tests.spec.cases import TYPE_RANGE

ROWS = ["random", "low", "high", "one hot", "small", "peak", "alternating"]


def rows(rng: np.random.Generator, kind: str, channels: int, dtype: str) -> NDArray[np.generic]:
    low, high = TYPE_RANGE[dtype]
    x = np.full((4, channels), {"low": low, "high": high, "peak": low}.get(kind, 0))
    if kind == "random":
        x = rng.integers(low, high + 1, (4, channels))
    if kind == "one hot":
        x[np.arange(4), rng.integers(0, channels, 4)] = high
    if kind == "small":
        x = rng.integers(-1, 2, (4, channels))
    if kind == "peak":
        x[:, -1] = high
    if kind == "alternating":
        x[:, ::2], x[:, 1::2] = low, high
    return x.astype(dtype)


@pytest.mark.parametrize("rms", [False, True], ids=["layer", "rms"])
@pytest.mark.parametrize("y_type", TYPE_RANGE)
@pytest.mark.parametrize("x_type", TYPE_RANGE)
@pytest.mark.parametrize("kind", ROWS)
def test_within_the_bound(kind: str, x_type: str, y_type: str, rms: bool) -> None:
    rng = np.random.default_rng(ROWS.index(kind))
    for channels in (1, 2, 7, 64, 384, 1031, 32767):
        x = rows(rng, kind, channels, x_type)
        gamma = rng.normal(1, 0.5, channels).astype(np.float32)
        beta = rng.normal(0, 0.5, channels).astype(np.float32)
        s_x = float(np.float32(0.02))
        s_y = float(np.float32(0.03 if y_type == "int8" else 2e-4))
        zero = int(rng.integers(-5, 6))
        x_zero = int(rng.integers(-5, 6))
        eps = 1e-6

        e, gain, offset, s = _C.derive_layernorm(channels, gamma, beta, eps, s_x, s_y)
        low, high = TYPE_RANGE[y_type]
        out = {"zero_point": zero, "quant_min": low, "quant_max": high, "dtype": y_type}
        y = _C.layernorm(x, gain, offset, e, s, rms=rms, x_zero_point=x_zero, **out)

        q = x.astype(np.float64) - x_zero
        centred = q if rms else q - q.mean(axis=1, keepdims=True)
        variance = (centred**2).mean(axis=1, keepdims=True)  # in units of x
        normalised = centred * s_x / np.sqrt(variance * s_x**2 + eps)
        real = np.clip((normalised * gamma + beta) / s_y + zero, low, high)

        w = np.maximum(channels**2 * variance, 1.0)
        z = np.abs(normalised) * 2**16
        g = np.abs(gain) / 2.0**s
        bound = 0.5 + (0.5 + z * (2.0**-29 + 1 / (4 * w))) * g + (z / 2 + 0.5) / 2.0**s + 1e-6
        assert (np.abs(y - real) <= bound).all(), f"{channels} channels: {np.abs(y - real).max()}"


def test_zero_variance_is_beta() -> None:
    beta = np.linspace(-1, 1, 50).astype(np.float32)
    e, gain, offset, s = _C.derive_layernorm(50, None, beta, 1e-6, 0.02, 2.0**-6)
    for value in (-128, 0, 127):
        y = _C.layernorm(np.full((3, 50), value, np.int8), gain, offset, e, s)
        # Half up, exactly: beta / s_y is a float32 times 2^6.
        assert (y == np.floor(beta.astype(np.float64) * 2**6 + 0.5)).all()
