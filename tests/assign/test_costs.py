"""Costs: the value and its files; sizes, weights and operations by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyquant as pq
from pyquant.costs import (
    CostRow,
    Costs,
    OperationCost,
    Operations,
    counts_of,
    operation_costs,
    site_sizes,
    weight_costs,
)
from pyquant.methods import OPS, methods
from pyquant.sensitivity_table import SensitivityTable
from tests.assign.models import TOKENS, attention_model, prepared, tokens
from tests.assign.rows import row

COSTS = Costs(
    (
        CostRow("a", "current", (("latency_ms", 0.1), ("area", 5.0)), "gelu table"),
        CostRow("a", "unary=ibert", (("latency_ms", 1 / 3), ("area", 7.0)), "gelu ibert"),
        CostRow("b,c", "current", (("latency_ms", 2.0),)),
    ),
    shared=("area",),
    meta={"batch": 1},
)


def table(*rows: tuple[str, str, dict[str, Any]]) -> SensitivityTable:
    return SensitivityTable(
        row(site, name, settings=tuple(settings.items())) for site, name, settings in rows
    )


# ---- the value ---------------------------------------------------------------------------------------------


def test_files_round_trip(tmp_path: Path) -> None:
    COSTS.save(tmp_path / "costs.json")
    assert Costs.load(tmp_path / "costs.json") == COSTS
    COSTS.save(tmp_path / "costs.csv")
    loaded = Costs.load(tmp_path / "costs.csv")
    assert (loaded.rows, loaded.shared) == (COSTS.rows, COSTS.shared)
    assert (tmp_path / "costs.csv").read_text().splitlines()[0] == (
        "site,candidate,unit,latency_ms,area per unit"
    )


def test_a_csv_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("candidate,energy_pj,site\ncurrent,3,a\nW4,1.5,a\n")
    assert Costs.load(path).value("a", "W4", "energy_pj") == 1.5


BAD_FILES = {
    "no.json": "{}",
    "old.json": '{"version": 0}',
    "keys.json": '{"version": 1, "meta": {}, "rows": [], "shared": [], "more": 1}',
    "row.json": '{"version": 1, "meta": {}, "shared": [], "rows": [{"site": "a"}]}',
    "nan.json": '{"version": 1, "meta": {}, "shared": [], "rows": '
    '[{"site": "a", "candidate": "c", "unit": "", "values": {"ms": NaN}}]}',
    "text.json": "nothing",
    "empty.csv": "",
    "columns.csv": "site,latency_ms\na,1\n",
    "cells.csv": "site,candidate,ms\na,c\n",
    "number.csv": "site,candidate,ms\na,c,fast\n",
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(BAD_FILES[name])
    with pytest.raises(ValueError, match=f"costs: .*{name}: "):
        Costs.load(tmp_path / name)


def test_looking_up() -> None:
    assert COSTS.metrics == ("latency_ms", "area")
    assert COSTS.sites == ("a", "b,c")
    assert COSTS.value("a", "unary=ibert", "area") == 7.0
    for site, candidate, metric in (
        ("a", "W4", "area"),
        ("x", "current", "area"),
        ("b,c", "current", "area"),
    ):
        with pytest.raises(ValueError, match=f"no area of candidate '{candidate}' at '{site}'"):
            COSTS.value(site, candidate, metric)


def test_joining() -> None:
    more = Costs((CostRow("a", "current", (("weights", 3.0), ("latency_ms", 0.2))),), meta={"repeat": 2})
    both = COSTS | more
    assert both.value("a", "current", "weights") == 3.0
    assert both.value("a", "current", "latency_ms") == 0.2
    assert both.value("a", "current", "area") == 5.0
    assert both.unit("a", "current") == "gelu table"
    assert both.shared == ("area",)
    assert both.meta == {"batch": 1, "repeat": 2}


def test_it_prints() -> None:
    assert str(COSTS) == (
        "site  candidate    unit        latency_ms  area\n"
        "a     current      gelu table         0.1     5\n"
        "a     unary=ibert  gelu ibert    0.333333     7\n"
        "b,c   current                           2"
    )
    assert "<td>unary=ibert</td>" in COSTS._repr_html_()


def test_what_is_no_costs() -> None:
    row = CostRow("a", "c", (("area", 1.0),), "u")
    with pytest.raises(ValueError, match="a, c is there twice"):
        Costs((row, row))
    with pytest.raises(ValueError, match="unit 'u' has two values of area: 1 and 2"):
        Costs((row, CostRow("b", "c", (("area", 2.0),), "u")), ("area",))
    with pytest.raises(ValueError, match="paid by unit, and the row names none"):
        Costs((CostRow("a", "c", (("area", 1.0),)),), ("area",))
    with pytest.raises(ValueError, match="area to be a finite number, got inf"):
        CostRow("a", "c", (("area", math.inf),))


# ---- sizes and weights -------------------------------------------------------------------------------------


def test_sizes_of_a_block() -> None:
    """9 tokens of width 24, three heads of 8, an MLP of 48."""
    sizes = site_sizes(prepared())
    by_kind = {
        kind: [s for s in sizes.values() if s.kind == kind] for kind in ("attention", "unary", "linear")
    }
    (attention,), (gelu,) = by_kind["attention"], by_kind["unary"]
    assert (attention.elements, attention.rows, attention.channels) == (3 * 9 * 9, 3 * 9, 8)
    assert gelu.elements == 9 * 48
    norms = [s for s in sizes.values() if s.kind == "layer_norm"]
    assert {(s.elements, s.rows) for s in norms} == {(9 * 24, 9)}
    assert sum(s.weights for s in by_kind["linear"]) == 24 * (3 * 24 + 24 + 2 * 48)
    assert sum(s.multiply_adds for s in sizes.values()) == 9 * 24 * (3 * 24 + 24 + 2 * 48)


@pytest.mark.parametrize("settings", [{}, {"weight_bits": 4}, {"weight_bits": 3, "group_size": 8}])
def test_weight_bytes_are_those_of_the_file(settings: dict[str, Any]) -> None:
    linear = [name for name, site in prepared().sites().items() if site.kind == "linear"]
    config = pq.QuantConfig(base=pq.SiteConfig(**settings))
    engine = pq.convert(pq.quantize(attention_model(1), [tokens()], config, progress=False))
    arrays = {engine.spec.values[i].name: array for i, array in engine._constants.items()}
    stored = sum(
        array.nbytes
        for name, array in arrays.items()
        if name.rpartition(".")[2] in ("weight", "w", "group_multiplier", "groups")
    )
    costs = weight_costs(prepared(), table(*((name, "c", settings) for name in linear)))
    assert sum(costs.value(name, "c", "weight_bytes") for name in linear) == stored
    bits = settings.get("weight_bits", 8)
    assert all(
        costs.value(n, "c", "weight_bits") == bits * costs.value(n, "current", "weights") for n in linear
    )


def test_sites_without_weights_have_none() -> None:
    costs = weight_costs(prepared(), table())
    others = [name for name, site in prepared().sites().items() if site.kind != "linear"]
    assert {costs.value(name, "current", metric) for name in others for metric in costs.metrics} == {0.0}


# ---- operations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
def test_every_method_is_counted(op: str) -> None:
    for name in methods(op):
        for function in ("gelu", "silu") if op == "unary" else ("",):
            counts = counts_of(op, name, function)
            assert counts.element != Operations()
            assert (counts.row != Operations()) <= (op != "unary")
            assert (counts.product != Operations()) == (op == "softmax")


def test_an_exact_table_by_hand() -> None:
    assert counts_of("unary", "table", "gelu").element == Operations(lookup=1)
    assert counts_of("unary", "table").table_bits == 2048


def test_the_exact_norm_by_hand() -> None:
    """docs/numerics/layernorm.md, an element: sum; square and sum; C x - S1; m_r; gain and offset.

    A row: C S2 - S1^2 + E, at least 1, 32 steps of a root (compare, subtract, shift), a reciprocal, shifts.
    """
    counts = counts_of("norm", "exact")
    assert counts.element == Operations(multiply=1 + 1 + 1 + 1, add=1 + 1 + 1 + 1 + 1, shift=2)
    assert counts.row == Operations(multiply=2, add=4 + 64, shift=2 + 32, divide=1)


def test_a_softmax_by_hand() -> None:
    """docs/numerics/attention.md, table16."""
    counts = counts_of("softmax", "table16")
    maximum_difference_sum, clamps, roundings = 3, 2, 2
    assert counts.element == Operations(
        add=maximum_difference_sum + clamps + roundings, multiply=1, shift=1 + 1 + 1 + 1, lookup=1
    )
    assert counts.product == Operations(multiply=1, add=1)
    assert counts.table_bits == 32 * 15


def test_shifts_in_place_of_products() -> None:
    """What the papers claim: no multiplication but that which gives the scores their unit."""
    assert counts_of("softmax", "sole").element.multiply == 1
    assert counts_of("softmax", "iptq").element.multiply == 1
    assert counts_of("softmax", "sole").product == counts_of("softmax", "fqvit").product
    assert counts_of("softmax", "fqvit").product == Operations(shift=1, add=1)
    assert counts_of("softmax", "ivit").element.multiply < counts_of("softmax", "ibert").element.multiply


def test_counts_follow_the_parameters() -> None:
    assert counts_of("softmax", "index").table_bits == 32 * 8
    assert counts_of("softmax", "index(bits=8)").table_bits == 256 * 8
    mean_and_factor = 2
    assert counts_of("norm", "ivit(iterations=3)").row.divide == mean_and_factor + 3
    assert counts_of("norm", "ivit_published").row.divide == mean_and_factor + 10


def test_costs_of_operations() -> None:
    """Only multiplications count: 1 an element for the softmax's index, 8 for its product with v."""
    sizes = site_sizes(prepared())
    (attention,) = (s for s in sizes.values() if s.kind == "attention")
    (gelu,) = (s for s in sizes.values() if s.kind == "unary")
    model = OperationCost(shift=0, add=0, multiply=1, divide=0, table_bit=0.5)
    costs = operation_costs(prepared(), table((attention.site, "8", {"softmax": "table8"})), model)
    assert costs.value(attention.site, "current", "operations") == 3 * TOKENS**2 * (1 + 8)
    assert costs.value(gelu.site, "current", "operations") == 0.0
    assert costs.value(gelu.site, "current", "area") == 1024.0
    assert costs.unit(gelu.site, "current") == "gelu table"
    assert costs.unit(attention.site, "8") == "softmax table8"
    assert costs.value(attention.site, "8", "area") == 1 + 1 + 0.5 * 32 * 9
    linear = [s for s in sizes.values() if s.kind == "linear"]
    assert sum(costs.value(s.site, "current", "operations") for s in linear) == sum(
        s.multiply_adds for s in linear
    )
    four = operation_costs(prepared(), table((linear[0].site, "W4", {"weight_bits": 4})), model)
    assert four.value(linear[0].site, "W4", "operations") == linear[0].multiply_adds / 2


def test_a_plan_with_one_softmax_unit() -> None:
    """Two attention sites, each better with another method; a budget for one unit makes them agree."""
    model = OperationCost(shift=1, add=1, multiply=4, divide=20, table_bit=0.1)
    names = [name for name, site in prepared(2).sites().items() if site.kind == "attention"]
    rows = [
        row(site, m, "attention", i, (("softmax", m),), delta=float((m == "table8") == (i == 0)) + 0.1 * i)
        for i, site in enumerate(names)
        for m in ("table16", "table8")
    ]
    costs = operation_costs(prepared(2), SensitivityTable(rows), model)
    free = pq.assign(SensitivityTable(rows), costs=costs)
    assert [choice.candidate for choice in free] == ["table16", "table8"]
    below = float(np.nextafter(free.total_cost["area"], 0)) - 1e-3
    less = pq.assign(SensitivityTable(rows), costs=costs, constraints={"area": below})
    assert len({choice.candidate for choice in less}) == 1
    assert less.total_cost["area"] < free.total_cost["area"]


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="add: expected a number >= 0, got -1"):
        OperationCost(shift=1, add=-1, multiply=1, divide=1)
    model = OperationCost(shift=1, add=1, multiply=1, divide=1)
    with pytest.raises(ValueError, match="no site 'x', which the table has"):
        operation_costs(prepared(), table(("x", "W4", {})), model)
    linear = next(name for name, site in prepared().sites().items() if site.kind == "linear")
    with pytest.raises(ValueError, match=f"'W9' at '{linear}': weight_bits"):
        weight_costs(prepared(), table((linear, "W9", {"weight_bits": 9})))
    with pytest.raises(ValueError, match="luck"):
        counts_of("softmax", "luck")


def test_a_method_that_was_never_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyquant.costs import counts

    monkeypatch.setattr(counts, "_COUNTS", {"softmax": {"table16": None}})
    with pytest.raises(
        ValueError, match="operations of softmax 'table8' were never counted; there are table16"
    ):
        counts_of("softmax", "table8")
