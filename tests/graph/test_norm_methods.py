"""LayerNorm's methods as the setting `norm` of a site: calibration, simulation, engine, state."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pyquant as pq
from pyquant.graph.sites import LayerNormSite
from pyquant.verbs.prepare import prepare

METHODS = ("exact", "ibert", "ivit", "ivit(iterations=4)", "ivit_published", "ptf")


class Residual(nn.Module):
    """A LayerNorm and an RMSNorm on a residual stream whose channels differ in size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 40), nn.Linear(40, 40)
        self.norm, self.last_norm = nn.LayerNorm(40), nn.RMSNorm(40)
        self.head = nn.Linear(40, 6)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, tokens, 12] -> [batch, tokens, 6]."""
        x = self.first(x)
        x = x + self.second(self.norm(x))
        return self.head(self.last_norm(x))


@pytest.fixture
def model() -> Residual:
    torch.manual_seed(0)
    made = Residual().eval()
    with torch.no_grad():
        made.norm.weight.normal_(1, 0.3)
        made.norm.weight[:2] = 0
        made.norm.bias.normal_(0, 0.2)
        made.first.weight.mul_(torch.exp(torch.randn(40, 1)))
    return made


def batches(count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 5, 12, generator=generator) for _ in range(count)]


def quantized(model: Residual, norm: str) -> pq.Prepared:
    return pq.quantize(model, batches(), pq.QuantConfig(base=pq.SiteConfig(norm=norm)), progress=False)


def norm_sites(prepared: pq.Prepared) -> list[LayerNormSite]:
    return [site for site in prepared.sites().values() if isinstance(site, LayerNormSite)]


@pytest.mark.parametrize("method", METHODS)
def test_engine_equals_simulation(model: Residual, method: str, tmp_path: Path) -> None:
    prepared = quantized(model, method)
    engine = pq.convert(prepared)
    x = batches(1)[0]
    assert pq.compare(prepared, engine, x).identical
    with torch.no_grad():
        real, simulated = model(x), prepared(x)
    assert 20 * torch.log10(real.norm() / (real - simulated).norm()) > 28
    engine.save(tmp_path / "model.safetensors")
    loaded = pq.IntegerModel.load(tmp_path / "model.safetensors")
    assert loaded.digest() == engine.digest()
    np.testing.assert_array_equal(loaded(x.numpy()), simulated.numpy())


def test_methods_differ(model: Residual) -> None:
    x = batches(1)[0]
    with torch.no_grad():
        found = {m: quantized(model, m)(x).numpy().tobytes() for m in ("exact", "ivit(iterations=1)", "ptf")}
    assert len(set(found.values())) == 3


def test_only_ptf_has_a_range_that_results_depend_on(model: Residual) -> None:
    """What is observed is there for every method, so that ptf can be tried on a calibrated model."""
    keys = {m: set(quantized(model, m).state_dict()) for m in METHODS}
    assert all(keys[m] == keys["exact"] for m in METHODS[:-1])
    extra = {key.split(".", 2)[2] for key in keys["ptf"] - keys["exact"]}
    assert extra == {"x_range"}
    observed = {key for key in keys["exact"] if ".input_observer." in key}
    assert len(observed) == 2 * 2


def test_state_goes_into_another_model(model: Residual) -> None:
    """Strictly, and with the same results; in half precision too the ranges stay float32."""
    prepared = quantized(model, "ptf")
    config = pq.QuantConfig(base=pq.SiteConfig(norm="ptf"))
    other = prepare(model, batches(1)[0], config)
    other.load_state_dict(prepared.state_dict(), strict=True)
    pq.set_mode(other, "quantized")
    x = batches(1)[0]
    with torch.no_grad():
        assert torch.equal(other(x), prepared(x))
        assert torch.equal(copy.deepcopy(prepared)(x), prepared(x))
    for site in norm_sites(other.half()):
        assert site.x_range is not None
        assert site.x_range.dtype == torch.float32


def test_calibration_observes_each_channel(model: Residual) -> None:
    prepared = quantized(model, "ptf")
    with torch.no_grad():
        seen = torch.cat([model.first(x).reshape(-1, 40) for x in batches()])
    x_range = norm_sites(prepared)[0].x_range
    assert x_range is not None
    assert torch.equal(x_range, torch.stack([seen.amin(0), seen.amax(0)]))
    # again, on other data: what was seen before is forgotten
    pq.calibrate(prepared, [0.5 * x for x in batches()], progress=False)
    again = norm_sites(prepared)[0].x_range
    assert again is not None
    assert bool((again[1] - again[0] < x_range[1] - x_range[0]).all())


def test_calibration_that_fails_changes_nothing(model: Residual) -> None:
    prepared = quantized(model, "ptf")
    before = norm_sites(prepared)[0].x_range

    def interrupted() -> Iterator[Tensor]:
        yield 9 * batches(1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pq.calibrate(prepared, interrupted(), progress=False)
    with pytest.raises(pq.CalibrationError, match=r"NaN|finite"):
        pq.calibrate(prepared, [batches(1)[0] * torch.nan], progress=False)
    after = norm_sites(prepared)[0].x_range
    assert before is not None
    assert after is not None
    assert torch.equal(before, after)


def test_ptf_without_calibration_says_so(model: Residual) -> None:
    config = pq.QuantConfig(base=pq.SiteConfig(norm="ptf"))
    prepared = prepare(model, batches(1)[0], config)
    site = norm_sites(prepared)[0]
    for each in prepared.sites().values():
        each.output.set(0.1, 0)
    pq.set_mode(prepared, "quantized")
    assert site.input_observer is not None
    with pytest.raises(RuntimeError, match="range of each channel that calibration observes"):
        prepared(batches(1)[0])
