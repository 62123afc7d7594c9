"""Learned scales in a model: they train, deploy, stay themselves, and learn only where they should."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyquant as pq
from pyquant.observers import WEIGHT_SCALES, absmax_weight_scale


class Small(nn.Module):
    """A norm, a GELU, a residual add, a mean: each kind of edge."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        found: Tensor = self.head(x.mean(dim=1))
        return found


def data(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 5, 8, generator=generator)
    return x, x[:, :, :3].sum(dim=1).argmax(dim=1)


def prepared(config: str = "W4A4-lsq") -> pq.Prepared:
    torch.manual_seed(0)
    return pq.quantize(Small(), [data(64)[0]], config=config, progress=False)


def scales_of(model: pq.Prepared) -> list[nn.Parameter]:
    return [p for g in pq.param_groups(model, 0.1) if g["name"].startswith("scales") for p in g["params"]]


def test_every_scale_learns_and_the_engine_runs_what_was_trained() -> None:
    model = prepared()
    x, labels = data(256)
    optimizer = torch.optim.AdamW(pq.param_groups(model, lr=1e-2, weight_decay=0.01))
    scales = scales_of(model)
    narrow = sum(not site.wide for site in model.sites().values())
    assert len(scales) == narrow + sum(site.kind == "linear" for site in model.sites().values())
    assert narrow < len(model.sites())
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert {id(scale) for scale in scales} <= held
    before = [scale.detach().clone() for scale in scales]
    losses = []
    for _ in range(80):
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(scale.grad is not None and bool(torch.isfinite(scale.grad).all()) for scale in scales)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    assert all(bool((a != b).any()) for a, b in zip(before, scales, strict=True))
    comparison = pq.compare(model, pq.convert(model), x)
    assert comparison.identical, str(comparison)


@pytest.mark.parametrize("mode", ["float", "observe", "frozen"])
def test_scales_learn_in_mode_quantized_alone(mode: str) -> None:
    """A parameter that wants a gradient and takes no part is an error under DistributedDataParallel."""
    model = prepared()
    pq.set_mode(model, mode, select="up")
    up = {id(scale) for scale in model.sites()["up"].learned_scales()}
    wanting = {id(p) for p in model.parameters() if p.requires_grad}
    assert len(up) == 2
    assert not up & wanting
    model(data(8)[0]).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    pq.set_mode(model, "quantized")
    assert up <= {id(p) for p in model.parameters() if p.requires_grad}


def test_fixed_scales_have_no_parameters() -> None:
    model = prepared("W4A4")
    assert not [name for name, _ in model.named_parameters() if "scale" in name]
    assert [group["name"] for group in pq.param_groups(model, 0.1)] == ["weights", "vectors"]


def test_state_dict_copies_and_pickles() -> None:
    trained = prepared()
    x, labels = data(64)
    optimizer = torch.optim.Adam(pq.param_groups(trained, lr=0.01))
    F.cross_entropy(trained(x), labels).backward()
    optimizer.step()
    fresh = pq.prepare(Small(), x[:1], config="W4A4-lsq")
    fresh.load_state_dict(trained.state_dict())
    pq.set_mode(fresh, "quantized")
    buffer = io.BytesIO()
    torch.save(trained, buffer)
    buffer.seek(0)
    for other in (fresh, copy.deepcopy(trained), torch.load(buffer, weights_only=False)):
        assert torch.equal(other(x), trained(x))
        assert pq.convert(other).digest() == pq.convert(trained).digest()
        assert len(scales_of(other)) == len(scales_of(trained))


def test_calibrating_again_keeps_the_parameters_that_an_optimizer_holds() -> None:
    model = prepared()
    before = {id(p): p.detach().clone() for p in scales_of(model)}
    pq.calibrate(model, [3.0 * data(64, seed=1)[0]], progress=False)
    after = {id(p): p for p in scales_of(model)}
    assert set(before) == set(after)
    assert any(not torch.equal(value, after[key]) for key, value in before.items())


def test_a_failed_calibration_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails at the second layer's weights, when the first ones have their new scales."""
    model = prepared()
    with torch.no_grad():
        model.up.weight.mul_(2.0)
    before = {name: value.clone() for name, value in model.state_dict().items() if "observer" not in name}
    calls = []

    def failing(weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        calls.append(weight)
        if len(calls) == 2:
            raise MemoryError
        return absmax_weight_scale(weight, *args, **kwargs)

    monkeypatch.setitem(WEIGHT_SCALES, "mse", failing)
    with pytest.raises(MemoryError):
        pq.calibrate(model, [5.0 * data(64)[0]], progress=False)
    now = model.state_dict()
    assert all(torch.equal(value, now[name]) for name, value in before.items())


def test_half_precision_parameters_leave_scales_in_float32() -> None:
    model = prepared().to(torch.bfloat16)
    assert all(p.dtype == torch.float32 for p in scales_of(model))


def test_a_candidate_of_a_learned_site_has_scales_of_its_own() -> None:
    model = prepared()
    site = model.sites()["up"]
    made = site.with_settings({"activation_bits": 8})
    assert not {id(p) for p in made.parameters()} & {id(p) for p in site.parameters()}
    assert all(p.is_leaf for p in made.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "lr to be a finite number >= 0, got -1.0"),
        ({"lr": 0.1, "weight_decay": float("nan")}, "weight_decay to be a finite number >= 0, got nan"),
        ({"lr": float("nan")}, "lr to be a finite number >= 0, got nan"),
        ({"lr": 0.1, "scale_lr": float("inf")}, "scale_lr to be a finite number >= 0, got inf"),
    ],
)
def test_bad_rates(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pq.param_groups(prepared("W4A4"), **arguments)


def test_rates_of_scales_follow_their_size() -> None:
    model = prepared()
    groups = [g for g in pq.param_groups(model, 0.1, scale_lr=0.02) if g["name"].startswith("scales")]
    assert len(groups) > 2
    for group in groups:
        for scale in group["params"]:
            assert 0.01 <= group["lr"] / float(scale.detach().mean()) <= 0.02
    alone = [g for g in pq.param_groups(model, 0.1, relative=False) if g["name"] == "scales"]
    assert [g["lr"] for g in alone] == [0.1]
    with pytest.raises(ValueError, match=r"expected scales > 0, got 0.0 at .*; calibrate first"):
        pq.param_groups(pq.prepare(Small(), data(1)[0], config="W4A4-lsq"), 0.1)


def test_bad_types() -> None:
    with pytest.raises(TypeError, match=r"model to be a torch.nn.Module, got int"):
        pq.param_groups(3, 0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="lr to be a number, got '1'"):
        pq.param_groups(nn.Linear(1, 1), "1")  # type: ignore[arg-type]


def test_a_scale_at_zero_names_its_site_and_what_to_do() -> None:
    model = prepared()
    with torch.no_grad():
        model.sites()["up"].output.scale.fill_(-0.01)
    with pytest.raises(
        RuntimeError, match=r"site 'up': .*-0.01.*; a learned scale fell to zero: lower its rate"
    ):
        model(data(4)[0])
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"site 'up': (?!.*lower)"):
        model(data(4)[0])


def test_nan_names_its_site_and_what_to_do() -> None:
    model = prepared()
    with torch.no_grad():
        model.up.weight[0, 0] = float("nan")
    with pytest.raises(RuntimeError, match=r"site 'up': .*NaN.*; training diverged in an earlier step"):
        model(data(4)[0])


def train(model: pq.Prepared, optimizer: torch.optim.Optimizer, steps: int, accumulate: int = 1) -> None:
    x, labels = data(16)
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(accumulate):
            F.cross_entropy(model(x), labels).backward()
        optimizer.step()


def test_an_optimizer_that_misses_the_scales_is_warned_of_once() -> None:
    model = prepared()
    held = {id(scale) for scale in scales_of(model)}
    weights = [p for p in model.parameters() if id(p) not in held]
    with pytest.warns(UserWarning, match=r"left learned scales alone \(.* and \d+ more\)") as caught:
        train(model, torch.optim.SGD(weights, 1e-3), 5)
    assert len(caught) == 1


def test_an_optimizer_that_has_them_is_not(recwarn: pytest.WarningsRecorder) -> None:
    """Nor one that waits for several passes, nor a model whose scales do not learn."""
    model = prepared()
    train(model, torch.optim.Adam(pq.param_groups(model, 1e-3)), 3, accumulate=3)
    frozen = prepared()
    pq.set_mode(frozen, "frozen")
    train(frozen, torch.optim.SGD(frozen.parameters(), 1e-3), 3)
    fixed = prepared("W8A8")
    train(fixed, torch.optim.SGD(fixed.parameters(), 1e-3), 3)
    assert not recwarn.list
