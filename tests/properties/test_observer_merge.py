"""Merging observers: what one observer of everything knows, however it was spread and in any order."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyquant.config import OBSERVERS as NAMES
from pyquant.config import SiteConfig
from pyquant.observers import (
    OBSERVERS,
    ChannelRange,
    HessianObserver,
    MinMaxObserver,
    Observer,
    make_observer,
)

MERGEABLE = [name for name in NAMES if OBSERVERS[name].mergeable]
SEEDS = st.integers(0, 2**32 - 1)


def values(seed: int, size: int) -> torch.Tensor:
    """Of many magnitudes, with zeros of both signs and subnormals."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=size) * np.exp2(rng.integers(-140, 40, size) if seed % 2 else np.zeros(size))
    x[rng.random(size) < 0.2] = 0.0
    x[rng.random(size) < 0.1] = -0.0
    return torch.from_numpy(x.astype(np.float32))


def gradient(x: torch.Tensor) -> torch.Tensor:
    """Some function of the values, so that it stays with them."""
    return torch.cos(x) + x.sign() * 0.5


def observed(name: str, *batches: torch.Tensor) -> Observer:
    made = make_observer(name, SiteConfig())
    for batch in batches:
        made(batch, gradient(batch) if made.needs_gradient else None)
    return made


def merged(*parts: Observer) -> Observer:
    made = copy.deepcopy(parts[0])
    for part in parts[1:]:
        made.merge(part)
    return made


def assert_same(got: Observer, want: Observer, additions: int = 0) -> None:
    """Bit for bit; sums of squares but for the rounding of so many additions."""
    for (name, mine), theirs in zip(got.named_buffers(), want.buffers(), strict=True):
        if name == "weights" and additions:
            np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=additions * 2.0**-52)
        else:
            assert torch.equal(mine, theirs), name


@pytest.mark.parametrize("name", MERGEABLE)
@given(SEEDS, st.integers(1, 300), st.integers(1, 6))
def test_merging_equals_one_pass(name: str, seed: int, size: int, pieces: int) -> None:
    x = values(seed, size)
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, size + 1, pieces - 1)).tolist()
    parts = [observed(name, part) for part in torch.tensor_split(x, cuts)]
    order = rng.permutation(pieces).tolist()
    whole = observed(name, x)
    assert_same(merged(make_observer(name, SiteConfig()), *(parts[i] for i in order)), whole, size + pieces)
    if not whole.needs_gradient:
        for bits, symmetric in ((4, True), (8, False)):
            want = whole.qparams(bits, symmetric)
            assert merged(*(parts[i] for i in order)).qparams(bits, symmetric) == want


@pytest.mark.parametrize("name", MERGEABLE)
@given(SEEDS, st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_merging_commutes_and_associates(name: str, seed: int, first: int, second: int, third: int) -> None:
    a, b, c = (observed(name, values(seed + i, size)) for i, size in enumerate((first, second, third)))
    assert_same(merged(a, b), merged(b, a))
    assert_same(merged(merged(a, b), c), merged(a, merged(b, c)), 2)
    assert_same(merged(a, make_observer(name, SiteConfig())), a)
    assert_same(merged(make_observer(name, SiteConfig()), a), a)


@given(SEEDS, st.integers(0, 20), st.integers(0, 20), st.integers(1, 5))
def test_channel_ranges_merge(seed: int, first: int, second: int, channels: int) -> None:
    x = values(seed, (first + second) * channels).reshape(-1, channels)
    parts, whole = (ChannelRange(channels), ChannelRange(channels)), ChannelRange(channels)
    parts[0](x[:first])
    parts[1](x[first:])
    whole(x)
    for one, two in ((0, 1), (1, 0)):
        made = copy.deepcopy(parts[one])
        made.merge(parts[two])
        assert torch.equal(made.range(), whole.range())


def test_ema_refuses_and_says_what_does_not() -> None:
    made = observed("ema", torch.ones(2))
    with pytest.raises(ValueError, match=r"'ema' depends on the order .* choose one of .*kl.*minmax.*mse"):
        made.merge(copy.deepcopy(made))


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an observer of the same kind to merge, got percentile"):
        observed("mse", torch.ones(2)).merge(observed("percentile", torch.ones(2)))


@pytest.mark.parametrize("low", [float("nan"), float("inf"), 2.0])
def test_what_no_update_can_have_left(low: float) -> None:
    made, bad = observed("minmax", torch.ones(2)), observed("minmax", torch.ones(2))
    assert isinstance(bad, MinMaxObserver)
    bad.minimum.fill_(low)
    with pytest.raises(ValueError, match="minmax: expected finite minimum <= maximum"):
        made.merge(bad)
    assert_same(made, observed("minmax", torch.ones(2)))


def test_damaged_histograms_and_sums() -> None:
    made, bad = observed("hessian", torch.ones(2)), observed("hessian", torch.ones(2))
    assert isinstance(bad, HessianObserver)
    bad.weights[3] = float("nan")
    with pytest.raises(ValueError, match="hessian: expected finite sums"):
        made.merge(bad)
    bad.weights[3] = 0.0
    bad.counts[3] = -1
    with pytest.raises(ValueError, match="expected counts and meta of a histogram"):
        made.merge(bad)
    assert_same(made, observed("hessian", torch.ones(2)))


def test_damaged_channels() -> None:
    made, bad = ChannelRange(2), ChannelRange(2)
    bad.maximum[0] = 1.0
    with pytest.raises(ValueError, match="channel range: expected finite"):
        made.merge(bad)
    with pytest.raises(ValueError, match="expected 2 channels, got 3"):
        made.merge(ChannelRange(3))
