"""Plan: its file, its lines, its differences, and the configuration that it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import pyquant as pq
from pyquant.assignment import Alternative, Choice

TEXT = """\
version: 1
model: Vit
config: W6A6
objective: delta
constraints: {latency_ms: 12.5}
solver: milp
totals: {latency_ms: 11.25}
sites:

- site: blocks.3.attn.context
  kind: attention
  candidate: softmax=table8
  settings: {softmax: table8}
  score: 0.41
  costs: {latency_ms: 0.0015}
  next:
    candidate: current
    score: 2.93
    costs: {latency_ms: 0.00202}

- site: fc
  kind: linear
  candidate: current
  score: -1.5
"""

ATTENTION = Choice(
    site="blocks.3.attn.context",
    kind="attention",
    candidate="softmax=table8",
    settings=(("softmax", "table8"),),
    score=0.41,
    costs=(("latency_ms", 0.0015),),
    runner_up=Alternative("current", 2.93, (("latency_ms", 0.00202),)),
)
FC = Choice(site="fc", kind="linear", candidate="current", score=-1.5)
PLAN = pq.Plan(
    choices=(ATTENTION, FC),
    objective="delta",
    constraints=(("latency_ms", 12.5),),
    solver="milp",
    totals=(("latency_ms", 11.25),),
    config=pq.QuantConfig(base=pq.SiteConfig(weight_bits=6, activation_bits=6)),
    model="Vit",
)


def test_the_file_is_meant_to_be_read_and_compared(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.yaml")
    assert (tmp_path / "plan.yaml").read_text() == TEXT
    assert pq.Plan.load(tmp_path / "plan.yaml") == PLAN


@pytest.mark.parametrize(
    "plan",
    [
        pq.Plan((), "delta"),
        pq.Plan((FC,), "unified", (("perturbation", "isolated"), ("cost_weight", 0.5))),
        pq.Plan((FC,), "mse", config=pq.QuantConfig().override("f*", weight_bits=4)),
        pq.Plan((FC,), "mse", config=pq.QuantConfig()),
    ],
)
def test_round_trips(tmp_path: Path, plan: pq.Plan) -> None:
    plan.save(tmp_path / "plan.yaml")
    assert pq.Plan.load(tmp_path / "plan.yaml") == plan


def test_what_differs_from_a_preset_is_written_and_no_more(tmp_path: Path) -> None:
    pq.Plan((), "mse", config=pq.QuantConfig().override("f*", weight_bits=4)).save(tmp_path / "a.yaml")
    text = (tmp_path / "a.yaml").read_text()
    assert "config:\n  overrides:\n  - {select: f*, weight_bits: 4}\n" in text
    assert "percentile" not in text


def test_noise_is_not_kept() -> None:
    choice = Choice(site="a", kind="linear", candidate="c", score=1.2345678e-5, costs=(("ms", 1e-7),))
    assert choice.score == 1.23457e-5
    assert dict(choice.costs) == {"ms": 0.0}
    assert str(Alternative("c", -0.0).score) == "0.0"


BAD: dict[str, tuple[str, str, str]] = {
    "version": ("version: 1", "version: 2", "reads version 1"),
    "no version": ("version: 1\n", "", "mapping with a version"),
    "key": ("model: Vit", "modle: Vit", "unknown key .*modle"),
    "site key": ("  kind: linear", "  kind: linear\n  speed: 3", "unknown key .*speed"),
    "missing": ("  kind: linear\n", "", "lacks 'kind'"),
    "setting": ("softmax: table8}", "softmx: table8}", "unknown setting 'softmx'"),
    "value": ("softmax: table8}", "softmax: tabel8}", "tabel8"),
    "number": ("score: 0.41", "score: high", "finite number, got 'high'"),
    "infinite": ("score: 0.41", "score: .inf", "finite number, got inf"),
    "objective": ("objective: delta", "objective: luck", "objective .*'luck'"),
    "config": ("config: W6A6", "config: W7A6", "W7A6"),
    "twice": ("site: fc", "site: blocks.3.attn.context", "is there twice"),
    "yaml": ("sites:", "sites: [", "is not YAML"),
    "text": ("kind: linear", "kind: 3", "kind to be text"),
    "sites": ("sites:\n", "sites: 3\n\nx:\n", "unknown key"),
    "constraints": ("{latency_ms: 12.5}", "[12.5]", "constraints to be a mapping"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path: Path, name: str) -> None:
    old, new, message = BAD[name]
    assert TEXT.count(old) >= 1
    path = tmp_path / "plan.yaml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        pq.Plan.load(path)


def test_an_explanation_is_one_line() -> None:
    assert PLAN.explain("blocks.3.attn.context") == (
        "blocks.3.attn.context: softmax=table8, delta 0.41 dB; next current 2.93 dB; "
        "0.52 us cheaper than current"
    )
    assert PLAN.explain("fc") == "fc: current, delta -1.50 dB; the only candidate"
    forced = Choice(
        site="a",
        kind="linear",
        candidate="W4",
        score=3.0,
        costs=(("weight_bytes", 2000.0),),
        settings=(("weight_bits", 4),),
        runner_up=Alternative("current", 1.0, (("weight_bytes", 4000.0),)),
    )
    assert pq.Plan((forced,), "delta").explain("a") == (
        "a: W4, delta 3.00 dB; the budget rules out current 1.00 dB; 2,000 bytes cheaper than current"
    )
    better = pq.Plan((Choice(site="a", kind="x", candidate="c", score=30.0),), "accumulated")
    assert better.explain("a") == "a: c, accumulated 30.00 dB; the only candidate"
    with pytest.raises(KeyError, match="is it 'fc'"):
        PLAN.explain("fcc")


def test_a_plan_prints() -> None:
    assert str(PLAN) == (
        "site                   kind       candidate       next        delta     next  latency_ms\n"
        "blocks.3.attn.context  attention  softmax=table8  current   0.41 dB  2.93 dB      0.0015\n"
        "fc                     linear     current                  -1.50 dB\n"
        "2 sites by delta (milp), sum -1.09 dB, under latency_ms <= 12.5\n"
        "whole model: 11.250 ms"
    )
    assert "<td>blocks.3.attn.context</td>" in PLAN._repr_html_()
    assert PLAN.total_cost == {"latency_ms": 11.25}
    assert [choice.site for choice in PLAN] == ["blocks.3.attn.context", "fc"]


def test_differences() -> None:
    import dataclasses

    other = dataclasses.replace(ATTENTION, candidate="softmax=table16", settings=(("softmax", "table16"),))
    norm = Choice(site="norm", kind="layer_norm", candidate="current", score=0.0)
    difference = PLAN.diff(pq.Plan((other, norm), "delta"))
    assert str(difference) == (
        "blocks.3.attn.context: softmax=table8 -> softmax=table16\nfc: current -> none\nnorm: none -> current"
    )
    assert len(difference) == 3
    assert not PLAN.diff(PLAN)
    assert str(PLAN.diff(PLAN)) == "no differences"


def test_a_site_gets_its_override_and_no_other_does() -> None:
    """Names may hold what globs give a meaning."""
    names = ["a[0].fc", "a0.fc", "a*", "ab", "x?", "xy"]
    for name in names:
        choice = Choice(site=name, kind="linear", candidate="W4", settings=(("weight_bits", 4),), score=0.0)
        config = pq.Plan((choice,), "delta").apply("W8A8")
        assert {n for n in names if config.for_site(n).weight_bits == 4} == {name}
        assert pq.QuantConfig.from_dict(config.to_dict()) == config


def test_overrides_come_after_those_of_the_configuration() -> None:
    config = PLAN.apply(pq.QuantConfig().override("*", softmax="table16", weight_bits=5))
    assert config.for_site("blocks.3.attn.context").softmax == "table8"
    assert config.for_site("blocks.3.attn.context").weight_bits == 5
    assert config.for_site("blocks.2.attn.context").softmax == "table16"
    assert len(config.overrides) == 2  # "current" sets nothing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": (("weight_bits", 9),)}, "site 'fc': weight_bits: expected an integer"),
        ({"settings": (("bits", 4),)}, "site 'fc': .*unknown setting 'bits'"),
        ({"site": ""}, "name of a site"),
        ({"score": float("nan")}, "finite number, got nan"),
        ({"score": True}, "finite number, got True"),
    ],
)
def test_bad_choices(changes: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {"site": "fc", "kind": "linear", "candidate": "c", "score": 1.0}
    with pytest.raises(ValueError, match=message):
        Choice(**{**fields, **changes})
