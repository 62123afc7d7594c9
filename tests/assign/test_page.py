"""docs/assign.md: its examples run, its links lead somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages import check_links, run_examples

PAGE = Path(__file__).resolve().parents[2] / "docs" / "assign.md"


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it writes plan.yaml
    assert run_examples(PAGE) > 10


def test_links() -> None:
    check_links(PAGE)
