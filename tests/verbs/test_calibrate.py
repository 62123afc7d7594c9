"""calibrate: what it sets, what it refuses, and what it leaves alone when it fails."""

from __future__ import annotations

import copy
import gc
import itertools
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor, nn

import pyquant as pq
from tests.verbs.models import CLASSES, TwoInputs, mlp

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
MSE = {"base": {"weight_observer": "mse"}}


def state(prepared: pq.Prepared) -> dict[str, Any]:
    """Modes, scales and zero points."""
    found: dict[str, Any] = {name: site.mode for name, site in prepared.sites().items()}
    for name, value in prepared.state_dict().items():
        if ".observer." not in name:
            found[f"state/{name}"] = value.clone()
    return found


def assert_unchanged(prepared: pq.Prepared, before: dict[str, Any]) -> None:
    after = state(prepared)
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(after[name], value) if isinstance(value, Tensor) else after[name] == value, name


@pytest.fixture(params=["fresh", "calibrated", "mixed"])
def prepared(request: pytest.FixtureRequest) -> pq.Prepared:
    """In every state that a failure must restore."""
    made = pq.prepare(mlp(), X[:2], MSE)
    if request.param != "fresh":
        pq.calibrate(made, [X[:8]], progress=False)
    if request.param == "mixed":
        pq.set_mode(made, "frozen", "first")
        pq.set_mode(made, "observe", "act")
    return made


def test_scales_come_from_the_data() -> None:
    config = {"base": {"observer": "minmax", "residual_observer": "minmax"}}
    model = mlp()
    prepared = pq.prepare(model, X[:2], config)
    assert {site.mode for site in prepared.sites().values()} == {"float"}
    assert pq.calibrate(prepared, X.split(10), progress=False) is prepared
    assert {site.mode for site in prepared.sites().values()} == {"quantized"}
    with torch.no_grad():
        first = model.first(X)
    values = {"x": X, "first": first, "act": model.act(first)}
    for name, value in values.items():
        grid = prepared.sites()[name].output
        expected = pq.qparams_from_range(float(value.min()), float(value.max()), 8, False)
        assert float(grid.scale) == pytest.approx(expected.scale, rel=1e-5)
        assert int(grid.zero_point) == expected.zero_point


def test_a_second_calibration_forgets_the_first() -> None:
    prepared = pq.quantize(mlp(), [X * 100], progress=False)
    pq.calibrate(prepared, [X], progress=False)
    fresh = pq.quantize(mlp(), [X], progress=False)
    assert_unchanged(prepared, state(fresh))


def test_no_batch(prepared: pq.Prepared) -> None:
    before = state(prepared)
    with pytest.raises(pq.CalibrationError, match="expected at least one batch, got none"):
        pq.calibrate(prepared, [], progress=False)
    assert_unchanged(prepared, before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_batch_names_the_site(prepared: pq.Prepared, bad: float) -> None:
    before = state(prepared)
    broken = X.clone()
    broken[3, 1] = bad
    with pytest.raises(pq.CalibrationError, match="site 'x'"):
        pq.calibrate(prepared, [X, broken], progress=False)
    assert_unchanged(prepared, before)


@pytest.mark.parametrize("site", ["first", "last"])
def test_a_bad_weight_names_the_site(prepared: pq.Prepared, site: str) -> None:
    with torch.no_grad():
        prepared.get_parameter(f"{site}.weight")[0, 0] = float("nan")
    before = state(prepared)
    with pytest.raises(pq.CalibrationError, match=f"site '{site}'"):
        pq.calibrate(prepared, [X], progress=False)
    modes = {name: mode for name, mode in before.items() if isinstance(mode, str)}
    assert {name: each.mode for name, each in prepared.sites().items()} == modes
    for name, value in before.items():
        if isinstance(value, Tensor) and not name.endswith(f"{site}.weight"):
            assert torch.equal(state(prepared)[name], value), name


def test_a_site_that_no_batch_reaches() -> None:
    prepared = pq.prepare(TwoInputs(), (X[:2],), MSE)
    assert "side" not in prepared.sites()
    prepared = pq.prepare(TwoInputs(), {"x": X[:2], "extra": X[:2]}, MSE)
    before = state(prepared)
    with pytest.raises(pq.CalibrationError, match="no batch reached site 'extra' and 1 more"):
        pq.calibrate(prepared, [{"x": X}], progress=False)
    assert_unchanged(prepared, before)
    pq.calibrate(prepared, [{"x": X}, {"x": X, "extra": X}], progress=False)
    main, side = prepared(X, X)
    assert main.shape == side.shape


def test_a_batch_that_does_not_fit(prepared: pq.Prepared) -> None:
    before = state(prepared)
    with pytest.raises(TypeError, match="none of the keys"):
        pq.calibrate(prepared, [X, {"z": X}], progress=False)
    assert_unchanged(prepared, before)


def test_an_interrupt_leaves_everything_as_it_was(prepared: pq.Prepared) -> None:
    def loader() -> Iterator[Tensor]:
        yield X
        raise KeyboardInterrupt

    before = state(prepared)
    with pytest.raises(KeyboardInterrupt):
        pq.calibrate(prepared, loader(), progress=False)
    assert_unchanged(prepared, before)


def test_a_failed_weight_search_leaves_everything_as_it_was(
    prepared: pq.Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last site fails after the others have new weight scales."""
    before = state(prepared)

    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(prepared.sites()["last"], "calibrate_weights", fail)
    with pytest.raises(MemoryError):
        pq.calibrate(prepared, [X * 3], progress=False)
    assert_unchanged(prepared, before)


def test_only_a_prepared_model() -> None:
    with pytest.raises(TypeError, match="expected a Prepared"):
        pq.calibrate(mlp(), [X])  # type: ignore[arg-type]


def test_inference_mode_does_not_spoil_training() -> None:
    with torch.inference_mode():
        prepared = pq.quantize(mlp(), [X.clone()], MSE, progress=False)
    prepared(X).sum().backward()
    assert all(value.grad is not None for value in prepared.parameters())


@pytest.mark.parametrize("progress", [False, True])
def test_progress(capfd: pytest.CaptureFixture[str], progress: bool) -> None:
    prepared = pq.prepare(mlp(), X[:2])
    pq.calibrate(prepared, [X], progress=progress)
    pq.evaluate(prepared, [X], progress=progress)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert ("calibrate" in shown.err and "evaluate" in shown.err) == progress


def sizes(prepared: pq.Prepared) -> dict[str, tuple[int, ...]]:
    return {n: tuple(b.shape) for n, b in prepared.named_buffers() if ".observer." in n}


@pytest.mark.parametrize("observer", ["minmax", "ema", "percentile", "mse", "hessian"])
def test_memory_does_not_grow_with_the_data(observer: str) -> None:
    """Ten times the batches: the peak of Python's memory within 10 %, resident memory within 16 MiB.

    A calibration that kept its 200 batches would hold 50 MiB more.
    """
    prepared = pq.prepare(mlp(), X[:2], {"base": {"observer": observer, "residual_observer": observer}})
    before = sizes(prepared)

    def batches(count: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(1)
        return (torch.randn(16384, 4, generator=generator) for _ in range(count))

    def peak(count: int) -> int:
        gc.collect()
        tracemalloc.start()
        pq.calibrate(prepared, batches(count), loss=lambda y, _: y.square().mean(), progress=False)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(5)  # caches
    process = psutil.Process()
    few, resident = peak(20), process.memory_info().rss
    many = peak(200)
    assert many <= 1.1 * few + 65536
    assert process.memory_info().rss - resident < 16 << 20
    assert sizes(prepared) == before
    assert sum(int(np.prod(shape)) for shape in before.values()) <= 4100 * len(prepared.sites())


def test_scales_do_not_depend_on_the_split() -> None:
    whole, parts = (pq.quantize(mlp(), X.split(size), progress=False) for size in (64, 7))
    for name, site in whole.sites().items():
        # Float products of another batch size may differ in the last bit.
        assert float(parts.sites()[name].output.scale) == pytest.approx(float(site.output.scale), rel=1e-3)


def test_an_endless_loader_is_read_batch_by_batch() -> None:
    prepared = pq.quantize(mlp(), itertools.islice(itertools.cycle([X]), 3), progress=False)
    assert copy.deepcopy(prepared)(X).shape == (64, CLASSES)


def test_the_model_may_be_any_module() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    assert pq.quantize(model, [X], progress=False)(X).shape == (64, 3)
