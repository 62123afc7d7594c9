"""`SiteConfig.gradient`: it reaches the sites by every way a setting goes, and changes gradients alone."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyquant as pq
from pyquant.assignment import Choice
from tests.training.blocks import Blocks, assert_same, gradients, images, step

ROUGH: dict[str, Any] = {"softmax": "fqvit", "unary": "ibert", "norm": "ibert"}
X = torch.randn(12, 6, 8, generator=torch.Generator().manual_seed(0))


class Mixed(nn.Module):
    """A norm, attention, a softmax by itself, a GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.up = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 16)
        self.gate, self.head = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        x = x + F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        y: Tensor = self.head(torch.softmax(self.gate(x), dim=-1) + F.gelu(self.up(x)))
        return y


def prepared(gradient: str, select: str = "*", **base: Any) -> pq.Prepared:
    torch.manual_seed(0)
    config = pq.QuantConfig(base=pq.SiteConfig(**(ROUGH | base))).override(select, gradient=gradient)
    return pq.quantize(Mixed(), [X], config, progress=False).train()


def trained_once(model: pq.Prepared) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    y = model(X)
    y.square().sum().backward()
    return y.detach(), gradients(model)


def test_results_are_the_same_and_gradients_are_not() -> None:
    y, real = trained_once(prepared("float"))
    z, got = trained_once(prepared("approximation"))
    assert torch.equal(y, z)
    assert real.keys() == got.keys()
    assert torch.equal(real["head.weight"], got["head.weight"])  # nothing non-linear lies behind it
    for name in ("up.weight", "gate.weight", "qkv.weight", "norm.weight"):
        assert 1e-3 < float((got[name] - real[name]).norm() / real[name].norm()) < 1.0, name
    assert pq.convert(prepared("float")).digest() == pq.convert(prepared("approximation")).digest()


@pytest.mark.parametrize(
    ("select", "parameter"), [("gelu", "up.weight"), ("softmax", "gate.weight"), ("context", "qkv.weight")]
)
def test_one_kind_of_site(select: str, parameter: str) -> None:
    _, real = trained_once(prepared("float"))
    _, got = trained_once(prepared("approximation", select))
    assert not torch.equal(got[parameter], real[parameter])
    others = {"up.weight", "gate.weight"} - {parameter}
    assert all(torch.equal(got[name], real[name]) for name in others)


def test_it_is_about_integers() -> None:
    """In the other modes a site computes the float function, and has its gradient."""
    for mode in ("float", "weights"):
        models = [prepared(gradient) for gradient in ("float", "approximation")]
        for model in models:
            pq.set_mode(model, mode)
        (_, real), (_, got) = (trained_once(model) for model in models)
        assert all(torch.equal(value, got[name]) for name, value in real.items())
    model, quantized = prepared("approximation"), trained_once(prepared("approximation"))[1]
    pq.set_mode(model, "frozen")
    _, frozen = trained_once(model)
    assert all(torch.equal(value, quantized[name]) for name, value in frozen.items())


def test_learned_scales_and_a_rough_softmax_train() -> None:
    model = prepared("approximation", quantizer="lsq", weight_quantizer="lsq", weight_bits=4)
    labels = X[:, :, :3].argmax(dim=-1)
    optimizer = torch.optim.Adam(pq.param_groups(model, lr=1e-2))
    losses = []
    for _ in range(40):
        loss = F.cross_entropy(model(X).reshape(-1, 3), labels.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert pq.compare(model, pq.convert(model), X).identical


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies(way: Any) -> None:
    model = prepared("approximation")
    expected = trained_once(model)
    y, got = trained_once(way(model))
    assert torch.equal(y, expected[0])
    assert all(torch.equal(value, got[name]) for name, value in expected[1].items())


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_files_and_presets(tmp_path: Path, suffix: str) -> None:
    config = pq.QuantConfig(base=pq.SiteConfig(gradient="approximation")).override("gelu", gradient="float")
    config.save(tmp_path / f"config.{suffix}")
    assert pq.QuantConfig.load(tmp_path / f"config.{suffix}") == config
    model = pq.prepare(Mixed(), X[:1], str(tmp_path / f"config.{suffix}"))
    assert {s.config.gradient for s in model.sites("gelu").values()} == {"float"}
    assert model.sites("context")["context"].config.gradient == "approximation"
    assert pq.prepare(Mixed(), X[:1], "W4A4-lsq").sites()["gelu"].config.gradient == "float"
    data = config.to_dict()
    del data["base"]["gradient"]  # a file from before
    assert pq.QuantConfig.from_dict(data).base.gradient == "float"


def test_a_plan_may_ask_for_it(tmp_path: Path) -> None:
    choice = Choice(
        site="gelu",
        kind="unary",
        candidate="gradient=approximation+unary=ibert",
        settings=(("gradient", "approximation"), ("unary", "ibert")),
        score=1.0,
    )
    pq.Plan((choice,), "delta").save(tmp_path / "plan.yaml")
    site = pq.prepare(Mixed(), X[:1], plan=tmp_path / "plan.yaml").sites()["gelu"]
    assert (site.config.gradient, site.config.unary) == ("approximation", "ibert")


def test_with_settings() -> None:
    model = prepared("float")
    site = model.sites()["gelu"]
    made = site.with_settings({"gradient": "approximation"})
    assert made.config.gradient == "approximation"
    assert torch.equal(made.output.scale, site.output.scale)


def test_sensitivity_says_that_it_does_not_matter() -> None:
    """Scores are of results."""
    with pytest.raises(ValueError, match="'gradient=approximation' fits none"):
        pq.sensitivity(prepared("float"), [X], candidates=["gradient=approximation"], progress=False)


def test_a_checkpoint_knows_it() -> None:
    state = prepared("approximation").state_dict()
    prepared("approximation").load_state_dict(state)
    with pytest.raises(ValueError, match="gradient is 'float' here and 'approximation' in the checkpoint"):
        prepared("float").load_state_dict(state)


def test_with_checkpointing_and_a_compiler() -> None:
    torch.manual_seed(0)
    config = pq.QuantConfig(base=pq.SiteConfig(**ROUGH, gradient="approximation", quantizer="lsq"))
    plain = pq.quantize(Blocks(2), [images(8)], config, progress=False).train()
    model, other = copy.deepcopy(plain), copy.deepcopy(plain)
    expected = step(plain)
    model.gradient_checkpointing_enable()
    assert_same(step(model), expected)
    torch.compiler.reset()
    got = step(torch.compile(other, fullgraph=True, backend="aot_eager"))
    assert_same(got, (expected[0], {f"_orig_mod.{name}": value for name, value in expected[1].items()}))
    torch.compiler.reset()
