"""`pyquant sensitivity` and `pyquant report`: on files, and on what functions return."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

import pyquant as pq
from pyquant.cli.study import _split
from tests.cli import study_models
from tests.cli.test_cli import call
from tests.report.pages import SECTIONS, labelled, measured, planned, read

HERE = "tests.cli.study_models"
NAMED = ("--model", f"{HERE}:model", "--data", f"{HERE}:batches")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    measured().save(tmp_path / "table.json")
    return tmp_path / "table.json"


# ---- sensitivity of a file ----


def test_a_table_is_ranked(stored: Path) -> None:
    result = call("sensitivity", stored, "--top", 3)
    assert result.exit_code == 0, result.output
    header, *rows, count, summary = result.stdout.splitlines()
    assert header.split()[:4] == ["site", "kind", "candidate", "delta"]
    order = measured().rank()
    assert [row.split()[:3] for row in rows] == [[r.site, r.kind, r.candidate] for r in order[:3]]
    assert count == f"3 of {len(order)} rows, by delta"
    assert summary == measured().summary()
    by = call("sensitivity", stored, "--by", "mse", "--top", 100).stdout.splitlines()
    assert [row.split()[0] for row in by[1:-1]] == [row.site for row in measured().rank("mse")]


@pytest.mark.parametrize("kind", ["heatmap", "bars", "depth"])
def test_a_table_is_drawn_and_becomes_csv(stored: Path, tmp_path: Path, kind: str) -> None:
    picture, text = tmp_path / "out.png", tmp_path / "out.csv"
    result = call("sensitivity", stored, "--plot", picture, "--kind", kind, "--csv", text)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == [f"wrote {text}", f"wrote {picture}"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    with text.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(measured())


def test_files_do_without_torch(stored: Path, tmp_path: Path) -> None:
    """None in sys.modules makes `import torch` fail as if it were not installed."""
    code = "import sys; sys.modules['torch'] = None; from pyquant.cli import main; main()"
    command = [sys.executable, "-W", "error", "-c", code]
    words = ["sensitivity", str(stored), "--csv", str(tmp_path / "a.csv"), "--plot", str(tmp_path / "a.svg")]
    done = subprocess.run([*command, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert measured().summary() in done.stdout
    done = subprocess.run([*command, "report", *NAMED], capture_output=True, text=True)
    assert done.returncode == 2
    assert "pyquant.report needs PyTorch" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# ---- sensitivity of a model ----


def test_a_model_is_measured(tmp_path: Path) -> None:
    """The table is the one that the function of Python gives, times aside."""
    out = tmp_path / "table.json"
    result = call(
        "sensitivity", *NAMED, "--config", "W6A6", "--candidates", "current,A4,A8,W4",
        "--calibration", f"{HERE}:calibration", "-o", out, "--resume", tmp_path / "run.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert pq.SensitivityTable.load(out).rows == measured().rows
    assert (tmp_path / "run.json").exists()
    assert result.stderr == f"wrote {out}\n"  # no bars where nobody looks
    again = call("sensitivity", out, "--top", 100)
    assert again.stdout.splitlines()[:-1] == result.stdout.splitlines()[: len(again.stdout.splitlines()) - 1]


def test_selected_sites_and_scope(tmp_path: Path) -> None:
    words = ("--select", "first", "--scope", "output", "--candidates", "W4", "-o", tmp_path / "t.json")
    result = call("sensitivity", "--model", f"{HERE}:Holder.model", "--data", f"{HERE}:batches", *words)
    assert result.exit_code == 0, result.output
    table = pq.SensitivityTable.load(tmp_path / "t.json")
    assert [(row.site, row.candidate) for row in table] == [("first", "W4")]
    assert table.rows[0].output_sqnr is not None


def test_candidates_with_commas_inside() -> None:
    assert _split("softmax=ibert(bits=8,n=30), W4,A6") == ["softmax=ibert(bits=8,n=30)", "W4", "A6"]
    assert _split("W4") == ["W4"]


def test_a_generator_is_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = study_models.batches

    def counted() -> object:
        calls.append(1)
        return original()

    monkeypatch.setattr(study_models, "batches", counted)
    result = call("sensitivity", *NAMED, "--candidates", "W4")
    assert result.exit_code == 0, result.output
    assert len(calls) > 1  # to calibrate, and to measure


def test_the_current_folder_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_models.py").write_text(
        "import torch\n\ndef vit(): return torch.nn.Linear(4, 2)\n\ndef data(): return [torch.ones(2, 4)]\n"
    )
    command = [sys.executable, "-m", "pyquant.cli", "sensitivity", "--candidates", "W4"]
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    done = subprocess.run(
        [*command, "--model", "my_own_models:vit", "--data", "my_own_models:data"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "W4" in done.stdout


# ---- report ----


def test_report(stored: Path, tmp_path: Path) -> None:
    planned().save(tmp_path / "plan.yaml")
    out = tmp_path / "r.html"
    result = call(
        "report", *NAMED, "--table", stored, "--plan", tmp_path / "plan.yaml", "-o", out, "--no-latency",
        "--title", "Mine", "--note", "today", "--worst", 2,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert result.stderr == f"wrote {out}\n"
    page = read(out)
    assert [name for name in page.text if name] == list(SECTIONS)
    assert "Mine" in page.text[""]
    assert len(page.rows["histograms"]) == 3
    same = pq.report(
        study_models.model(), measured(), planned(), path=tmp_path / "same.html", batches=labelled(),
        latency=False, worst=2, title="Mine", note="today", progress=False,
    )  # fmt: skip
    assert out.read_bytes() == same.read_bytes()


# ---- how they fail ----


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sensitivity"], "expected the file of a table, or --model and --data"),
        (["sensitivity", "--model", f"{HERE}:model"], "expected the file of a table, or --model and --data"),
        (["sensitivity", "TABLE", *NAMED], "expected a table or --model, got both"),
        (["sensitivity", "TABLE", "--scope", "output"], "expected a table or --scope, got both"),
        (["sensitivity", "absent.json"], "absent.json: No such file"),
        (["sensitivity", "TABLE", "--by", "worst"], "expected one of delta"),
        (["sensitivity", "TABLE", "--by", "kl"], "'kl' was not measured"),
        (["sensitivity", "TABLE", "--plot", "a.png", "--kind", "pie"], "expected kind to be one of"),
        (["sensitivity", "TABLE", "--plot", "a.docx"], "docx"),
        (["sensitivity", "TABLE", "--csv", "no/a.csv"], "no/a.csv: No such file"),
        (["sensitivity", *NAMED, "--candidates", "W4,ibert"], "a method is written"),
        (["sensitivity", *NAMED, "--config", "W7"], "expected one of W8A8"),
        (["report"], "report: expected --model and --data"),
        (["report", *NAMED, "-o", "no/r.html"], "there is no folder no"),
        (["report", *NAMED, "--table", "absent.json"], "absent.json: No such file"),
        (["report", "--model", "model", "--data", "x:y"], "--model: expected module:function, got 'model'"),
        (["report", "--model", "no.such:f", "--data", "x:y"], "import no.such failed: ModuleNotFoundError"),
        (["report", "--model", f"{HERE}:resnet", "--data", "x:y"], f"{HERE} has no resnet"),
        (["report", "--model", f"{HERE}:number", "--data", "x:y"], "expected a function, got int"),
        (["report", "--model", f"{HERE}:broken", "--data", "x:y"], "KeyError: 'no checkpoint'"),
        (["report", "--model", f"{HERE}:calibration", "--data", "x:y"], "torch.nn.Module, got list"),
        (["report", "--model", f"{HERE}:model", "--data", f"{HERE}:model"], "return batches, got Mlp"),
    ],
)
def test_one_line_on_standard_error(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*[stored if word == "TABLE" else word for word in words])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("pyquant: ")
    assert says in result.stderr
