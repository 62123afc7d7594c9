"""Pages of documentation: their examples are one session, their links lead somewhere."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

__all__ = ["LINK", "check_links", "run_examples"]

FENCED = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]+)\)")


def run_examples(page: Path) -> int:
    """How many examples ran; an AssertionError shows those that failed."""
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
    return result.attempted


def check_links(page: Path) -> None:
    """Every link leads to a file; one to a function, in backticks, to a file that has it."""
    for text, target in LINK.findall(page.read_text()):
        path = (page.parent / target).resolve()
        assert path.is_file(), f"{page.name} links to {target}"
        if text.startswith("`"):  # a function, described in the sentence around it
            name = text.strip("`")
            assert re.search(rf"\b{name}\(", path.read_text()), f"{target} has no {name}"
