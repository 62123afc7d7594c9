"""A plan in prepare and quantize: exactly its sites change, and the engine's file says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import pyquant as pq
from pyquant.assignment import Choice
from tests.assign.models import attention_model, tokens
from tests.verbs.models import mlp

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


def choice(site: str, kind: str, **settings: Any) -> Choice:
    text = ",".join(f"{k}={v}" for k, v in settings.items()) or "current"
    return Choice(site=site, kind=kind, candidate=text, settings=tuple(settings.items()), score=0.0)


def plan(*choices: Choice, **fields: Any) -> pq.Plan:
    return pq.Plan(choices, "delta", **fields)


class Residual(torch.nn.Module):
    """A sum that is read by the next sum, with 16 bits, and by a linear site, with 8."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 4] -> [batch, 4]."""
        x = x + self.first(x)
        return x + self.second(x)


def test_quantize_runs_what_the_plan_says() -> None:
    batch = tokens()
    plain = pq.quantize(attention_model(), [batch], progress=False)
    names = [name for name, site in plain.sites().items() if site.kind == "attention"]
    assert len(names) == 2
    planned = pq.quantize(
        attention_model(), [batch], plan=plan(choice(names[1], "attention", softmax="table8")), progress=False
    )
    assert [planned.sites()[name].config.softmax for name in names] == ["table16", "table8"]
    by_hand = pq.QuantConfig().override(names[1], softmax="table8")
    assert planned.quant_config.for_site(names[1]) == by_hand.for_site(names[1])
    assert torch.equal(
        planned(batch), pq.quantize(attention_model(), [batch], by_hand, progress=False)(batch)
    )
    assert not torch.equal(planned(batch), plain(batch))


def test_the_engine_computes_it_and_its_file_records_it() -> None:
    batch = tokens()
    prepared = pq.quantize(attention_model(), [batch], progress=False)
    names = [name for name, site in prepared.sites().items() if site.kind == "attention"]
    made = plan(*(choice(name, "attention", softmax="table8") for name in names))
    planned = pq.quantize(attention_model(), [batch], plan=made, progress=False)
    engine = pq.IntegerModel.from_bytes(pq.convert(planned).to_bytes())
    with torch.no_grad():
        assert (engine(batch) == planned(batch).numpy()).all()
    recorded = pq.QuantConfig.from_dict(engine.metadata["config"])
    assert recorded == planned.quant_config
    assert {recorded.for_site(name).softmax for name in names} == {"table8"}


def test_a_path_is_as_good_as_a_plan(tmp_path: Path) -> None:
    made = plan(choice("first", "linear", weight_bits=4))
    made.save(tmp_path / "plan.yaml")
    for given in (str(tmp_path / "plan.yaml"), tmp_path / "plan.yaml"):
        prepared = pq.prepare(mlp(), X, plan=given)
        assert prepared.sites()["first"].config.weight_bits == 4
        assert prepared.sites()["last"].config.weight_bits == 8


def test_the_base_is_the_plans_unless_another_is_given() -> None:
    six = pq.QuantConfig(base=pq.SiteConfig(weight_bits=6, activation_bits=6))
    made = plan(choice("first", "linear", weight_bits=4), config=six)
    bits = [
        [site.config.weight_bits for name, site in p.sites().items() if name in ("first", "last")]
        for p in (pq.prepare(mlp(), X, plan=made), pq.prepare(mlp(), X, "W8A8", plan=made))
    ]
    assert bits == [[4, 6], [4, 8]]
    assert pq.prepare(mlp(), X, plan=plan()).quant_config == pq.QuantConfig()


def test_a_plan_wins_over_overrides() -> None:
    config = pq.QuantConfig().override("*", weight_bits=5)
    prepared = pq.prepare(mlp(), X, config, plan=plan(choice("first", "linear", weight_bits=3)))
    assert [prepared.sites()[n].config.weight_bits for n in ("first", "last")] == [3, 5]


def test_a_quantizer_in_between_can_be_planned_too() -> None:
    """`.narrow` sites exist only once widths are settled."""
    prepared = pq.prepare(Residual(), X)
    narrow = next(name for name, site in prepared.sites().items() if site.kind == "requantize")
    made = plan(choice(narrow, "requantize", activation_bits=5))
    planned = pq.prepare(Residual(), X, plan=made)
    assert planned.sites()[narrow].output.bits == 5
    assert pq.prepare(Residual(), X, planned.quant_config).sites()[narrow].output.bits == 5


def test_sites_that_the_model_lacks() -> None:
    with pytest.raises(ValueError, match=r"plan: the model has no integer site 'frist'; is it 'first'\?"):
        pq.prepare(mlp(), X, plan=plan(choice("frist", "linear", weight_bits=4)))
    with pytest.raises(ValueError, match="plan: the model has no integer site 'blocks'"):
        pq.quantize(mlp(), [X], plan=plan(choice("blocks", "linear")), progress=False)
    with pytest.raises(ValueError, match="site 'act' is a linear, but in the model a unary"):
        pq.prepare(mlp(), X, plan=plan(choice("act", "linear", weight_bits=4)))
    floating = pq.QuantConfig().override("act", keep_float=True)
    with pytest.raises(ValueError, match="plan: the model has no integer site 'act'"):
        pq.prepare(mlp(), X, floating, plan=plan(choice("act", "unary")))


def test_what_is_no_plan() -> None:
    with pytest.raises(TypeError, match="expected a Plan or the path of one, got dict"):
        pq.prepare(mlp(), X, plan={})  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        pq.prepare(mlp(), X, plan="no_such_plan.yaml")
