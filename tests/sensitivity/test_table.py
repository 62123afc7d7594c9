"""The table as a value: files, frames, rankings, pictures."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pyquant as pq
from pyquant.sensitivity_table import SensitivityRow
from pyquant.sensitivity_table.plots import KINDS

ROWS = [
    SensitivityRow(
        site=f"layers.{i // 2}.{('attention', 'mlp <1>')[i % 2]}",
        kind=("attention", "unary")[i % 2],
        index=3 * i,
        candidate=name,
        settings=(("activation_bits", 6),) if name == "A6" else (("softmax", "table8"),),
        sqnr_in=math.inf if i == 0 else 40.0 - i,
        isolated=42.0 - i - j,
        accumulated=math.inf if (i, name) == (3, "A6") else 35.25 - 2 * i - 3 * j,
        all_but_this=38.0 - i,
        mse=1e-5 * (i + 1),
        cosine=0.999,
        max_error=0.1 / (i + 1),
        samples=12,
        exact=0,
    )
    for i in range(4)
    for j, name in enumerate(["A6", "softmax=table8"] if i % 2 == 0 else ["A6"])
]
META = {"model": "Tiny", "scope": "site", "samples": 12, "seconds": 1.5}
TABLE = pq.SensitivityTable(ROWS, META)


def test_looking() -> None:
    assert len(TABLE) == 6
    assert TABLE.sites == ("layers.0.attention", "layers.0.mlp <1>", "layers.1.attention", "layers.1.mlp <1>")
    assert TABLE.candidates == ("A6", "softmax=table8")
    assert TABLE.row("layers.1.attention", "A6") is ROWS[3]
    assert TABLE.groups() == [
        ("attention", ["layers.0.attention", "layers.1.attention"], ["A6", "softmax=table8"]),
        ("unary", ["layers.0.mlp <1>", "layers.1.mlp <1>"], ["A6"]),
    ]
    with pytest.raises(KeyError, match=r"has A6, not 'W4'"):
        TABLE.row("layers.0.mlp <1>", "W4")
    with pytest.raises(KeyError, match="no site 'x'"):
        TABLE.row("x", "A6")


def test_delta() -> None:
    assert [row.delta for row in ROWS] == [math.inf, math.inf, 5.75, 6.75, 9.75, -math.inf]
    row = SensitivityRow(site="s", kind="", index=0, candidate="A6", settings=(), sqnr_in=math.inf)
    assert row.delta is None


def test_rank() -> None:
    order = [(row.site, row.candidate) for row in TABLE.rank()]
    assert order[:3] == [
        ("layers.1.attention", "softmax=table8"),
        ("layers.1.attention", "A6"),
        ("layers.0.mlp <1>", "A6"),
    ]
    assert {row.delta for row in TABLE.rank()[3:]} == {math.inf, -math.inf}
    lowest = TABLE.rank("accumulated")
    assert [row.accumulated for row in lowest] == sorted(row.accumulated for row in ROWS)  # type: ignore[type-var]
    assert TABLE.rank("mse")[0].mse == 4e-5
    with pytest.raises(ValueError, match="rank: 'kl' was not measured; the table has delta, accumulated"):
        TABLE.rank("kl")
    with pytest.raises(ValueError, match=r"rank: expected one of delta, .*, got 'worst'"):
        TABLE.rank("worst")


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    TABLE.save(path)
    assert pq.SensitivityTable.load(path) == TABLE
    data = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (data["format"], data["version"]) == ("pyquant-sensitivity", 1)
    pq.SensitivityTable.load(path).save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=2), "expected version 1, got 2"),
        (lambda d: d.update(format="x"), "is not one"),
        (lambda d: d["rows"][0].pop("kind"), "damaged: a row has other columns: kind"),
        (lambda d: d["rows"][0].update(more=1), "damaged: a row has other columns: more"),
        (lambda d: d["rows"][0].update(index="3"), "damaged: index: expected int, got '3'"),
        (lambda d: d["rows"][0].update(mse="many"), "damaged: could not convert"),
        (lambda d: d.pop("rows"), "damaged: 'rows'"),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "table.json"
    TABLE.save(path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message):
        pq.SensitivityTable.load(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        pq.SensitivityTable.load(path)


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    TABLE.to_csv(path)
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6
    assert [line["site"] for line in lines] == [row.site for row in ROWS]
    assert [float(line["delta"]) for line in lines] == [row.delta for row in ROWS]
    assert {line["kl"] for line in lines} == {""}


def test_frame() -> None:
    pandas = pytest.importorskip("pandas")
    frame = TABLE.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == 6
    assert frame["delta"].tolist() == [row.delta for row in ROWS]
    assert frame["kl"].isna().all()
    assert frame["accumulated"].dtype.kind == "f"
    assert len(pq.SensitivityTable([]).to_frame()) == 0


@pytest.mark.parametrize(("call", "module"), [("to_frame()", "pandas"), ("plot()", "matplotlib")])
def test_without_a_library(call: str, module: str) -> None:
    code = f"""
import sys
sys.modules["{module}"] = sys.modules["torch"] = None
import pyquant
try:
    pyquant.SensitivityTable([]).{call}
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"needs {module}: pip install {module}" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_plots(tmp_path: Path, kind: str) -> None:
    from matplotlib.figure import Figure

    for score in ("delta", "accumulated"):
        figure = TABLE.plot(kind, score=score)
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / "plot.png")
        assert (tmp_path / "plot.png").stat().st_size > 5000


def test_bars_name_candidates_only_where_there_is_a_choice() -> None:
    def texts(table: pq.SensitivityTable) -> tuple[list[str], str, list[str]]:
        axis = table.plot("bars").axes[0]
        legend = axis.get_legend()
        assert legend is not None
        labels = [label.get_text() for label in axis.get_yticklabels()]
        return labels, axis.get_title(), [text.get_text() for text in legend.get_texts()]

    labels, title, legend = texts(TABLE)
    assert all(label.endswith("]") for label in labels)
    assert title == "in brackets the best candidate"
    assert legend[-1] == "other candidates"
    row = next(row for row in ROWS if row.delta is not None and math.isfinite(row.delta))
    assert texts(pq.SensitivityTable([row])) == ([row.site], "", [row.kind])


def test_plot_errors() -> None:
    with pytest.raises(ValueError, match="plot: expected kind to be one of heatmap, bars, depth, got 'pie'"):
        TABLE.plot("pie")
    with pytest.raises(ValueError, match="plot: 'kl' was not measured"):
        TABLE.plot(score="kl")
    with pytest.raises(ValueError, match="plot: the table is empty"):
        pq.SensitivityTable([]).plot()
    with pytest.raises(ValueError, match="expected top >= 1, got 0"):
        TABLE.plot("bars", top=0)
    only = pq.SensitivityTable(ROWS[:1])
    with pytest.raises(ValueError, match="no site has a finite 'delta'"):
        only.plot("bars")


def test_text_and_html() -> None:
    text = str(TABLE)
    assert "layers.1.attention" in text
    assert text.endswith("4 sites, 6 candidates at them, 12 samples, scope site, model Tiny, 1.5 s")
    page = TABLE._repr_html_()
    assert page.count("<table>") == 2
    assert "mlp &lt;1&gt;" in page
    assert "mlp <1>" not in page
    assert "9.75" in page
    assert "<table" not in pq.SensitivityTable([])._repr_html_()
