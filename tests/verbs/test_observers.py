"""Observers: ranges by hand and against NumPy, and the promises of the searches."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyquant.config import OBSERVERS as NAMES
from pyquant.observers import OBSERVERS, HistogramObserver, mse_weight_scale
from pyquant.observers.search import grids
from pyquant.qparams import QParams, qparams_from_range
from pyquant.torch_ops import HISTOGRAM_BINS
from tests.verbs.samples import SAMPLES, cost, observer, sample, see


def test_the_registry_is_the_configurations() -> None:
    assert set(OBSERVERS) == set(NAMES)
    assert all(cls.name == name for name, cls in OBSERVERS.items())


def test_observers_can_be_imported_first() -> None:
    subprocess.run([sys.executable, "-c", "import pyquant.observers"], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_life(name: str) -> None:
    made = observer(name)
    assert made.empty
    see(made, torch.zeros(0, 4))
    assert made.empty
    see(made, torch.tensor([[-1.0, 3.0]]).t())  # not contiguous
    assert not made.empty
    made.reset()
    assert made.empty
    assert all(torch.equal(a, b) for a, b in zip(made.buffers(), observer(name).buffers(), strict=True))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(name: str, bad: float) -> None:
    made = observer(name, torch.ones(3))
    before = [buffer.clone() for buffer in made.buffers()]
    with pytest.raises(RuntimeError):
        see(made, torch.tensor([1.0, bad]))
    assert all(torch.equal(a, b) for a, b in zip(made.buffers(), before, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_state_has_a_fixed_size_and_its_dtypes(name: str) -> None:
    made = observer(name)
    sizes = {n: (b.shape, b.dtype) for n, b in made.named_buffers()}
    for scale in (1e-6, 1.0, 1e6):
        see(made, torch.randn(1000) * scale)
    assert {n: (b.shape, b.dtype) for n, b in made.half().named_buffers()} == sizes
    tables = 2 if made.needs_gradient else 1
    assert sum(b.numel() for b in made.buffers()) <= tables * HISTOGRAM_BINS + 4


def test_minmax() -> None:
    made = observer("minmax", torch.tensor([0.5, 2.0]), torch.tensor([-1.5]), torch.tensor([1.0]))
    assert made.qparams(8, False) == qparams_from_range(-1.5, 2.0, 8, False)
    assert made.qparams(8, True) == QParams(2.0 / 127, 0, -127, 127)


def test_ema_by_hand() -> None:
    """(-1, 2), then 0.75 old + 0.25 new: (-1.5, 2), (-1.125, 2.5)."""
    batches = [torch.tensor(b) for b in ([-1.0, 2.0], [-3.0, 2.0], [0.0, 4.0])]
    made = observer("ema", *batches, momentum=0.75)
    assert made.qparams(8, False) == qparams_from_range(-1.125, 2.5, 8, False)


@pytest.mark.parametrize("name", ["normal", "laplace", "uniform", "gelu", "negative"])
@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9, 100.0])
def test_percentile_against_numpy(name: str, percentile: float) -> None:
    """Within one bin of the order statistic (its neighbours, where the rank is a whole number)."""
    x = sample(name)
    made = observer("percentile", *torch.from_numpy(x).split(3000), percentile=percentile)
    assert isinstance(made, HistogramObserver)
    width = 2.0 * 2.0 ** float(made.meta[3]) / HISTOGRAM_BINS
    tail = (1.0 - percentile / 100.0) / 2
    density = made.density()

    def check(got: float, values: np.ndarray, share: float) -> None:
        around = np.clip([share - 1e-6, share + 1e-6], 0.0, 1.0)
        least, most = np.quantile(values, around, method="inverted_cdf")
        assert least - width <= got <= most + width

    for share in (tail, 1.0 - tail):
        check(density.quantile(share), x, share)
    check(made.density(absolute=True).quantile(percentile / 100.0), np.abs(x), percentile / 100.0)
    assert density.quantile(1.0) == x.max()
    assert density.quantile(0.0) == x.min()
    low, high = (min(density.quantile(tail), 0.0), max(density.quantile(1.0 - tail), 0.0))
    assert made.qparams(8, False) == qparams_from_range(low, high, 8, False)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", SAMPLES)
def test_predicted_error(name: str, bits: int, symmetric: bool) -> None:
    """The integral over the histogram is the mean over the samples, but for where they lie inside a bin.

    A sample may move by its bin's width w at most, so its rounding error e becomes at most (e + w): the
    difference of the means is below 2 w sqrt(mean e^2) + w^2.
    """
    x = sample(name).astype(np.float64)
    made = observer("mse", torch.from_numpy(x).float())
    assert isinstance(made, HistogramObserver)
    density = made.density()
    for shrink in (1.0, 0.6):
        grid = qparams_from_range(min(x.min(), 0.0) * shrink, max(x.max(), 0.0) * shrink, bits, symmetric)
        scale, zero_point = np.array([grid.scale]), np.array([float(grid.zero_point)])
        error = density.squared_error(scale, zero_point, grid.quant_min, grid.quant_max)
        true = cost(x, grid)
        bound = 2 * density.width * np.sqrt(true) + density.width**2
        assert abs(float(error[0]) / len(x) - true) <= bound


@pytest.mark.parametrize("bits", [3, 4, 6, 8, 16])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", SAMPLES)
def test_mse_is_never_worse_than_minmax(name: str, bits: int, symmetric: bool) -> None:
    """On the histogram exactly; on the samples up to what the histogram does not know."""
    x = sample(name)
    made = observer("mse", torch.from_numpy(x))
    assert isinstance(made, HistogramObserver)
    density = made.density()
    found = made.qparams(bits, symmetric)
    whole = observer("minmax", torch.from_numpy(x)).qparams(bits, symmetric)
    scale, zero_point = np.array([found.scale, whole.scale]), np.array([found.zero_point, whole.zero_point])
    errors = density.squared_error(scale, zero_point.astype(np.float64), found.quant_min, found.quant_max)
    assert errors[0] <= errors[1] * (1 + 1e-9) + 1e-12
    assert cost(x, found) <= 1.02 * cost(x, whole) + 1e-12


def test_mse_clips_an_outlier() -> None:
    x = sample("outlier")
    found = observer("mse", torch.from_numpy(x)).qparams(4, True)
    assert found.scale * found.quant_max < 5.0
    assert cost(x, found) < 0.1 * cost(x, qparams_from_range(-40.0, 40.0, 4, True))


def test_mse_is_near_the_best_of_a_dense_search() -> None:
    """4,000 pairs of ends tried one by one on the samples themselves."""
    x = sample("gelu")
    low, high = float(x.min()), float(x.max())
    best = min(
        cost(x, qparams_from_range(low * a, high * b, 4, False))
        for a in np.linspace(0.02, 1.0, 50)
        for b in np.linspace(0.2, 1.0, 80)
    )
    assert cost(x, observer("mse", torch.from_numpy(x)).qparams(4, False)) <= 1.05 * best


def test_excess_against_quadrature() -> None:
    """G(t) = sum of max(t - x, 0), every bin replaced by 1,000 points."""
    made = observer("mse", torch.from_numpy(sample("laplace")[:500]))
    assert isinstance(made, HistogramObserver)
    density = made.density()
    left = np.maximum(density.origin + np.arange(len(density.counts)) * density.width, density.low)
    right = np.minimum(density.origin + np.arange(1, len(density.counts) + 1) * density.width, density.high)
    inside = (np.arange(1000) + 0.5) / 1000
    points = left[:, None] + inside * (right - left)[:, None]
    for t in np.linspace(density.low - 1.0, density.high + 1.0, 37):
        expected = float((np.maximum(t - points, 0.0).mean(axis=1) * density.counts).sum())
        assert float(density.excess(np.array([t]))[0]) == pytest.approx(expected, rel=1e-6, abs=1e-3)


@given(st.floats(-1e6, 0.0, width=32), st.floats(0.0, 1e6, width=32), st.integers(2, 16), st.booleans())
def test_candidates_are_grids_as_they_will_be(low: float, high: float, bits: int, symmetric: bool) -> None:
    scale, zero_point = grids(np.array([low]), np.array([high]), bits, symmetric)
    grid = qparams_from_range(low, high, bits, symmetric)
    # (high - low) / n against high / n - low / n: the last bit may differ, and a zero point on a tie with it.
    assert float(scale[0]) == pytest.approx(grid.scale, rel=2**-22)
    assert abs(float(zero_point[0]) - grid.zero_point) <= 1


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weight_scales_are_never_worse_than_absmax(bits: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(7, 500, generator=generator)
    weight[3] = 0.0
    high = 2 ** (bits - 1) - 1
    absmax = weight.abs().amax(dim=1) / high
    absmax[3] = 1.0

    def error(scale: torch.Tensor) -> torch.Tensor:
        codes = torch.clamp(torch.round(weight / scale[:, None]), -high, high)
        return (codes * scale[:, None] - weight).double().square().sum(dim=1)

    found = mse_weight_scale(weight, bits)
    assert found.dtype == torch.float32
    assert found.shape == (7,)
    assert bool((error(found) <= error(absmax)).all())
    if bits <= 4:
        assert float(error(found).sum()) < 0.9 * float(error(absmax).sum())


def test_weight_scales_of_empty_and_convolution_shapes() -> None:
    assert torch.equal(mse_weight_scale(torch.zeros(3, 0), 8), torch.ones(3))
    weight = torch.randn(4, 3, 2, 2)
    assert torch.equal(mse_weight_scale(weight, 4), mse_weight_scale(weight.flatten(1), 4))
