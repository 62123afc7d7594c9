"""docs/training.md: its examples run, its links lead somewhere."""

from __future__ import annotations

from pathlib import Path

from tests.pages import check_links, run_examples

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def test_examples() -> None:
    assert run_examples(PAGE) > 10


def test_links() -> None:
    check_links(PAGE)
