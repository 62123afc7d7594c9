"""Measured latency: which programs run, and whom a difference belongs to. Times themselves are made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import pyquant as pq
from pyquant.costs import latency, measure_latency
from pyquant.sensitivity_table import SensitivityRow, SensitivityTable
from tests.assign.models import prepared
from tests.assign.rows import row

SITES = {
    kind: [n for n, s in prepared().sites().items() if s.kind == kind] for kind in ("attention", "linear")
}


def case(site: str, candidate: str, **settings: Any) -> SensitivityRow:
    return row(site, candidate, settings=tuple(settings.items()), delta=1.0)


def made_up(*programs: dict[tuple[str, ...], Sequence[float]]) -> Any:
    """In place of `interleaved`: these seconds for these steps."""
    seen: list[Any] = []

    def interleaved(models: Sequence[Any], batch: int, threads: int, rounds: Any) -> Any:
        assert len(models) == len(programs)
        seen.extend(models)
        return list(programs)

    return interleaved, seen


def test_a_run_of_the_real_thing() -> None:
    table = SensitivityTable(
        (
            *(case(site, "W4", weight_bits=4) for site in SITES["linear"]),
            *(case(site, "softmax=table8", softmax="table8") for site in SITES["attention"]),
            case(SITES["attention"][0], "A6", activation_bits=6),
            case(SITES["attention"][0], "current"),
        )
    )
    before = {name: site.config for name, site in prepared().sites().items()}
    costs = measure_latency(prepared(), table, repeat=3, batch=2, progress=False)
    assert {name: site.config for name, site in prepared().sites().items()} == before
    assert all(costs.value(r.site, r.candidate, "latency_ms") is not None for r in table.rows)
    first = SITES["attention"][0]
    assert costs.value(first, "A6", "latency_ms") == costs.value(first, "current", "latency_ms") > 0.0
    assert set(costs.sites) >= set(prepared().sites())
    assert costs.meta["batch"] == 2
    assert costs.meta["repeat"] == 3
    plan = pq.assign(table, costs=costs)
    assert plan.total_cost["latency_ms"] > 0.0


def test_each_candidate_is_converted_once_and_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    step = {(name,): [1.0] for name in prepared().sites()}
    fake, seen = made_up(step, step, step)
    monkeypatch.setattr(latency, "interleaved", fake)
    a, b = SITES["linear"][:2]
    table = SensitivityTable(
        (
            case(a, "W4", weight_bits=4),
            case(b, "W4", weight_bits=4),
            case(a, "G8W4", weight_bits=4, group_size=8),
            case(a, "W8", weight_bits=8),
        )
    )
    measure_latency(prepared(), table, progress=False)
    ops = [
        {spec.values[i.output].name: i.op for i in spec.instructions if i.op.startswith("gemm")}
        for spec, _ in seen
    ]
    assert set(ops[0].values()) == {"gemm"}
    assert {name for name, op in ops[1].items() if op == "gemm_s8s4"} == {a, b}
    assert {name for name, op in ops[2].items() if op == "gemm_s8s4"} == {a}


def test_whom_a_difference_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sites in one pass. The first has the time; a candidate of either gets what it changes."""
    a, b = SITES["linear"][:2]
    other = SITES["attention"][0]
    base = {(a, other): [5.0, 6.0, 9.0], (b,): [2.0, 2.0, 2.0]}
    apart = {(a,): [4.0, 5.0, 8.0], (other,): [3.0, 3.0, 4.0], (b,): [2.0, 2.0, 2.0]}  # + 2, + 2, + 3
    faster = {(a, other): [3.0, 4.0, 7.0], (b,): [1.0, 1.5, 1.0]}  # - 2; - 1, - 0.5, - 1
    fake, _ = made_up(base, apart, faster)
    monkeypatch.setattr(latency, "interleaved", fake)
    table = SensitivityTable(
        (
            case(other, "softmax=table8", softmax="table8"),
            case(a, "W4", weight_bits=4),
            case(b, "W4", weight_bits=4),
        )
    )
    costs = measure_latency(prepared(), table, repeat=3, progress=False)
    seconds = {(r.site, r.candidate): dict(r.values)["latency_ms"] / 1e3 for r in costs.rows}
    assert seconds[a, "current"] == 6.0
    assert seconds[other, "current"] == 0.0
    assert seconds[b, "current"] == 2.0
    assert seconds[other, "softmax=table8"] == 2.0
    assert seconds[a, "W4"] == 4.0
    assert seconds[b, "W4"] == 1.0


def test_two_sites_of_a_pass_with_one_candidate_share_what_it_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = SITES["linear"][:2]
    fake, _ = made_up({(a, b): [5.0]}, {(a, b): [3.0]})
    monkeypatch.setattr(latency, "interleaved", fake)
    table = SensitivityTable((case(a, "W4", weight_bits=4), case(b, "W4", weight_bits=4)))
    costs = measure_latency(prepared(), table, progress=False)
    assert costs.value(a, "W4", "latency_ms") == 4000.0
    assert costs.value(b, "W4", "latency_ms") == -1000.0


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="expected repeat >= 1, got 0"):
        measure_latency(prepared(), SensitivityTable(()), repeat=0)
    with pytest.raises(ValueError, match="no site 'x', which the table has"):
        measure_latency(prepared(), SensitivityTable((case("x", "W4"),)))
    wide = next(name for name, site in prepared().sites().items() if site.output.bits == 16)
    with pytest.raises(ValueError, match=r"'R8' at .* changes the width of an edge"):
        measure_latency(prepared(), SensitivityTable((case(wide, "R8", residual_bits=8),)))
    with pytest.raises(ValueError, match="keep_float is no candidate"):
        measure_latency(prepared(), SensitivityTable((case(wide, "float", keep_float=True),)))
