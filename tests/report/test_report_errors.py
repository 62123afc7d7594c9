"""Bad arguments are one clear error before any work; a file that was there stays."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pyquant as pq
from pyquant.sensitivity_table import SensitivityRow
from tests.report.pages import labelled, measured, planned
from tests.verbs.models import mlp

OTHER = pq.SensitivityTable(
    [SensitivityRow(site="other", kind="linear", index=0, candidate="A4", settings=())]
)


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ({"model": "resnet"}, TypeError, "expected a torch.nn.Module or a Prepared, got str"),
        ({"table": 3}, TypeError, "table: expected a SensitivityTable or the path of one, got int"),
        ({"plan": 3}, TypeError, "plan: expected a Plan or the path of one, got int"),
        ({"table": OTHER}, ValueError, "the model has no site 'other', which the table has"),
        ({"latency": "yes"}, TypeError, "expected latency to be a bool or a Profile, got 'yes'"),
        ({"worst": 0}, ValueError, "expected worst >= 1, got 0"),
        ({"batches": iter(labelled())}, ValueError, "batches: an iterator can be read once"),
        ({"calibration": iter(labelled())}, ValueError, "calibration: an iterator can be read once"),
        ({"batches": None}, ValueError, "a float model is quantized first: give batches or calibration"),
        ({"batches": []}, ValueError, "expected at least one batch, got none"),
        ({"config": "W7"}, ValueError, "expected one of W8A8"),
        ({"evaluations": [81.0]}, TypeError, "expected evaluations by name, got list"),
        ({"evaluations": {"float": "good"}}, TypeError, "an Evaluation or a number for 'float', got 'good'"),
        ({"path": "no/folder.html"}, FileNotFoundError, "there is no folder no"),
        ({"path": "."}, IsADirectoryError, "is a folder"),
    ],
)
def test_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], error: type[Exception], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"model": mlp(), "path": "r.html", "batches": labelled(), "latency": False, "progress": False}
    (tmp_path / "r.html").write_text("before")
    with pytest.raises(error, match=says.replace("(", r"\(").replace("[", r"\[")):
        pq.report(**{**given, **values})
    assert (tmp_path / "r.html").read_text() == "before"
    assert os.listdir(tmp_path) == ["r.html"]


def test_prepared_ones(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    with pytest.raises(pq.CalibrationError, match=r"site 'first' .*no scale yet|no scale yet"):
        pq.report(pq.prepare(mlp(), labelled()[0]), path=path)
    qmodel = pq.quantize(mlp(), labelled(), progress=False)
    with pytest.raises(ValueError, match="config and calibration are for a float model"):
        pq.report(qmodel, path=path, config="W4A8")
    other = pq.quantize(nn.Sequential(nn.Linear(4, 6)), labelled(), progress=False)
    with pytest.raises(ValueError, match="plan: the model has no integer site"):
        pq.report(other, plan=planned(), path=path)
    assert not path.exists()


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    config = pq.QuantConfig(base=pq.SiteConfig(observer="minmax"))
    qmodel = pq.quantize(mlp(), labelled(), config, progress=False)
    table = pq.sensitivity(qmodel, labelled(), candidates=["current"], progress=False)
    bad = [torch.full((2, 4), torch.nan)]
    with pytest.raises(ValueError, match=r"report: site '.*NaN"):
        pq.report(qmodel, table, path=tmp_path / "r.html", batches=bad, latency=False)


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qmodel = pq.quantize(mlp(), labelled(), progress=False)
    path = tmp_path / "r.html"
    path.write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            pq.report(qmodel, path=path, latency=False)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["r.html"]
    assert pq.report(qmodel, path=path, latency=False).read_text() != "before"
    assert os.listdir(tmp_path) == ["r.html"]


@pytest.mark.parametrize(("missing", "module"), [("jinja2", "page"), ("matplotlib", "pictures")])
def test_without_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, module: str
) -> None:
    qmodel = pq.quantize(mlp(), labelled(), progress=False)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, f"pyquant.reporting.{module}", raising=False)
    with pytest.raises(ImportError, match="report needs Jinja2 and matplotlib: pip install"):
        pq.report(qmodel, measured(), path=tmp_path / "r.html")
