"""The pages of docs/numerics: their examples run, their links lead somewhere, and what they name is there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "numerics"
PAGES = sorted(FOLDER.glob("*.md"))

FENCED = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples(page: Path) -> None:
    """The blocks of a page are one session, in order."""
    text = page.read_text()
    # Blank lines in place of what is not code: failures then name the line of the page.
    session, end = "", 0
    for block in FENCED.finditer(text):
        session += "\n" * text.count("\n", end, block.start(1)) + block.group(1)
        end = block.end(1)
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    test = doctest.DocTestParser().get_doctest(session, {}, page.name, str(page), 0)
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=flags).run(test, out=report.append)
    assert result.failed == 0, "".join(report)
    assert result.attempted > 0 or page.name == "README.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    for text, target in LINK.findall(page.read_text()):
        path = (page.parent / target).resolve()
        assert path.is_file(), f"{page.name} links to {target}"
        if text.startswith("`"):  # a function, described in the sentence around it
            name = text.strip("`")
            assert re.search(rf"\b{name}\(", path.read_text()), f"{target} has no {name}"


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
