"""calibrate over gloo: two processes choose what one would have chosen, or both say why not."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

import pyquant as pq

pytestmark = pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
BATCHES = list(X.split(8))
EXACT = ("minmax", "percentile", "mse", "kl", "omse", "lp")


class Model(nn.Module):
    """A LayerNorm whose channels are observed, weights whose scales are chosen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(nn.functional.relu(self.norm(self.first(x))))


def made(observer: str, seed: int = 0, **base: Any) -> pq.Prepared:
    torch.manual_seed(seed)
    settings = {"observer": observer, "residual_observer": observer, "weight_observer": "omse", "norm": "ptf"}
    return pq.prepare(Model(), X[:2], {"base": {**settings, **base}})


def loss(output: Tensor, _: Any) -> Tensor:
    return output.square().mean()


def calibrated(prepared: pq.Prepared, batches: list[Tensor], **more: Any) -> dict[str, Tensor]:
    pq.calibrate(prepared, batches, loss=loss, progress=False, **more)
    return {name: value.clone() for name, value in prepared.state_dict().items()}


def caught(call: Callable[[], object]) -> str:
    try:
        call()
    except (pq.CalibrationError, RuntimeError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def _rank(rank: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        mine = BATCHES[: 3 - rank] if rank == 0 else BATCHES[3:]
        results: dict[str, Any] = {
            name: calibrated(made(name), mine, process_group=True) for name in (*EXACT, "hessian")
        }
        group = distributed.new_group([0, 1])
        results["group"] = calibrated(made("mse"), mine, process_group=group)
        only_one = BATCHES if rank == 1 else []
        results["one has none"] = calibrated(made("mse"), only_one, process_group=True)
        broken = [X[:8] * float("nan")] if rank == 1 else mine
        untouched = made("mse")
        before = {name: value.clone() for name, value in untouched.state_dict().items()}
        errors = {
            "broken": caught(lambda: calibrated(untouched, broken, process_group=True)),
            "no batch": caught(lambda: calibrated(made("mse"), [], process_group=True)),
            "ema": caught(lambda: calibrated(made("ema"), mine, process_group=True)),
            "model": caught(lambda: calibrated(made("mse", seed=rank), mine, process_group=True)),
            "config": caught(lambda: calibrated(made("mse", weight_bits=8 - rank), mine, process_group=True)),
            "no group": caught(lambda: calibrated(made("mse"), mine, process_group="gloo")),
        }
        assert all(torch.equal(value, before[name]) for name, value in untouched.state_dict().items())
        observed = pq.observe(made("mse"), mine, process_group=True, progress=False)
        pq.finish_calibration(observed)
        results["observe"] = dict(observed.state_dict())
        torch.save((results, errors), f"{out}/{rank}.pt")
    finally:
        distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor], but_for: str = "-") -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        if name.endswith(but_for):
            torch.testing.assert_close(got[name], value, rtol=1e-14, atol=0)
        else:
            assert torch.equal(got[name], value), name


def test_two_ranks_and_one_process(tmp_path: Path) -> None:
    """Scales, zero points, weights' scales, channels' ranges and the observers themselves, bit for bit."""
    multiprocessing.spawn(_rank, args=(_free_port(), str(tmp_path)), nprocs=2)
    (zero, errors), (one, other_errors) = (
        torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    assert set(zero) == set(one)
    for name in zero:
        assert_same(zero[name], one[name])
    for name in EXACT:
        assert_same(zero[name], calibrated(made(name), BATCHES))
    assert_same(zero["hessian"], calibrated(made("hessian"), BATCHES), but_for=".weights")
    for name in ("group", "one has none", "observe"):
        assert_same(zero[name], zero["mse"])

    assert errors["broken"].startswith(
        "CalibrationError: calibrate: rank 1 failed: CalibrationError: site 'x'"
    )
    assert other_errors["broken"].startswith("CalibrationError: site 'x': ")
    for found in (errors, other_errors):
        assert "expected at least one batch on some rank, got none" in found["no batch"]
        assert "calibrate: site 'x': observer 'ema' depends on the order" in found["ema"]
        assert "expected the same model on all ranks, rank 1 has another" in found["model"]
        assert "expected the same configuration on all ranks, rank 1 has another" in found["config"]
        assert "TypeError: calibrate: expected process_group to be None, True or" in found["no group"]


def test_without_initialisation() -> None:
    with pytest.raises(RuntimeError, match=r"process_group needs torch\.distributed; call"):
        calibrated(made("mse"), BATCHES, process_group=True)
