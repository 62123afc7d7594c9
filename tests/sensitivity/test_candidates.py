"""Candidates as text and back; which sites they fit."""

from __future__ import annotations

import pytest

import pyquant as pq
from pyquant.candidates import CURRENT
from pyquant.graph.streams import Walk
from pyquant.scoring import make_trials
from tests.sensitivity.small import prepared


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("W4", {"weight_bits": 4}),
        ("A6", {"activation_bits": 6}),
        ("R8", {"residual_bits": 8}),
        ("W4A6R8", {"weight_bits": 4, "activation_bits": 6, "residual_bits": 8}),
        ("softmax=table8", {"softmax": "table8"}),
        ("A6+softmax=table8", {"activation_bits": 6, "softmax": "table8"}),
        (
            "W4+group_size=32+weight_observer=mse",
            {"weight_bits": 4, "group_size": 32, "weight_observer": "mse"},
        ),
        ("symmetric=true", {"symmetric": True}),
        ("observer=percentile+percentile=99.9", {"observer": "percentile", "percentile": 99.9}),
        (CURRENT, {}),
    ],
)
def test_text_and_settings(text: str, settings: dict[str, object]) -> None:
    candidate = pq.Candidate.of(text)
    assert dict(candidate.settings) == settings
    assert candidate.name == text
    assert pq.Candidate.of(settings) == pq.Candidate.of(candidate) == candidate
    assert pq.Candidate(text, tuple(settings.items())) == candidate


def test_what_is_not_canonical() -> None:
    assert pq.Candidate.of(" softmax = table8 + A6 ").name == "A6+softmax=table8"
    assert pq.Candidate.of("weight_bits=4").name == "W4"
    with pytest.raises(ValueError, match="expected 'W4' as the name, got 'four'"):
        pq.Candidate("four", (("weight_bits", 4),))
    with pytest.raises(ValueError, match="weight_bits is set twice"):
        pq.Candidate.of("W4+weight_bits=5")


def test_a_site_tries_what_matters_to_it() -> None:
    walk = Walk(prepared())
    trials = make_trials(prepared(), walk, "*", {"*": ["W4A6", "A6"], "act": ["current", "A6", "A5"]})
    named = {site: [t.candidate.name for t in tried] for site, tried in trials.items()}
    assert named["x"] == ["W4A6", "A6"]
    assert named["act"] == ["W4A6", "A6", "current", "A5"]
    assert dict(trials["first"][0].settings) == {"weight_bits": 4, "activation_bits": 6}
    assert dict(trials["act"][0].settings) == {"activation_bits": 6}  # it has no weights
    assert dict(trials["last"][0].settings) == {"weight_bits": 4}  # its output has 16 bits
    assert [t.candidate.name for t in trials["last"]] == ["W4A6"]
    assert trials["act"][2].site is walk.sites["act"][1]
    assert list(trials) == list(walk.sites)  # in the order of execution


def test_a_trial_is_a_copy() -> None:
    site = prepared().sites()["first"]
    before = (site.config, float(site.output.scale), site.output.bits)
    made = site.with_settings({"activation_bits": 4})
    assert made.output.bits == 4
    assert made.output.quant_max == 7
    assert float(made.output.scale) > float(site.output.scale)
    assert (site.config, float(site.output.scale), site.output.bits) == before
    same = site.with_settings({"weight_bits": 4})
    assert float(same.output.scale) == float(site.output.scale)
