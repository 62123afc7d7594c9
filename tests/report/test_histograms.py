"""Shares and errors that a histogram tells, against the values themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import pyquant as pq
from pyquant.observers import Density, MSEObserver
from pyquant.qparams import QParams
from pyquant.reporting.histograms import EdgeHistogram, edge_histograms
from tests.report.pages import labelled
from tests.verbs.models import mlp


def test_share_below_by_hand() -> None:
    """Two bins of width 1 from 0, the second cut at 1.5: 4 values in [0, 1), 4 in [1, 1.5]."""
    density = Density(0.0, 1.0, np.array([4.0, 4.0]), 0.0, 1.5)
    for t, share in ((-1, 0.0), (0, 0.0), (0.5, 0.25), (1, 0.5), (1.25, 0.75), (1.5, 1.0), (9, 1.0)):
        assert density.share_below(t) == pytest.approx(share, abs=1e-15)
    point = Density(0.0, 1.0, np.array([3.0]), 0.0, 0.0)  # zeros only
    assert [point.share_below(t) for t in (-0.1, 0.1)] == [0.0, 1.0]


def test_share_below_turns_quantile_around() -> None:
    observer = MSEObserver(pq.SiteConfig())
    observer(torch.randn(10_000, generator=torch.Generator().manual_seed(1)))
    density = observer.density()
    for share in np.linspace(0, 1, 41):
        assert density.share_below(density.quantile(share)) == pytest.approx(share, abs=1e-12)


def histogram(x: torch.Tensor, grid: QParams) -> EdgeHistogram:
    observer = MSEObserver(pq.SiteConfig())
    observer(x)
    return EdgeHistogram("site", "linear", 8, grid, observer.density())


def test_against_the_values() -> None:
    """A bin holds 1/2048 of twice the range: it blurs an end by so much, about 0.01 of a share of 0.1."""
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(2))
    grid = QParams(0.02, 10, -128, 127)
    found = histogram(x, grid)
    assert (found.low, found.high) == pytest.approx((-2.76, 2.34))
    q = np.rint(x.double().numpy() / grid.scale) + grid.zero_point
    assert found.clipped == pytest.approx(np.mean((q < -128) | (q > 127)), abs=2e-4)
    error = x.double().numpy() - (np.clip(q, -128, 127) - grid.zero_point) * grid.scale
    sqnr = 10 * math.log10(float((x.double() ** 2).sum()) / float((error**2).sum()))
    assert found.sqnr == pytest.approx(sqnr, abs=0.05)


def test_nothing_clipped_and_nothing_there() -> None:
    assert histogram(torch.linspace(-1, 1, 1001), QParams(1 / 127, 0, -127, 127)).clipped == 0
    assert histogram(torch.zeros(5), QParams(1.0, 0, -127, 127)).sqnr == math.inf


def test_observers_without_a_histogram() -> None:
    qmodel = pq.quantize(mlp(), labelled(), progress=False)  # the last edge has 16 bits: minmax
    names = list(qmodel.sites())
    kept = [h.site for h in edge_histograms(qmodel, names)]
    assert 0 < len(kept) < len(names)
    every = edge_histograms(qmodel, reversed(names), labelled()[0])
    assert [h.site for h in every] == names[::-1]
    assert {h.site for h in every if h.calibrated} == set(kept)
    assert all(site.mode == "quantized" for site in qmodel.sites().values())
    last = next(h for h in every if h.site == "last")
    with torch.no_grad():
        output = mlp()(labelled()[0][0])
    assert (last.density.low, last.density.high) == pytest.approx((float(output.min()), float(output.max())))
