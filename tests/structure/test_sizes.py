"""A reader finishes any file in one sitting: none passes 800 lines."""

from __future__ import annotations

from tests.structure.project import CSRC, PACKAGE, ROOT

LIMIT = 800
SUFFIXES = {".c", ".h", ".cpp", ".hpp", ".def", ".mk", ".py", ".pyi", ".md"}


def test_no_long_file() -> None:
    folders = [CSRC, PACKAGE, ROOT / "tests", ROOT / "examples", ROOT / "benchmarks", ROOT / "docs"]
    files = [p for f in folders for p in f.rglob("*") if p.suffix in SUFFIXES and "build" not in p.parts]
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in files}
    assert len(lengths) > 100
    assert {name: n for name, n in lengths.items() if n > LIMIT} == {}
