"""What stands on the page, and that it needs nothing but itself."""

from __future__ import annotations

import copy
import doctest
import importlib
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pyquant as pq
from tests.report.pages import SECTIONS, labelled, measured, planned, read, with_plan
from tests.verbs.models import mlp


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything there is."""
    path = tmp_path_factory.mktemp("report") / "full.html"
    written = pq.report(
        mlp(), measured(), planned(), path=path, batches=labelled(), note="of today", progress=False
    )
    assert written == path
    return path


def test_sections(full: Path) -> None:
    page = read(full)
    assert [name for name in page.text if name] == list(SECTIONS)
    assert [link for link in page.links if link.startswith("#")] == [f"#{name}" for name in SECTIONS]
    assert "of today" in page.text[""]
    assert "Mlp: quantization report" in page.text[""]
    assert page.images == {"sensitivity": 2, "histograms": 1}


def test_it_needs_nothing_else(full: Path) -> None:
    page, text = read(full), full.read_text()
    assert all(link.startswith(("#", "data:image/svg+xml;base64,")) for link in page.links)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import", text)


def test_model_and_coverage(full: Path) -> None:
    page = read(full)
    facts = dict(page.rows["summary"])
    model = mlp()
    assert facts["model"] == "Mlp"
    assert facts["parameters"] == f"{sum(p.numel() for p in model.parameters()):,}"
    assert facts["float weights"] == f"{4 * sum(p.numel() for p in model.parameters()):,} bytes"
    qmodel = with_plan()
    constants = [v for v in pq.convert(qmodel).spec.values if v.kind == "const"]
    assert (
        f"{sum(v.size * int(v.dtype.strip('uint')) // 8 for v in constants):,} bytes"
        in facts["integer program"]
    )
    assert facts["bits of weights"] == "6 bit (2)"
    assert "Configuration: W6A6, " in page.text["summary"]
    assert qmodel.coverage().summary() in page.text["coverage"]
    assert ["linear", "2", "", "", ""] in page.rows["coverage"]


def test_accuracy(full: Path) -> None:
    """What `evaluate` says of the float model, of it quantized, and with the plan."""
    header, real, quantized, planned_row = read(full).rows["accuracy"]
    assert header[:4] == ["", "top-1 %", "difference", "correct"]
    reference = pq.evaluate(mlp(), labelled(), progress=False)
    before = pq.evaluate(pq.quantize(mlp(), labelled(), "W6A6", progress=False), labelled(), progress=False)
    after = pq.evaluate(with_plan(), labelled(), progress=False)
    for row, name, found in (
        (real, "float", reference),
        (quantized, "quantized", before),
        (planned_row, "with the plan", after),
    ):
        assert row[:2] == [name, f"{found.top1:.2f}"]
        assert row[3] == f"{round(found.top1 * 24 / 100)} of 24"
    assert real[2] == ""
    assert quantized[2] == f"{before.top1 - reference.top1:+.2f}"
    assert planned_row[-2:] == [f"{after.flips(reference):.2f}", f"{after.sqnr(reference):.1f}"]


def test_plan(full: Path) -> None:
    page = read(full)
    rows = page.rows["plan"]
    for choice in planned():
        (row,) = [row for row in rows if row[0] == choice.site]
        assert row[1:3] == [choice.kind, choice.candidate]
        assert f"{row[0]}: {row[2]}, {row[3]}" == planned().explain(choice.site)
    assert "does not carry" not in page.text["plan"]


def test_histograms(full: Path) -> None:
    """The chosen range in real units."""
    qmodel = with_plan()
    header, *rows = read(full).rows["histograms"]
    assert header[:5] == ["site", "kind", "bits", "values", "range of the grid"]
    assert {row[0] for row in rows} <= set(qmodel.sites())
    for row in rows:
        grid = qmodel.sites()[row[0]].output
        low, high = ((q - int(grid.zero_point)) * float(grid.scale) for q in (grid.quant_min, grid.quant_max))
        assert row[2] == str(grid.bits)
        assert row[4] == f"[{low:.4g}, {high:.4g}]"


def test_latency(full: Path) -> None:
    page = read(full)
    assert "Batch 1, " in page.text["latency"]
    engine = pq.convert(with_plan())
    sites = {row.site for row in engine.profile(repeat=1)}
    assert sites <= {row[0] for row in page.rows["latency"]}


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    qmodel = pq.quantize(mlp(), labelled(), progress=False)
    page = read(pq.report(qmodel, path=tmp_path / "r.html", latency=False))
    assert [name for name in page.text if name] == list(SECTIONS)
    assert "pass batches with targets, or evaluations=" in page.text["accuracy"]
    assert "pass a table, as pyquant.sensitivity gives" in page.text["sensitivity"]
    assert "pass a plan, as pyquant.assign gives" in page.text["plan"]
    assert "latency=False" in page.text["latency"]
    assert page.images == {"histograms": 1}  # of sites whose own grid fits worst


def test_sites_without_a_histogram_need_a_batch(tmp_path: Path) -> None:
    config = pq.QuantConfig(base=pq.SiteConfig(observer="minmax"))
    qmodel = pq.quantize(mlp(), labelled(), config, progress=False)
    table = pq.sensitivity(qmodel, labelled(), candidates=["current"], progress=False)
    count = sum(row.delta is not None and abs(row.delta) < 1e9 for row in table)
    without = read(pq.report(qmodel, table, path=tmp_path / "a.html", latency=False))
    assert f"no histogram of {count} of the worst sites: pass batches" in without.text["histograms"]
    batches = [x for x, _ in labelled()]
    page = read(pq.report(qmodel, table, path=tmp_path / "b.html", batches=batches, latency=False))
    assert "values of the first batch" in page.text["histograms"]
    assert len(page.rows["histograms"]) == count + 1
    assert "pass batches with targets" in page.text["accuracy"]


def test_a_prepared_model_stays_as_it_is(tmp_path: Path) -> None:
    qmodel = pq.quantize(mlp(), labelled(), "W6A6", progress=False)
    pq.set_mode(qmodel, "float", "first")
    modes = {name: site.mode for name, site in qmodel.sites().items()}
    state = {name: value.clone() for name, value in qmodel.state_dict().items()}
    page = read(
        pq.report(qmodel, measured(), planned(), path=tmp_path / "r.html", batches=labelled(), progress=False)
    )
    assert {name: site.mode for name, site in qmodel.sites().items()} == modes
    assert all(torch.equal(value, state[name]) for name, value in qmodel.state_dict().items())
    assert "does not carry the plan" in page.text["plan"]
    assert [row[0] for row in page.rows["accuracy"]] == ["", "float", "quantized"]
    page = read(
        pq.report(with_plan(), plan=planned(), path=tmp_path / "r.html", batches=labelled(), progress=False)
    )
    assert "does not carry the plan" not in page.text["plan"]
    assert [row[0] for row in page.rows["accuracy"]] == ["", "float", "with the plan"]


class Sorting(nn.Module):
    """A linear layer, and an op that has no integer form."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 4] -> [batch, 6]."""
        return torch.cumsum(self.first(x), 1)


def test_a_model_that_stays_partly_float(tmp_path: Path) -> None:
    page = read(
        pq.report(Sorting(), path=tmp_path / "r.html", batches=labelled(), title="Sums", progress=False)
    )
    rows = [row for row in page.rows["coverage"] if "cumsum" in row]
    assert rows[0] == ["cumsum", "", "", "", "1"]
    assert rows[1][1:] == ["cumsum", pq.prepare(Sorting(), labelled()[0]).coverage().float_rows[0].reason]
    assert "no integer program" in page.text["latency"]
    assert "cumsum" in page.text["latency"]
    assert dict(page.rows["summary"])["integer program"].startswith("none: ")
    assert [r[0] for r in page.rows["accuracy"]] == ["", "float", "quantized"]


def test_quantizers_and_what_they_leave_in_float(tmp_path: Path) -> None:
    config = pq.QuantConfig().override("first", quantizer="dsq", weight_quantizer="tqt")
    qmodel = pq.quantize(mlp(), labelled(), config, progress=False)
    page = read(pq.report(qmodel, path=tmp_path / "r.html", batches=labelled(), progress=False))
    summary = dict(page.rows["summary"])
    assert summary["quantizers"] == "quantizer=dsq (1), weight_quantizer=tqt (1)"
    assert summary["simulated sites"] == "linear (1), unary (1)"
    assert summary["integer sites"].startswith("2: ")
    assert ["first", "linear", "quantizer 'dsq'"] in page.rows["coverage"]
    assert ["act", "unary", "reads 'first', quantizer 'dsq'"] in page.rows["coverage"]
    assert "no integer program" in page.text["latency"]


def test_given_accuracy_and_profile(tmp_path: Path) -> None:
    qmodel = pq.quantize(mlp(), labelled(), progress=False)
    found = pq.evaluate(qmodel, labelled(), progress=False)
    profile = pq.convert(qmodel).profile(batch=7, repeat=1)
    page = read(
        pq.report(
            qmodel,
            path=tmp_path / "r.html",
            evaluations={"published": 81.25, "ours": found},
            latency=profile,
        )
    )
    _, published, ours = page.rows["accuracy"]
    assert published[:2] == ["published", "81.25"]
    assert ours[:4] == [
        "ours",
        f"{found.top1:.2f}",
        f"{found.top1 - 81.25:+.2f}",
        f"{round(found.top1 * 24 / 100)} of 24",
    ]
    assert "Batch 7, " in page.text["latency"]


def test_files_of_table_and_plan(tmp_path: Path) -> None:
    measured().save(tmp_path / "table.json")
    planned().save(tmp_path / "plan.yaml")
    values = {"path": tmp_path / "r.html", "latency": False}
    files = tmp_path / "table.json", str(tmp_path / "plan.yaml")
    by_file = pq.report(with_plan(), *files, **values).read_bytes()
    assert by_file == pq.report(with_plan(), measured(), planned(), **values).read_bytes()


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    """Whatever the settings of matplotlib are."""
    import matplotlib

    profile = pq.convert(with_plan()).profile(repeat=1)
    values = {"batches": labelled(), "latency": profile, "progress": False}
    one = pq.report(with_plan(), measured(), planned(), path=tmp_path / "1.html", **values).read_bytes()
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        two = pq.report(
            copy.deepcopy(with_plan()), measured(), planned(), path=tmp_path / "2.html", **values
        ).read_bytes()
    assert one == two


def test_the_example_of_the_docstring() -> None:
    result = doctest.testmod(importlib.import_module("pyquant.reporting.report"), raise_on_error=False)
    assert (result.failed, result.attempted) == (0, 4)


def test_names_are_text(tmp_path: Path) -> None:
    """A module may have any name; none becomes a tag, or a formula of matplotlib."""
    name = "a<script>alert('1')</script>$x_{&$"
    model = nn.Sequential()
    model.add_module(name, nn.Linear(4, 6))
    table = pq.sensitivity(model, labelled(), candidates=["W4", "A8"], progress=False)
    path = pq.report(
        model,
        table,
        pq.assign(table),
        path=tmp_path / "r.html",
        batches=labelled(),
        title="</title><script>",
        note="<b>",
        progress=False,
    )
    page = read(path)
    assert "<script" not in path.read_text()
    assert {row[0] for row in page.rows["plan"]} >= {name}
    assert name in {row[0] for row in page.rows["latency"]}
