"""How far the online form of attention is from the real function, beside the exact form.

A weight rounded to a unit of pmax when its key came, below a maximum that was lower then, is finer than one
rounded below the row's maximum: with many keys and a small pmax the online form is the nearer one. What
rescaling costs is far below the step of the index.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pyquant import ops
from pyquant.numerics import derive_attention

Float = NDArray[np.float64]
STEP = float(np.float32(4 / 127))
GRID = (STEP, 0, -128, 127)


def decibels(real: Float, got: NDArray[np.floating[Any]]) -> float:
    return float(10 * np.log10((real**2).sum() / ((got - real) ** 2).sum()))


def site(head_dim: int, keys: int) -> dict[str, Any]:
    return derive_attention("table16", GRID, GRID, GRID, GRID, head_dim**-0.5, head_dim, keys).keywords()


def sqnr(heads: int, q_len: int, keys: int, seed: int) -> tuple[float, float]:
    """Of the exact and of the online form against float64, over q, k, v uniform in [-4, 4)."""
    rng = np.random.default_rng(seed)
    q, k, v = (rng.uniform(-4, 4, (1, heads, n, 64)) for n in (q_len, keys, keys))
    scores = q @ np.swapaxes(k, -1, -2) * 0.125
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    real = weights / weights.sum(axis=-1, keepdims=True) @ v
    operands = [np.clip(np.rint(x / STEP), -128, 127).astype(np.int8) for x in (q, k, v)]
    constants = site(64, keys)
    return (
        decibels(real, ops.attention(*operands, **constants) * STEP),
        decibels(real, ops.attention_online64(*operands, **constants) * STEP),
    )


@pytest.mark.parametrize("seed", range(10))
def test_as_near_as_the_exact_form(seed: int) -> None:
    """Both end at the 8-bit grids of q, k, v and y, some 36.7 dB here."""
    exact, online = sqnr(6, 197, 197, seed)
    assert exact > 36
    assert abs(online - exact) < 0.25


@pytest.mark.parametrize(("keys", "least"), [(1024, -0.25), (4096, -0.1), (16_384, 0.5)])
def test_long_rows_are_nearer(keys: int, least: float) -> None:
    """pmax is 16383, 4095 and 1023: the gain grows as the unit of a weight does."""
    exact, online = sqnr(1, 8, keys, 0)
    assert online - exact > least


def test_the_two_forms_differ_by_units() -> None:
    """Another definition, and not another result: some outputs differ, none by more than 2."""
    rng = np.random.default_rng(5)
    q, k, v = (rng.integers(-128, 128, (1, 1, n, 64)).astype(np.int8) for n in (20, 1000, 1000))
    constants = site(64, 1000)
    exact, online = ops.attention(q, k, v, **constants), ops.attention_online64(q, k, v, **constants)
    difference = np.abs(exact.astype(np.int32) - online)
    assert np.count_nonzero(difference) > 0
    assert difference.max() <= 2
