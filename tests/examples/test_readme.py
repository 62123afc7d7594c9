"""The README's code runs, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples.paths import EXAMPLES, LINK, ROOT

PAGES = [ROOT / "README.md", ROOT / "docs" / "README.md", ROOT / "docs" / "architecture.md"]
FENCED = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks are one session, in order."""
    monkeypatch.chdir(tmp_path)  # it saves a file
    monkeypatch.syspath_prepend(str(EXAMPLES))
    text = (ROOT / "README.md").read_text()
    blocks = list(FENCED.finditer(text))
    assert len(blocks) >= 4
    session: dict[str, object] = {}
    for block in blocks:
        # Blank lines before it: a failure then names the line of the README.
        code = "\n" * text.count("\n", 0, block.start(1)) + block.group(1)
        exec(compile(code, "README.md", "exec"), session)
    assert (tmp_path / "vit.safetensors").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).resolve().exists(), f"{page.name} links to {target}"


def test_every_command_is_there() -> None:
    from pyquant.cli import app

    named = set(re.findall(r"^    pyquant (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named == {command.name or command.callback.__name__ for command in app.registered_commands}
    targets = re.findall(r"^    make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
