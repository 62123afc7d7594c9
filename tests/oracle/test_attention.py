"""How far integer softmax and attention are from the real functions, with bounds derived key by key.

A weight w_j = pmax * 2^(-u_j) for a distance of u_j octaves. The index is rounded to 1/32 octave, so off by
half of that; the slope m / 2^s is off by 1 / (2m) of itself, over at most 481 steps another 241 / m steps.
Hence P_j lies within a factor 2^((1/2 + 241/m) / 32) of w_j, up to the roundings: the doubled table entry (at
most 1/4 after the shift) and the last one (1/2). At u >= 480 P is 0 and w below 0.52, inside those 3/4 too.

    |P - w| <= eps w + a,  eps = 2^((1/2 + 241/m) / 32) - 1,  a = 3/4
    |P/L - w/W| <= (eps w + a) / L + w/W * (eps W + a n) / L
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pyquant import _C

Float = NDArray[np.float64]
METHODS = {"table16": 0, "table8": 1}


class Site:
    """Attention at given scales: constants from derive, results as real numbers."""

    def __init__(
        self, method: str, head_dim: int, keys: int, zeros: tuple[int, int, int, int], scale: float
    ) -> None:
        self.scales = [float(np.float32(s)) for s in (0.03, 0.02, 0.04, 0.025)]
        self.zeros, self.softmax_scale = zeros, scale
        grids = [(s, z, -128, 127) for s, z in zip(self.scales, zeros, strict=True)]
        names = ("table", "delta_max", "softmax_multiplier", "softmax_shift", "pmax", "softmax_bits")
        names += ("multiplier", "shift")
        values = _C.derive_attention(method, *grids, scale, head_dim, keys)
        self.constants: dict[str, Any] = dict(zip(names, values, strict=True))
        self.constants |= {"method": METHODS[method], "q_zero_point": zeros[0], "k_zero_point": zeros[1]}
        self.constants |= {"v_zero_point": zeros[2], "zero_point": zeros[3]}

    def run(self, q: Any, k: Any, v: Any) -> tuple[Any, Any, Any, Any]:
        """(y, score, p, l), each without the axis of groups."""
        operands = (a[:, None] for a in (q, k, v))
        traced = _C.attention_trace(*operands, **self.constants)
        y = _C.attention(*(a[:, None] for a in (q, k, v)), **self.constants)
        np.testing.assert_array_equal(y, traced[0])
        return tuple(a[:, 0] for a in traced)  # type: ignore[return-value]

    def probabilities(self, q: Any, k: Any) -> Float:
        """softmax of the real scores, in float64."""
        real_q = (q.astype(np.float64) - self.zeros[0]) * self.scales[0]
        real_k = (k.astype(np.float64) - self.zeros[1]) * self.scales[1]
        scores = real_q @ np.swapaxes(real_k, -1, -2) * self.softmax_scale
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)

    def bound(self, real: Float, p: Any, total: Any) -> Float:
        """The derived bound of |P/L - softmax|, key by key."""
        eps = 2 ** ((0.5 + 241 / self.constants["softmax_multiplier"]) / 32) - 1
        pmax, a, n = self.constants["pmax"], 0.75, real.shape[-1]
        w = real / real.max(axis=-1, keepdims=True) * pmax
        big_w = w.sum(axis=-1, keepdims=True)
        length = total[..., None].astype(np.float64)
        return (eps * w + a) / length + real * (eps * big_w + a * n) / length + 1e-12


def check(site: Site, q: Any, k: Any, v: Any) -> None:
    y, _, p, total = site.run(q, k, v)
    real = site.probabilities(q, k)
    bound = site.bound(real, p, total)
    assert (np.abs(p / total[..., None] - real) <= bound).all()
    assert (p.astype(np.int64).sum(axis=-1) == total).all()

    # The output: errors of the weights times |v|, then one rounding; normalising costs 2^-29 of the value.
    values = v.astype(np.float64) - site.zeros[2]
    ratio = site.scales[2] / site.scales[3]
    exact = real @ values * ratio
    limit = bound @ np.abs(values) * ratio + 0.5 + np.abs(exact) * 2.0**-29 + 1e-9
    assert (np.abs(y - np.clip(exact + site.zeros[3], -128, 127)) <= limit).all()

    # Given the weights, what remains is the last rounding.
    given = (p @ values) / total[..., None] * ratio
    assert (
        np.abs(y - np.clip(given + site.zeros[3], -128, 127)) <= 0.5 + np.abs(given) * 2.0**-29 + 1e-9
    ).all()


def uniform(rng: np.random.Generator, *shape: int) -> Any:
    return rng.integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [0.01, 0.125, 1.0])
def test_random(method: str, scale: float) -> None:
    rng = np.random.default_rng(0)
    for q_len, k_len, d in ((1, 1, 1), (5, 17, 8), (9, 197, 64), (4, 1025, 32)):
        site = Site(method, d, k_len, (3, -5, 7, -11), scale)
        check(site, uniform(rng, 2, 2, q_len, d), uniform(rng, 2, 2, k_len, d), uniform(rng, 2, 2, k_len, d))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("q_value", [-128, 127])
@pytest.mark.parametrize("k_value", [-128, 127])
def test_all_alike(method: str, q_value: int, k_value: int) -> None:
    """Equal scores: uniform weights, the mean of the values."""
    rng = np.random.default_rng(1)
    site = Site(method, 64, 197, (127, -128, -128, 0), 0.125)
    q, k = np.full((1, 1, 3, 64), q_value, np.int8), np.full((1, 1, 197, 64), k_value, np.int8)
    v = uniform(rng, 1, 1, 197, 64)
    check(site, q, k, v)
    y, _, p, _ = site.run(q, k, v)
    assert (p == site.constants["pmax"]).all()
    mean = (v.astype(np.float64) + 128).mean(axis=2, keepdims=True) * site.scales[2] / site.scales[3]
    assert (np.abs(y - np.clip(mean, -128, 127)) <= 0.5 + 1e-6).all()


@pytest.mark.parametrize("method", METHODS)
def test_one_hot(method: str) -> None:
    """One key far above all others takes the whole row, however many others there are."""
    for keys in (2, 197, 5000):
        site = Site(method, 16, keys, (0, 0, 0, 0), 1.0)
        q = np.full((1, 1, 1, 16), 127, np.int8)
        k = np.full((1, 1, keys, 16), -128, np.int8)
        k[0, 0, keys // 2] = 127
        v = np.full((1, 1, keys, 16), -100, np.int8)
        v[0, 0, keys // 2] = 77
        y, _, p, total = site.run(q, k, v)
        assert np.count_nonzero(p) == 1
        assert total.item() == site.constants["pmax"]
        assert (y == np.floor(77 * site.scales[2] / site.scales[3] + 0.5)).all()
        check(site, q, k, v)


@pytest.mark.parametrize("method", METHODS)
def test_a_row_of_one_key_is_its_value(method: str) -> None:
    rng = np.random.default_rng(2)
    site = Site(method, 8, 1, (1, 2, 3, 4), 0.3)
    q, k, v = uniform(rng, 1, 1, 4, 8), uniform(rng, 1, 1, 1, 8), uniform(rng, 1, 1, 1, 8)
    y, _, p, _ = site.run(q, k, v)
    assert (p == site.constants["pmax"]).all()
    exact = (v.astype(np.float64) - 3) * site.scales[2] / site.scales[3] + 4
    assert (np.abs(y - np.clip(exact, -128, 127)) <= 0.5 + 1e-6).all()
    check(site, q, k, v)


@pytest.mark.parametrize("kind", ["random", "flat", "one hot"])
def test_a_row_of_100_000_keys(kind: str) -> None:
    """pmax is 167 here so that no sum leaves int32; the weights are coarser, and the bound knows."""
    rng = np.random.default_rng(3)
    keys, d = 100_000, 8
    site = Site("table16", d, keys, (0, 0, 0, 0), 0.35)
    assert site.constants["pmax"] == 167
    q, k, v = uniform(rng, 1, 1, 2, d), uniform(rng, 1, 1, keys, d), uniform(rng, 1, 1, keys, d)
    if kind == "flat":
        k[:] = 1
    if kind == "one hot":
        k[:] = -128 * np.sign(q[:, :, :1]).astype(np.int8)
        k[0, 0, 12345] = q[0, 0, 0]
    check(site, q, k, v)


def test_long_rows_stay_below_2_to_31() -> None:
    """The worst the bound allows: all weights pmax, all |v - z_v| = 255."""
    for keys in (1024, 4096, 50_000):
        site = Site("table16", 1, keys, (0, 0, -128, -128), 1.0)
        q, k = np.zeros((1, 1, 1, 1), np.int8), np.zeros((1, 1, keys, 1), np.int8)
        check(site, q, k, np.full((1, 1, keys, 1), 127, np.int8))


def test_the_index_step_costs_44_db() -> None:
    """u is off by a uniform +-1/2 step, 1/64 octave: an rms of ln 2 / 32 / sqrt(12) = 0.00625, 44.1 dB."""
    rng = np.random.default_rng(4)
    site = Site("table16", 64, 197, (0, 0, 0, 0), 0.125)
    q, k = uniform(rng, 1, 6, 197, 64) // 4, uniform(rng, 1, 6, 197, 64) // 4
    _, _, p, _ = site.run(q, k, k)
    # Among the near keys: the far ones are lost to the last rounding, which is not the index's doing.
    real = site.probabilities(q, k)
    near = real > real.max(axis=-1, keepdims=True) / 64
    weights = p * real.max(axis=-1, keepdims=True) / site.constants["pmax"]
    error = (weights[near] / real[near] - 1).std()
    assert 43.5 < -20 * np.log10(error) < 45.0
