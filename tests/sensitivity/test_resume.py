"""An interrupted run goes on as if nothing had happened, or says why it cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pyquant as pq
from pyquant.scoring import checkpoint
from tests.sensitivity.small import batches, prepared

SITES = "[!s]*"  # all but the side branch, which these batches do not reach
CANDIDATES = ["W4", "A6", "current"]


def run(data: Any, resume: Path | None = None, **options: Any) -> pq.SensitivityTable:
    given = {"candidates": CANDIDATES, "select": SITES, **options}
    model = given.pop("model", None) or prepared()
    return pq.sensitivity(model, data, progress=False, resume=resume, **given)


def interrupted(data: list[Any], after: int) -> Iterator[Any]:
    yield from data[:after]
    raise KeyboardInterrupt


def stop(path: Path, after: int = 2, data: list[Any] | None = None, **options: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(interrupted(batches() if data is None else data, after), path, **options)


@pytest.mark.parametrize("scope", ["site", "output"])
def test_resumed_is_uninterrupted(tmp_path: Path, scope: str) -> None:
    data = [(x, torch.arange(3)) for x in batches()]
    whole = run(data, scope=scope)
    path = tmp_path / "run.json"
    stop(path, 2, data, scope=scope)
    stop(path, 3, data, scope=scope)
    resumed = run(data, path, scope=scope)
    assert resumed.rows == whole.rows
    assert resumed.meta["samples"] == whole.meta["samples"] == 12
    assert resumed.meta.get("float_accuracy") == whole.meta.get("float_accuracy")
    assert run(data, path, scope=scope) == resumed  # nothing left to do: not even another second


def test_a_run_goes_on_over_more_batches(tmp_path: Path) -> None:
    data, path = batches(), tmp_path / "run.json"
    run(data[:2], path)
    assert run(data, path).rows == run(data).rows


def test_an_error_in_a_batch_leaves_the_batches_before(tmp_path: Path) -> None:
    data, path = batches(), tmp_path / "run.json"
    bad: list[Tensor] = [*data[:2], torch.full((3, 4), float("nan")), *data[3:]]
    with pytest.raises(ValueError, match="batch 2"):
        run(bad, path)
    assert run(data, path).rows == run(data).rows


def test_nothing_is_seen_of_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, path = batches(), tmp_path / "run.json"
    stop(path, 1)
    before = path.read_text()

    def full(*args: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        run(data, path)
    assert path.read_text() == before
    monkeypatch.undo()
    assert run(data, path).rows == run(data).rows
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"candidates": ["W4"]}, "another candidates|candidates"),
        ({"scores": ["isolated"]}, "scores"),
        ({"scope": "output"}, "scope 'site', not 'output'"),
        ({"select": "first"}, "candidates"),
        ({"model": "weights"}, "model"),
        ({"model": "config"}, "config"),
    ],
)
def test_another_run_is_refused(tmp_path: Path, options: dict[str, Any], what: str) -> None:
    path = tmp_path / "run.json"
    stop(path)
    if options.get("model"):
        options = {"model": prepared(1) if options["model"] == "weights" else prepared(0, "W6A6")}
    with pytest.raises(ValueError, match=rf"resume: .*run\.json was made with .*({what})"):
        run(batches(), path, **options)


def test_other_batches_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    stop(path)
    with pytest.raises(ValueError, match="the first 2 batches are not those"):
        run(batches()[::-1], path)
    with pytest.raises(ValueError, match="saw 2 batches, and there are only 1"):
        run(batches()[:1], path)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "pyquant-sensitivity-run", "version": 99}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"resume: .*run\.json is no"):
        run(batches(), path)
    assert path.read_text() == text


def test_the_file_has_one_size(tmp_path: Path) -> None:
    """Memory and file do not grow with the number of batches."""
    counts = []
    for number in (2, 4):
        path = tmp_path / f"{number}.json"
        run(batches()[:number], path)
        state = json.loads(path.read_text())["run"]["state"]
        counts.append(json.dumps(state).count(","))
    assert counts[0] == counts[1]
