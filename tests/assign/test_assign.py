"""assign: what each objective chooses, what budgets change, and one clear error for each mistake."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

import pyquant as pq
from pyquant.assignment.objective import column_scores, unified_scores
from pyquant.costs import CostRow, Costs
from pyquant.sensitivity_table import SensitivityTable
from tests.assign.rows import row, softmax_rows

DELTAS = {
    "b.0.context": {"table16": 0.5, "table8": 1.5},
    "b.1.context": {"table16": 1.0, "table8": 0.25},
    "b.2.context": {"table16": 0.25, "table8": 4.0},
}
TABLE = softmax_rows(DELTAS, {"config": "W6A6", "model": "Vit"})
MS = {"table16": 3.0, "table8": 1.0}
COSTS = Costs(
    (
        *(CostRow(s, f"softmax={m}", (("latency_ms", MS[m]),)) for s in DELTAS for m in MS),
        CostRow("head", "current", (("latency_ms", 2.0),)),
    )
)


def chosen(plan: pq.Plan) -> list[str]:
    return [choice.candidate.removeprefix("softmax=") for choice in plan]


def test_the_smallest_delta_of_each_site() -> None:
    plan = pq.assign(TABLE)
    assert chosen(plan) == ["table16", "table8", "table16"]
    assert [choice.score for choice in plan] == [0.5, 0.25, 0.25]
    assert plan.total_score == 1.0
    assert plan.solver == "each site alone"
    assert plan.config == pq.assign(TABLE).config
    assert plan.config is not None
    assert plan.config.base.weight_bits == 6
    assert plan.model == "Vit"
    assert plan.explain("b.1.context") == (
        "b.1.context: softmax=table8, delta 0.25 dB; next softmax=table16 1.00 dB"
    )


def test_sites_come_in_execution_order_whatever_the_order_of_rows() -> None:
    assert pq.assign(SensitivityTable(TABLE.rows[::-1])).choices == pq.assign(TABLE).choices


@pytest.mark.parametrize("objective", ["accumulated", "isolated", "mse"])
def test_other_columns(objective: str) -> None:
    """Made from the same deltas, so they choose the same; a score is shown as the table has it."""
    plan = pq.assign(TABLE, objective=objective)
    assert chosen(plan) == ["table16", "table8", "table16"]
    first = TABLE.rows[0]
    assert plan.choices[0].score == pytest.approx(getattr(first, objective), rel=1e-5)


def test_noise_adds_up_where_decibels_do_not() -> None:
    """Two sites and one step down for either: 60 to 50 dB is ten decibels, 20 to 15 is more noise."""
    rows, costs = [], []
    for index, (site, fine, rough) in enumerate((("a", 60.0, 50.0), ("b", 20.0, 15.0))):
        for name, isolated, cost in (("fine", fine, 2.0), ("rough", rough, 1.0)):
            rows.append(row(site, name, index=index, isolated=isolated, delta=60.0 - isolated))
            costs.append(CostRow(site, name, (("latency_ms", cost),)))
    budget: dict[str, Any] = {"costs": Costs(tuple(costs)), "constraints": {"latency_ms": 3.0}}
    by_noise = pq.assign(SensitivityTable(tuple(rows)), objective="noise", **budget)
    assert [choice.candidate for choice in by_noise] == ["rough", "fine"]
    assert by_noise.total_score == pytest.approx(1e-5 + 1e-2)
    by_decibels = pq.assign(SensitivityTable(tuple(rows)), **budget)
    assert [choice.candidate for choice in by_decibels] == ["fine", "rough"]


def test_ties() -> None:
    same = row("a", "c", accumulated=30.0, mse=0.5)
    rows = [same, dataclasses.replace(same, candidate="b"), dataclasses.replace(same, candidate="a", mse=0.6)]
    assert pq.assign(SensitivityTable(tuple(rows))).choices[0].candidate == "b"


NEAR = {"table16": 0.503, "table8": 0.5}
NEAR_TABLE = softmax_rows({"b.0.context": NEAR, "b.1.context": {"table16": 0.8, "table8": 0.5}})


def test_a_tolerance_keeps_the_first_of_what_is_alike(tmp_path: Path) -> None:
    assert chosen(pq.assign(NEAR_TABLE)) == ["table8", "table8"]
    plan = pq.assign(NEAR_TABLE, tolerance=0.01)
    assert chosen(plan) == ["table16", "table8"]
    assert plan.choices[0].score == pytest.approx(0.503)  # as measured
    assert dict(plan.options) == {"tolerance": 0.01}
    plan.save(tmp_path / "plan.yaml")
    for each in (plan, pq.Plan.load(tmp_path / "plan.yaml")):
        assert each.explain("b.0.context") == (
            "b.0.context: softmax=table16, delta 0.50 dB; as good as softmax=table8 0.50 dB within 0.01 dB"
        )
        assert "next softmax=table16" in each.explain("b.1.context")


@pytest.mark.parametrize("solver", ["milp", "greedy"])
def test_a_tolerance_and_a_budget(solver: str) -> None:
    """The budget comes first: the slow one of two alike is taken once."""
    ms = {"table16": 3.0, "table8": 1.0}
    alike = softmax_rows({"b.0.context": NEAR, "b.1.context": NEAR})
    costs = Costs(
        tuple(CostRow(row.site, row.candidate, (("latency_ms", ms[row.candidate[8:]]),)) for row in alike)
    )
    plan = pq.assign(alike, tolerance=0.01, costs=costs, constraints={"latency_ms": 2.5}, solver=solver)
    assert chosen(plan) == ["table8", "table8"]
    loose = pq.assign(alike, tolerance=0.01, costs=costs, constraints={"latency_ms": 9.0}, solver=solver)
    assert loose.total_score == pytest.approx(2 * 0.5, abs=0.01)


def test_no_error_at_all_is_the_best() -> None:
    """+inf dB: as a candidate it wins; as the input of a site it does not hide which candidate is better."""
    exact = row("a", "exact", sqnr_in=40.0, accumulated=math.inf)
    good = row("a", "good", sqnr_in=40.0, accumulated=80.0)
    plan = pq.assign(SensitivityTable((good, exact)))
    assert plan.choices[0].candidate == "exact"
    assert plan.choices[0].score == 40.0 - 200.0

    first = [
        row("a", name, sqnr_in=math.inf, accumulated=accumulated)
        for name, accumulated in (("rough", 20.0), ("fine", 50.0), ("nan", math.nan))
    ]
    plan = pq.assign(SensitivityTable(tuple(first)))
    assert plan.choices[0].candidate == "fine"
    assert plan.choices[0].score == 150.0
    both = row("a", "exact", sqnr_in=math.inf, accumulated=math.inf)
    assert pq.assign(SensitivityTable((*first, both))).choices[0].candidate == "exact"


def test_a_candidate_without_a_number_is_never_chosen() -> None:
    rows = (row("a", "x", accumulated=math.nan, mse=0.0), row("a", "y", delta=3.0))
    assert pq.assign(SensitivityTable(rows)).choices[0].candidate == "y"
    with pytest.raises(ValueError, match="every candidate at 'a' is NaN"):
        pq.assign(SensitivityTable(rows[:1]))


# ---- budgets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["milp", "greedy"])
def test_a_budget(solver: str) -> None:
    """Free: 3 + 1 + 3 + 2 of the head. With 7 ms the cheapest loss is at the first site: 1 dB for 2 ms."""
    free = pq.assign(TABLE, costs=COSTS)
    assert free.total_cost == {"latency_ms": 9.0}
    plan = pq.assign(TABLE, costs=COSTS, constraints={"latency_ms": 7.0}, solver=solver)
    assert chosen(plan) == ["table8", "table8", "table16"]
    assert plan.total_cost == {"latency_ms": 7.0}
    assert plan.constraints == (("latency_ms", 7.0),)
    assert plan.solver == solver
    assert plan.explain("b.0.context") == (
        "b.0.context: softmax=table8, delta 1.50 dB; the budget rules out softmax=table16 0.50 dB; "
        "2.000 ms cheaper than softmax=table16"
    )
    loose = pq.assign(TABLE, costs=COSTS, constraints={"latency_ms": 9.0}, solver=solver)
    assert loose.choices == free.choices


@pytest.mark.parametrize("solver", ["milp", "greedy"])
def test_an_infeasible_budget_names_the_nearest_that_is_not(solver: str) -> None:
    with pytest.raises(ValueError, match=r"no choice meets latency_ms <= 4\.5: the nearest is 5$"):
        pq.assign(TABLE, costs=COSTS, constraints={"latency_ms": 4.5}, solver=solver)
    assert len(pq.assign(TABLE, costs=COSTS, constraints={"latency_ms": 5.0}, solver=solver)) == 3


def test_the_nearest_budget_can_be_asked_for() -> None:
    """Sums of thirds: the number in the message is rounded up."""
    rows = tuple(dataclasses.replace(r, values=(("latency_ms", r.values[0][1] / 3),)) for r in COSTS.rows)
    thirds = Costs(rows)
    with pytest.raises(ValueError, match="the nearest is") as caught:
        pq.assign(TABLE, costs=thirds, constraints={"latency_ms": 1.0})
    nearest = float(str(caught.value).rpartition(" ")[2])
    assert nearest == pytest.approx(5 / 3, rel=1e-5)
    assert (
        pq.assign(TABLE, costs=thirds, constraints={"latency_ms": nearest}).total_cost["latency_ms"] <= 1.67
    )


def test_budgets_that_exclude_each_other() -> None:
    """Each alone is possible: 5 ms with three table8, area 4 with three table16."""
    area = Costs(
        (
            *(CostRow(s, f"softmax={m}", (("area", 6.0 - MS[m]),), m) for s in DELTAS for m in MS),
            CostRow("head", "current", (("area", 1.0),), "gemm"),
        ),
        shared=("area",),
    )
    both = COSTS | area
    assert pq.assign(TABLE, costs=both, constraints={"area": 4.0}).total_cost["area"] == 4.0
    with pytest.raises(ValueError, match="no choice meets all budgets together") as caught:
        pq.assign(TABLE, costs=both, constraints={"latency_ms": 5.0, "area": 4.0})
    assert "latency_ms 11 (asked: 5) within the others" in str(caught.value)
    assert "area 6 (asked: 4) within the others" in str(caught.value)


def test_three_budgets_of_which_any_two_exclude_each_other() -> None:
    """One site, three candidates, each cheap in one metric only."""
    names, metrics = ("x", "y", "z"), ("a", "b", "c")
    rows = [row("s", name, delta=1.0) for name in names]
    costs = Costs(
        tuple(
            CostRow("s", name, tuple((m, 1.0 if n == k else 9.0) for k, m in enumerate(metrics)))
            for n, name in enumerate(names)
        )
    )
    with pytest.raises(ValueError, match="the nearest are a 1 alone, or b 1 alone, or c 1 alone"):
        pq.assign(SensitivityTable(rows), costs=costs, constraints=dict.fromkeys(metrics, 2.0))


def test_one_unit_for_all_sites() -> None:
    """Building both units costs 8, so a budget of 7 leaves one method for the whole model."""
    area = Costs(
        tuple(
            CostRow(s, f"softmax={m}", (("area", 3.0 if m == "table16" else 5.0),), m)
            for s in DELTAS
            for m in MS
        ),
        shared=("area",),
    )
    assert pq.assign(TABLE, costs=area).total_cost == {"area": 8.0}
    plan = pq.assign(TABLE, costs=area, constraints={"area": 7.0})
    assert chosen(plan) == ["table16"] * 3
    assert plan.total_cost == {"area": 3.0}


def test_average_weight_bits() -> None:
    """1,000 and 3,000 weights, 8 bits elsewhere for 1,000: 6.4 bits on average if the larger one has 6."""
    rows, costs = [], [CostRow("head", "current", (("weight_bits", 8000.0), ("weights", 1000.0)))]
    for index, (site, count) in enumerate((("small", 1000), ("large", 3000))):
        for bits in (4, 6, 8):
            rows.append(
                row(site, f"W{bits}", "linear", index, (("weight_bits", bits),), delta=float(2 ** (8 - bits)))
            )
            costs.append(
                CostRow(site, f"W{bits}", (("weight_bits", float(count * bits)), ("weights", float(count))))
            )
    plan = pq.assign(
        SensitivityTable(tuple(rows)), costs=Costs(tuple(costs)), constraints={"average_weight_bits": 6.8}
    )
    assert [choice.candidate for choice in plan] == ["W8", "W6"]
    assert plan.total_cost["average_weight_bits"] == 6.8
    assert plan.total_cost["weight_bits"] == 34000.0
    with pytest.raises(ValueError, match=r"average_weight_bits <= 4: the nearest is 4\.8$"):
        pq.assign(
            SensitivityTable(tuple(rows)), costs=Costs(tuple(costs)), constraints={"average_weight_bits": 4}
        )


# ---- the unified metric ------------------------------------------------------------------------------------


def test_unified_by_hand() -> None:
    """Two sites of a kind. Delta: above the least 0 and 1; 2 and 0; the widest difference is 2.

    Perturbation from isolated SQNR of 10 and 20 dB: 0.1 and 0.01; at the other site both 0.1.
    Cost 3 and 1 at both.
    """
    rows = [
        row("a", "x", delta=1.0, isolated=10.0),
        row("a", "y", delta=2.0, isolated=20.0),
        row("b", "x", delta=5.0, isolated=10.0, index=1),
        row("b", "y", delta=3.0, isolated=10.0, index=1),
    ]
    weights = {"sensitivity": 2.0, "perturbation": 1.0, "cost": 0.5}
    scores = unified_scores(rows, [3.0, 1.0, 3.0, 1.0], weights, "isolated")
    assert scores == pytest.approx([0 + 1 + 0.5, 1 + 0 + 0, 2 + 0 + 0.5, 0 + 0 + 0])
    costs = Costs(
        tuple(CostRow(r.site, r.candidate, (("ops", 3.0 if r.candidate == "x" else 1.0),)) for r in rows)
    )
    plan = pq.assign(SensitivityTable(tuple(rows)), objective="unified", weights=weights, costs=costs)
    assert [choice.candidate for choice in plan] == ["y", "y"]
    assert [choice.score for choice in plan] == [1.0, 0.0]
    assert dict(plan.options) == {
        "sensitivity_weight": 2.0,
        "perturbation_weight": 1.0,
        "cost_weight": 0.5,
        "perturbation": "isolated",
        "cost": "ops",
    }


def test_unified_without_cost_and_with_other_perturbations() -> None:
    table = SensitivityTable(dataclasses.replace(r, cosine=1 - r.mse, kl=r.mse) for r in TABLE if r.mse)
    for perturbation in ("isolated", "accumulated", "cosine", "kl"):
        plan = pq.assign(table, objective="unified", weights={"cost": 0}, perturbation=perturbation)
        assert chosen(plan) == ["table16", "table8", "table16"]
        assert all(0.0 <= choice.score <= 2.0 for choice in plan)


def test_cost_decides_where_candidates_are_alike() -> None:
    cheap = pq.assign(TABLE, objective="unified", costs=COSTS, weights={"cost": 10.0})
    assert chosen(cheap) == ["table8"] * 3


def test_terms_of_a_kind_are_compared_with_that_kind_alone() -> None:
    rows = [
        row("a", "x", "attention", delta=0.0, isolated=10.0),
        row("a", "y", "attention", delta=0.1, isolated=10.0),
        row("n", "x", "layer_norm", 1, delta=0.0, isolated=10.0),
        row("n", "y", "layer_norm", 1, delta=50.0, isolated=10.0),
    ]
    only = {"sensitivity": 1.0, "perturbation": 0.0, "cost": 0.0}
    assert unified_scores(rows, [0.0] * 4, only, "isolated") == [0.0, 1.0, 0.0, 1.0]


# ---- mistakes ----------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "objective": ({"objective": "luck"}, "objective to be one of delta, .* got 'luck'"),
    "all but this": ({"objective": "all_but_this"}, "same for every candidate"),
    "absent score": ({"objective": "kl"}, "holds no 'kl'"),
    "select": ({"select": "x*"}, r"select 'x\*' matches none of the table's 6 rows"),
    "solver": ({"solver": "luck"}, "solver to be one of milp, greedy"),
    "no costs": ({"constraints": {"latency_ms": 3}}, "'latency_ms' needs costs"),
    "not a cost": ({"constraints": {"energy": 3}, "costs": COSTS}, "'energy' is none of the costs"),
    "no number": ({"constraints": {"latency_ms": math.nan}, "costs": COSTS}, "finite number, got nan"),
    "unified": ({"objective": "unified"}, "needs costs, or weights="),
    "which cost": (
        {"objective": "unified", "costs": COSTS | Costs((CostRow("a", "b", (("area", 1.0),)),))},
        "cost: expected one of latency_ms, area, got none",
    ),
    "wrong cost": ({"objective": "unified", "costs": COSTS, "cost": "area"}, "got 'area'"),
    "weights": ({"objective": "unified", "weights": {"luck": 1}}, "weights of sensitivity, .* got 'luck'"),
    "negative": ({"objective": "unified", "weights": {"cost": -1}}, "number >= 0, got -1"),
    "tolerance": ({"tolerance": -0.1}, "tolerance to be a number >= 0, got -0.1"),
    "misplaced": ({"weights": {"cost": 1}}, "belong to objective 'unified', not to 'delta'"),
    "perturbation": ({"objective": "unified", "perturbation": "mse"}, "perturbation to be one of"),
    "some costs": (
        {"constraints": {"latency_ms": 9}, "costs": Costs(COSTS.rows[1:])},
        "no latency_ms of candidate 'softmax=table16' at 'b.0.context'",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    arguments, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        pq.assign(TABLE, **arguments)


def test_what_is_something_else() -> None:
    with pytest.raises(TypeError, match="expected a SensitivityTable, got list"):
        pq.assign([])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"costs to be Costs .* got str"):
        pq.assign(TABLE, costs="costs.csv")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="constraints to be a mapping, got float"):
        pq.assign(TABLE, costs=COSTS, constraints=3.0)  # type: ignore[arg-type]


def test_bad_tables() -> None:
    with pytest.raises(ValueError, match="the table has no rows"):
        pq.assign(SensitivityTable(()))
    with pytest.raises(ValueError, match="'x' at 'a' twice"):
        pq.assign(SensitivityTable((row("a", "x", delta=1.0),) * 2))


def test_scores_of_a_part_of_the_rows() -> None:
    assert math.isnan(column_scores([row("a", "x", kl=0.5), row("a", "y")], "kl")[1])
