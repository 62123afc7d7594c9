"""From a measured table to a program: sensitivity, assign, quantize, convert."""

from __future__ import annotations

from pathlib import Path

import torch

import pyquant as pq
from tests.assign.models import attention_model, prepared, tokens

CANDIDATES = {
    "*": ["W8", "W4", "W4+group_size=8", "A6", "unary=ibert", "unary=poly", "norm=ivit", "norm=exact"],
    "*context": ["softmax=table16", "softmax=ibert", "softmax=ivit", "softmax=sole"],
}


def test_from_a_table_to_a_program(tmp_path: Path) -> None:
    model, batch = prepared(), tokens()
    table = pq.sensitivity(model, [batch], candidates=CANDIDATES, progress=False)
    table.save(tmp_path / "table.json")
    assert pq.assign(pq.SensitivityTable.load(tmp_path / "table.json")) == pq.assign(table)

    costs = pq.costs.weight_costs(model, table)
    plan = pq.assign(table, objective="noise", costs=costs, constraints={"average_weight_bits": 5.0})
    assert {choice.kind for choice in plan} >= {"linear", "attention", "unary", "layer_norm"}
    published = pq.assign(pq.SensitivityTable(r for r in table if r.candidate not in ("A6", "norm=exact")))
    assert {c.candidate for c in published if c.kind == "layer_norm"} == {"norm=ivit"}
    assert {c.candidate for c in published if c.kind == "unary"} <= {"unary=ibert", "unary=poly"}
    mixed = pq.quantize(attention_model(1), [batch], plan=published, progress=False)
    with torch.no_grad():
        assert (pq.convert(mixed)(batch) == mixed(batch).numpy()).all()
    plan.save(tmp_path / "plan.yaml")
    assert pq.Plan.load(tmp_path / "plan.yaml") == plan

    planned = pq.quantize(attention_model(1), [batch], plan=tmp_path / "plan.yaml", progress=False)
    for choice in plan:
        config = planned.sites()[choice.site].config
        assert {name: getattr(config, name) for name, _ in choice.settings} == dict(choice.settings)
    engine = pq.convert(planned)
    with torch.no_grad():
        assert (engine(batch) == planned(batch).numpy()).all()
    again = pq.costs.weight_costs(planned, pq.SensitivityTable(()))
    bits, weights = (
        sum(again.value(site, "current", metric) for site in again.sites)
        for metric in ("weight_bits", "weights")
    )
    assert bits / weights <= 5.0


def test_a_budget_of_time_is_met_by_its_own_costs() -> None:
    model = prepared()
    table = pq.sensitivity(model, [tokens()], candidates=CANDIDATES, progress=False)
    costs = pq.costs.measure_latency(model, table, repeat=5, progress=False)
    free = pq.assign(table, costs=costs)
    plan = pq.assign(table, costs=costs, constraints={"latency_ms": free.total_cost["latency_ms"] * 1.0001})
    assert plan.total_cost["latency_ms"] <= free.total_cost["latency_ms"] * 1.0001
    assert plan.total_score <= free.total_score + 1e-3
