"""The count of training passes: what counts, that it goes where the model goes, and that errors name it."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

import pyquant as pq
from pyquant.graph.passes import PASSES
from pyquant.scoring.checkpoint import model_digest as scored_digest
from pyquant.verbs.observed import model_digest

X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 4))


def prepared(config: Any = "W4A8-lsq") -> pq.Prepared:
    return pq.quantize(network(), [X], config=config, progress=False).train()


def train(model: nn.Module, passes: int = 1) -> None:
    for _ in range(passes):
        model(X).square().sum().backward()


def test_what_counts() -> None:
    model = prepared()
    assert model.training_passes == 0
    train(model, 3)
    assert model.training_passes == 3
    assert model.pq_training_passes.dtype == torch.int64
    with torch.no_grad():
        model(X)
    model.eval()(X)
    assert model.training_passes == 3
    for mode in ("float", "weights", "frozen", "observe"):  # whatever the sites compute
        pq.set_mode(model.train(), mode)
        model(X)
    assert model.training_passes == 7


def test_calibration_does_not_count() -> None:
    """Nor does one that needs gradients of the model, in train()."""
    config = pq.QuantConfig(base=pq.SiteConfig(observer="hessian"))
    model = pq.prepare(network().train(), X[:1], config)
    pq.calibrate(model, [X, X], loss=lambda output, _: output.square().mean(), progress=False)
    assert model.training_passes == 0
    with pytest.raises(pq.CalibrationError, match="boom"):
        pq.calibrate(model, [X], loss=failing, progress=False)
    train(model)
    assert model.training_passes == 1


def failing(output: Tensor, _: Any) -> Tensor:
    raise pq.CalibrationError("boom")


def test_a_pass_that_runs_again_counts_once_and_observes_once() -> None:
    """Checkpointing of a script around the whole model."""
    model, other = prepared(), prepared()
    pq.set_mode(model, "observe")
    pq.set_mode(other, "observe")
    other(X)
    x = X.clone().requires_grad_()
    checkpoint(model, x, use_reentrant=False).sum().backward()
    assert x.grad is not None
    assert model.training_passes == 1
    for (name, mine), theirs in zip(model.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(mine, theirs), name
    x.grad = None
    checkpoint(model, x, use_reentrant=True).sum().backward()
    assert x.grad is not None
    assert model.training_passes == 1  # no pass recorded gradients, but for the one that ran again
    other(X)
    for (name, mine), theirs in zip(model.named_buffers(), other.buffers(), strict=True):
        assert name == PASSES or torch.equal(mine, theirs), name


def through_pickle(model: pq.Prepared) -> pq.Prepared:
    made: pq.Prepared = pickle.loads(pickle.dumps(model))
    return made


def through_a_state_dict(model: pq.Prepared) -> pq.Prepared:
    fresh = pq.prepare(network(), X[:1], config="W4A8-lsq")
    fresh.load_state_dict(model.state_dict())
    pq.set_mode(fresh, "quantized")
    return fresh


@pytest.mark.parametrize("way", [copy.deepcopy, through_pickle, through_a_state_dict])
def test_copies_go_on_by_themselves(way: Any) -> None:
    model = prepared()
    train(model, 2)
    made = way(model).train()
    assert made.training_passes == 2
    train(made)
    assert (made.training_passes, model.training_passes) == (3, 2)


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_averaged_copy_follows(use_buffers: bool) -> None:
    model = prepared()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.0), use_buffers=use_buffers)
    for _ in range(2):
        train(model, 2)
        average.update_parameters(model)
    assert average.module.training_passes == 4


def first_format(model: pq.Prepared) -> dict[str, Tensor]:
    """The state dict as it was before there was a count."""
    state = dict(model.state_dict())
    del state[PASSES]
    description = json.loads(bytes(state["_extra_state"].tolist()))
    assert description["format"] == 2
    text = json.dumps({**description, "format": 1}).encode()
    state["_extra_state"] = torch.tensor(list(text), dtype=torch.uint8)
    return state


@pytest.mark.parametrize("assign", [False, True])
def test_the_first_format_still_loads(assign: bool) -> None:
    trained = prepared()
    train(trained, 2)
    fresh = prepared()
    train(fresh)
    fresh.load_state_dict(first_format(trained), strict=True, assign=assign)
    assert fresh.training_passes == 0
    assert torch.equal(fresh(X), trained(X))
    inside = nn.ModuleDict({"model": prepared()})
    state = {f"model.{name}": value for name, value in first_format(trained).items()}
    inside.load_state_dict(state, strict=True)


def test_the_second_without_a_count_is_a_missing_key() -> None:
    state = dict(prepared().state_dict())
    del state[PASSES]
    with pytest.raises(RuntimeError, match=PASSES):
        prepared().load_state_dict(state)


def test_a_model_pickled_before_there_was_a_count() -> None:
    model = prepared()
    made = type(model).__new__(type(model))
    state = copy.copy(model.__reduce_ex__(2)[2])
    state["_buffers"] = {k: v for k, v in state["_buffers"].items() if k != PASSES}
    del state["_counts_passes"]
    made.__setstate__(state)
    train(made)
    assert made.training_passes == 1


def test_the_count_says_nothing_about_what_a_model_computes() -> None:
    """A resumed sensitivity run and merged observations ask whether the model is the same."""
    model = prepared()
    before = model_digest(model), scored_digest(model, ["a"])
    train(model)
    assert (model_digest(model), scored_digest(model, ["a"])) == before


def diverged(mode: str = "quantized") -> pq.Prepared:
    model = prepared()
    with torch.no_grad():
        model.pq_training_passes.fill_(1233)
        model.get_submodule("0").weight[0, 0] = torch.nan
    pq.set_mode(model, mode)
    return model


def test_errors_name_site_pass_and_what_to_do() -> None:
    with pytest.raises(RuntimeError) as caught:
        diverged()(X)
    text = str(caught.value)
    assert text.startswith("site '0': linear: ")
    assert "NaN" in text
    assert text.endswith(
        ", in training pass 1,234; training diverged in an earlier step: lower the learning rate, "
        "or clip gradients"
    )
    assert type(caught.value) is RuntimeError
    with pytest.raises(pq.CalibrationError, match=r"site '0': .*, in training pass 1,234$"):
        diverged("observe")(X)


def test_errors_outside_of_training_do_not() -> None:
    for model in (diverged().eval(), diverged("observe").eval()):
        with pytest.raises((RuntimeError, pq.CalibrationError), match=r"^site '0': (?!.*training pass)"):
            model(X)
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"^site '0': (?!.*training)"):
        diverged()(X)


def test_under_a_compiler() -> None:
    """One graph, that counts, and is not made again for each step."""
    torch.compiler.reset()
    made: list[int] = []

    def backend(graph: Any, _: Any) -> Any:
        made.append(len(graph.graph.nodes))
        return graph

    model = prepared()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for count in range(1, 5):
        compiled(X).sum().backward()
        assert model.training_passes == count
    assert len(made) == 1
    torch.compiler.reset()


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.training_passes = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.training_passes


def test_a_parameter_of_that_name() -> None:
    with pytest.raises(pq.CaptureError, match="a parameter called 'training_passes' collides"):
        pq.prepare(Named(), torch.ones(1, 4))
