"""KL, OMSE, L_p and Hessian-guided: against brute force over the data themselves, in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from pyquant.observers import (
    HessianObserver,
    HistogramObserver,
    KLObserver,
    mse_weight_scale,
    omse_weight_scale,
)
from pyquant.observers.kl import _ranges, divergences
from pyquant.qparams import QParams, qparams_from_range
from tests.verbs.samples import SAMPLES, cost, observer, sample, see

POWERS = [1.0, 2.0, 2.4, 5.0]


# -- L_p -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("name", SAMPLES)
def test_predicted_power_error(name: str, bits: int, power: float) -> None:
    """The integral over the histogram is the mean over the samples, but for where they lie inside a bin.

    A sample moves by its bin's width w at most, so that |e|^p becomes at most (|e| + w)^p, and for p >= 1
    that is further from |e|^p than max(|e| - w, 0)^p is.
    """
    x = sample(name).astype(np.float64)
    made = observer("lp", torch.from_numpy(x).float())
    assert isinstance(made, HistogramObserver)
    density = made.density()
    for shrink, symmetric in ((1.0, False), (0.6, True), (0.6, False)):
        grid = qparams_from_range(min(x.min(), 0.0) * shrink, max(x.max(), 0.0) * shrink, bits, symmetric)
        scale, zero = np.array([grid.scale]), np.array([float(grid.zero_point)])
        found = density.power_error(scale, zero, grid.quant_min, grid.quant_max, power=power)
        q = np.clip(np.rint(x / grid.scale) + grid.zero_point, grid.quant_min, grid.quant_max)
        error = np.abs((q - grid.zero_point) * grid.scale - x)
        bound = np.mean((error + density.width) ** power - error**power)
        assert abs(float(found[0]) / len(x) - np.mean(error**power)) <= bound * (1 + 1e-9) + 1e-15


@pytest.mark.parametrize("power", POWERS)
def test_power_error_against_quadrature(power: float) -> None:
    """Every bin replaced by 2,000 points; with p = 2 also against the formula that `mse` uses."""
    made = observer("lp", torch.from_numpy(sample("laplace")[:500]))
    assert isinstance(made, HistogramObserver)
    density = made.density()
    left = np.maximum(density.origin + np.arange(len(density.counts)) * density.width, density.low)
    right = np.minimum(density.origin + np.arange(1, len(density.counts) + 1) * density.width, density.high)
    points = left[:, None] + (np.arange(2000) + 0.5) / 2000 * (right - left)[:, None]
    for bits, shrink in ((2, 1.0), (3, 0.3), (5, 0.7)):
        grid = qparams_from_range(density.low * shrink, density.high * shrink, bits, False)
        q = np.clip(np.rint(points / grid.scale) + grid.zero_point, grid.quant_min, grid.quant_max)
        error = np.abs((q - grid.zero_point) * grid.scale - points) ** power
        expected = float(error.mean(axis=1) @ density.counts)
        arguments = np.array([grid.scale]), np.array([float(grid.zero_point)]), grid.quant_min, grid.quant_max
        found = float(density.power_error(*arguments, power=power)[0])
        assert found == pytest.approx(expected, rel=1e-5)
        if power == 2.0:
            assert found == pytest.approx(float(density.squared_error(*arguments)[0]), rel=1e-9)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("name", ["gelu", "laplace", "outlier"])
def test_lp_is_near_the_best_of_a_dense_search(name: str, power: float) -> None:
    x = sample(name)
    low, high = float(x.min()), float(x.max())
    best = min(
        cost(x, qparams_from_range(low * a, high * b, 4, False), power)
        for a in np.linspace(0.02, 1.0, 30)
        for b in np.concatenate([np.linspace(0.02, 0.2, 20), np.linspace(0.2, 1.0, 40)])
    )
    found = observer("lp", torch.from_numpy(x), lp_norm=power).qparams(4, False)
    assert cost(x, found, power) <= 1.05 * best


def test_a_higher_power_clips_less() -> None:
    x = torch.from_numpy(sample("laplace"))
    scales = [observer("lp", x, lp_norm=power).qparams(4, True).scale for power in (1.0, 2.0, 4.0, 8.0)]
    assert scales == sorted(scales)
    assert scales[0] < 0.8 * scales[-1]
    assert scales[1] == pytest.approx(observer("mse", x).qparams(4, True).scale, rel=1e-6)


# -- OMSE ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", SAMPLES)
def test_omse_is_the_best_share_of_a_dense_search(name: str, bits: int, symmetric: bool) -> None:
    """3,000 shares tried on the samples themselves; what the histogram blurs is allowed on top."""
    x = sample(name).astype(np.float64)
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    made = observer("omse", torch.from_numpy(x).float())
    assert isinstance(made, HistogramObserver)
    best = min(
        cost(x, qparams_from_range(low * a, high * a, bits, symmetric)) for a in np.linspace(0.01, 1.0, 3000)
    )
    width = made.density().width if name != "zero" else 0.0
    blur = 2 * (2 * width * np.sqrt(best) + width**2)
    assert cost(x, made.qparams(bits, symmetric)) <= best * 1.001 + blur
    if bits <= 4 and name in ("normal", "laplace", "outlier"):
        assert cost(x, made.qparams(bits, symmetric)) <= 1.01 * best


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_omse_weight_scales(bits: int) -> None:
    """Never worse than `mse`, at a fixed point of the alternation, and near the best of 4,000 scales."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(9, 300, generator=generator) ** 3
    weight[3] = 0.0
    high = 2 ** (bits - 1) - 1
    rows = weight.double().numpy()

    def error(scale: torch.Tensor) -> np.ndarray:
        s = scale.double().numpy()[:, None]
        return np.square(np.clip(np.rint(rows / s), -high, high) * s - rows).sum(axis=1)

    found = omse_weight_scale(weight, bits)
    assert found.dtype == torch.float32
    assert (error(found) <= error(mse_weight_scale(weight, bits)) * (1 + 1e-6)).all()
    codes = np.clip(np.rint(rows / found.double().numpy()[:, None]), -high, high)
    used = codes.any(axis=1)
    fitted = (rows * codes)[used].sum(axis=1) / np.square(codes)[used].sum(axis=1)
    np.testing.assert_allclose(found.numpy()[used], fitted, rtol=1e-4)
    top = np.abs(rows).max(axis=1) / high
    dense = np.min(
        [error(torch.from_numpy(np.maximum(top * a, 1e-30))) for a in np.linspace(0.05, 1.1, 4000)], axis=0
    )
    assert (error(found) <= 1.05 * dense + 1e-12).all()
    assert error(found).sum() <= 1.01 * dense.sum()


def test_omse_weight_scales_of_groups() -> None:
    weight = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    found = omse_weight_scale(weight, 4, group_size=16)
    assert found.shape == (3, 3)
    assert torch.equal(found[:, :1], omse_weight_scale(weight[:, :16], 4)[:, None])
    assert torch.equal(omse_weight_scale(torch.zeros(2, 0), 4), torch.ones(2))


# -- KL ------------------------------------------------------------------------------------------------------


def divergence(counts: np.ndarray, start: int, end: int, levels: int) -> float:
    """KL(P || Q) of one range, as the docstring says it, bin by bin."""
    inside = counts[start:end]
    p = inside.copy()
    p[0] += counts[:start].sum()
    p[-1] += counts[end:].sum()
    q = np.zeros_like(p)
    edges = [len(inside) * j // levels for j in range(levels + 1)]
    for first, last in itertools.pairwise(edges):
        filled = p[first:last] > 0
        if filled.any():
            q[first:last][filled] = (inside[first:last].sum() or 0.5) / filled.sum()
    p, q = p / p.sum(), q / q.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(p > 0, p * np.log(p / q), 0.0).sum())


def kl_by_hand(x: np.ndarray, bits: int, symmetric: bool) -> tuple[QParams, list[float]]:
    """The least divergence over all ranges of whole bins, from the values themselves, and all of them."""
    e = int(np.frexp(np.abs(x).max())[1])
    width = 2.0 ** (e - 10)
    bins = np.floor(x.astype(np.float64) / width).astype(int)
    if symmetric:
        bins = np.where(bins < 0, -1 - bins, bins)
    first, last = min(bins.min(), 0), max(bins.max() + 1, 0)
    counts = np.bincount(bins - first, minlength=last - first).astype(np.float64)
    below, above = -first, last
    right = counts[below + 1] if above > 1 else 0.0
    left = counts[below - 1] if below else 0.0
    if above > 0:
        counts[below] = min(counts[below], max(left, right))
    levels = 2 ** (bits - 1) if symmetric else 2**bits
    start, end = 0, len(counts)
    found, ranges = [divergence(counts, start, end, levels)], [(start, end)]
    while end - start > levels:
        fewer_left = counts[: start + 1].sum() - counts[end - 1 :].sum()
        further_left = (below - start) - (end - below)
        if start < below and (end == below or fewer_left < 0 or (fewer_left == 0 and further_left > 0)):
            start += 1
        else:
            end -= 1
        found.append(divergence(counts, start, end, levels))
        ranges.append((start, end))
    start, end = ranges[int(np.argmin(found))]
    high = min(max(float(np.abs(x).max() if symmetric else x.max()), 0.0), (end - below) * width)
    low = -high if symmetric else max(min(float(x.min()), 0.0), (start - below) * width)
    return qparams_from_range(low, high, bits, symmetric), found


@pytest.mark.parametrize("bits", [2, 4, 7, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "zero"])
def test_kl_by_hand(name: str, bits: int, symmetric: bool) -> None:
    """Sums differ in their last bits: a range may be another one of (nearly) the same divergence."""
    x = sample(name)
    expected, all_of_them = kl_by_hand(x, bits, symmetric)
    made = observer("kl", *torch.from_numpy(x).split(3000))
    assert isinstance(made, KLObserver)
    counts, below = made._around_zero(symmetric)
    levels = 2 ** (bits - 1) if symmetric else 2**bits
    starts, ends = _ranges(counts, below, levels)
    np.testing.assert_allclose(divergences(counts, starts, ends, levels), all_of_them, atol=1e-11)
    least = sorted(all_of_them)
    if len(least) < 2 or least[1] - least[0] > 1e-10:
        assert made.qparams(bits, symmetric) == expected


@pytest.mark.parametrize("symmetric", [False, True])
def test_kl_clips_an_outlier_and_keeps_a_uniform(symmetric: bool) -> None:
    clipped = observer("kl", torch.from_numpy(sample("outlier"))).qparams(8, symmetric)
    assert clipped.scale * 127 < 12.0
    kept = observer("kl", torch.rand(50_000, generator=torch.Generator().manual_seed(0)))
    assert kept.qparams(8, symmetric).scale == pytest.approx(1 / (127 if symmetric else 255), rel=0.02)


def test_kl_of_zeros_and_of_wide_grids() -> None:
    assert observer("kl", torch.zeros(5)).qparams(8, False) == qparams_from_range(0.0, 0.0, 8, False)
    x = torch.tensor([-0.5, 2.0])
    for symmetric in (False, True):
        wide = observer("kl", x).qparams(16, symmetric)
        assert wide == observer("minmax", x).qparams(16, symmetric)


def test_many_zeros_do_not_move_the_kl_range() -> None:
    """A ReLU with ten times as many zeros: 0 is on every grid."""
    x = torch.from_numpy(sample("relu"))
    few = observer("kl", x).qparams(8, False)
    assert observer("kl", x, torch.zeros(200_000)).qparams(8, False).scale == few.scale


# -- Hessian-guided ------------------------------------------------------------------------------------------


def test_with_equal_gradients_hessian_is_mse() -> None:
    for name in ("normal", "gelu", "outlier"):
        x = torch.from_numpy(sample(name))
        for bits, symmetric in ((4, True), (8, False)):
            assert observer("hessian", x).qparams(bits, symmetric) == observer("mse", x).qparams(
                bits, symmetric
            )


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 4])
def test_hessian_is_near_the_best_of_a_dense_search(bits: int, symmetric: bool) -> None:
    """Large gradients on small values: the range is far from that of plain squares, and right."""
    x = sample("laplace")
    g = np.where(np.abs(x) < 1.0, 10.0, 0.1).astype(np.float32)
    made = observer("hessian")
    for value, grad in zip(torch.from_numpy(x).split(3000), torch.from_numpy(g).split(3000), strict=True):
        made(value, grad)
    found = made.qparams(bits, symmetric)
    squares = np.square(g.astype(np.float64))
    low, high = float(x.min()), float(x.max())
    shares = np.geomspace(0.02, 1.0, 60)
    pairs = [(a, a) for a in shares] if symmetric else [(a, b) for a in shares for b in shares]
    best = min(cost(x, qparams_from_range(low * a, high * b, bits, symmetric), 2, squares) for a, b in pairs)
    assert cost(x, found, 2, squares) <= 1.05 * best
    assert found.scale < 0.7 * observer("mse", torch.from_numpy(x)).qparams(bits, symmetric).scale


def test_weights_are_summed_squares_of_each_bin_and_grow_with_it() -> None:
    """-2 in [-4, 4), then 100: bins of 1/8 become bins of 1/8 * 2^5."""
    made = observer("hessian")
    assert isinstance(made, HessianObserver)
    made(torch.tensor([0.0, 0.0]), torch.tensor([2.0, 1.0]))
    made(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.5]))
    made(torch.tensor([100.0, 1.0]), torch.tensor([1.0, 1.0]))
    x, g = torch.tensor([0.0, 0.0, 1.0, -2.0, 100.0, 1.0]), torch.tensor([2.0, 1.0, 3.0, 0.5, 1.0, 1.0])
    expected = np.zeros(2048)
    for value, grad in zip(x.tolist(), g.tolist(), strict=True):
        expected[int(np.floor(value * 1024 / 128)) + 1024] += grad * grad
    np.testing.assert_array_equal(made.weights.numpy(), expected)


def test_no_gradient_but_zero_is_plain_mse() -> None:
    x = torch.from_numpy(sample("gelu"))
    made = observer("hessian")
    made(x, torch.zeros_like(x))
    assert made.qparams(4, False) == observer("mse", x).qparams(4, False)


def test_what_hessian_refuses() -> None:
    made = observer("hessian", torch.ones(2))
    before = [buffer.clone() for buffer in made.buffers()]
    with pytest.raises(RuntimeError, match="needs the gradient of a loss"):
        made(torch.ones(2))
    with pytest.raises(RuntimeError, match=r"gradient of shape \(2,\), got \(3,\)"):
        made(torch.ones(2), torch.ones(3))
    for bad in (float("nan"), float("inf")):
        with pytest.raises(RuntimeError, match="expected a finite gradient"):
            made(torch.ones(2), torch.tensor([1.0, bad]))
    assert all(torch.equal(a, b) for a, b in zip(made.buffers(), before, strict=True))
    see(made, torch.ones(1))
