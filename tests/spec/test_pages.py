"""Pages of docs: their examples run, their links lead somewhere, and what they name is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages import LINK, check_links, run_examples

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "numerics"
PAGES = sorted(FOLDER.glob("*.md"))
ALL_PAGES = [*PAGES, FOLDER.parent / "report.md"]


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_examples(page: Path) -> None:
    """The blocks of a page are one session, in order."""
    assert run_examples(page) > 0 or page.name == "README.md"


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    check_links(page)


def test_every_header_with_numerics_has_a_page() -> None:
    linked = {Path(target).name for page in PAGES for _, target in LINK.findall(page.read_text())}
    numerics = {
        "rnu",
        "quantize",
        "gemm",
        "attention",
        "layernorm",
        "elementwise",
        "unary",
        "derive_unary",
        "layout",
        "observe",
        "metrics",
        "derive",
    }
    assert {f"{name}.h" for name in numerics} <= linked
    assert {page.name for page in PAGES} - {"README.md"} <= linked
