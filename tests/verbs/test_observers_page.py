"""docs/observers.md: its examples run, its links lead somewhere, and it has a row for each observer."""

from __future__ import annotations

from pathlib import Path

from pyquant.config import OBSERVERS
from tests.pages import check_links, run_examples

PAGE = Path(__file__).resolve().parents[2] / "docs" / "observers.md"


def test_examples() -> None:
    assert run_examples(PAGE) > 10


def test_links() -> None:
    check_links(PAGE)


def test_every_observer_has_a_row() -> None:
    text = PAGE.read_text()
    assert all(f"\n| `{name}` |" in text for name in OBSERVERS)
