"""What goes wrong in a training loop is one error that names the site and says what to do."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyquant as pq

X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
DIVERGED = r"training diverged in an earlier step: lower the learning rate, or clip gradients"


class Model(nn.Module):
    """An op that stays float between two layers, a softmax and a sum: one kind of site after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.first(x))
        found: Tensor = self.second(torch.sinh(h)) + h
        return found


def prepared() -> pq.Prepared:
    torch.manual_seed(0)
    return pq.quantize(Model(), [X], config="W4A8-lsq", progress=False)


def test_nan_in_the_data() -> None:
    """The loop's first guess would be its learning rate; the site of an input says where to look."""
    model = prepared()
    x = X.clone()
    x[3, 2] = float("nan")
    with pytest.raises(RuntimeError, match=rf"^site 'x': quantize: .*NaN.*; look at the data; .*{DIVERGED}$"):
        model(x)
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"^site 'x': quantize: .*NaN(?!.*diverged)"):
        model(x)


def test_nan_in_an_activation_that_stays_float() -> None:
    """The site behind it says so: the first one that computes in integers."""
    model = prepared()
    quantizer = next(name for name in model.sites() if name.endswith("sinh.quantize"))
    hook = model.sites()[quantizer].register_forward_pre_hook(lambda _, args: (args[0] * float("nan"),))
    with pytest.raises(RuntimeError, match=rf"^site '{quantizer}': quantize: .*NaN.*{DIVERGED}$"):
        model(X)
    hook.remove()
    model(X).sum().backward()


@pytest.mark.parametrize("mode", ["quantized", "weights"])
@pytest.mark.parametrize("value", [0.0, -0.0078125])
def test_a_weights_scale_at_zero(mode: str, value: float) -> None:
    model = prepared()
    with torch.no_grad():
        model.sites()["first"].weight_scale[3] = value
    pq.set_mode(model, mode)
    with pytest.raises(
        RuntimeError, match=rf"^site 'first': .*{value:g}.*a learned scale fell to zero: lower its rate"
    ):
        model(X)


@pytest.mark.parametrize("mode", ["quantized", "weights"])
def test_a_scale_that_is_nan_is_no_scale_at_zero(mode: str) -> None:
    model = prepared()
    with torch.no_grad():
        model.sites()["first"].weight_scale[3] = float("nan")
    pq.set_mode(model, mode)
    with pytest.raises(RuntimeError, match=rf"^site 'first': .*{DIVERGED}$"):
        model(X)


def test_nan_in_a_weight_in_mode_weights() -> None:
    model = prepared()
    pq.set_mode(model, "weights")
    with torch.no_grad():
        model.second.weight[0, 0] = float("nan")
    with pytest.raises(RuntimeError, match=rf"^site 'second': .*NaN.*{DIVERGED}$"):
        model(X)


def test_a_step_with_an_infinite_gradient_is_noticed_at_the_next() -> None:
    """As a loss that overflowed leaves it; clipping by norm makes NaN of it, and no error of its own."""
    model = prepared()
    optimizer = torch.optim.SGD(pq.param_groups(model, 0.1))
    (model(X).sum() * float("inf")).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with pytest.raises(RuntimeError, match=rf"^site '.*{DIVERGED}$"):
        model(X)


def test_training_without_calibration() -> None:
    """In float there is nothing to miss; a mode that needs scales names the first site without one."""
    model = pq.prepare(Model(), X[:1], config="W4A8-lsq")
    model(X).sum().backward()
    for mode in ("weights", "quantized", "frozen"):
        with pytest.raises(
            pq.CalibrationError, match=r"site 'x' and \d+ more has no scale yet; calibrate first"
        ):
            pq.set_mode(model, mode)
    with pytest.raises(pq.CalibrationError, match=r"site 'x' and \d+ more has no scale yet; calibrate first"):
        pq.Schedule(model, {0: "quantized"})
    assert {site.mode for site in model.sites().values()} == {"float"}
    with pytest.raises(ValueError, match=r"expected scales > 0, got 0.0 at .*; calibrate first"):
        pq.param_groups(model, 0.1)
    later = pq.Schedule(model, {0: "float", 1: "quantized"})
    with pytest.raises(pq.CalibrationError, match="calibrate first"):
        later.step()


def test_a_site_that_calibration_did_not_reach_is_named() -> None:
    """One of many: loaded from a state that lacks it."""
    model = prepared()
    state = model.state_dict()
    name = "pq_sites.second.output.scale"
    state[name] = torch.zeros_like(state[name])
    fresh = pq.prepare(Model(), X[:1], config="W4A8-lsq")
    fresh.load_state_dict(state)
    with pytest.raises(pq.CalibrationError, match=r"site 'second' has no scale yet; calibrate first"):
        pq.set_mode(fresh, "quantized")


def test_an_optimizer_without_scales_is_warned_of_once_in_a_run_with_a_schedule() -> None:
    model = prepared()
    scales = {id(p) for site in model.sites().values() for p in site.learned_scales()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if id(p) not in scales], 1e-3)
    schedule = pq.Schedule(model, {0: "float", 2: "weights", 4: "quantized"})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for step in range(8):
            before = len(said)
            optimizer.zero_grad()
            model(X).square().mean().backward()
            optimizer.step()
            schedule.step()
            assert step >= 2 or len(said) == before == 0  # no scale takes part in float
    assert len(said) == 1
    assert "the optimizer changed weights and left learned scales alone" in str(said[0].message)
