"""A page as a reader of HTML sees it, and the small model that these tests write one about."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import torch
from torch import Tensor

import pyquant as pq
from tests.verbs.models import CLASSES, mlp

__all__ = ["SECTIONS", "VOID", "Page", "labelled", "measured", "planned", "read", "with_plan"]

SECTIONS = ("summary", "coverage", "accuracy", "sensitivity", "histograms", "plan", "latency")
VOID = ("meta", "img", "br", "hr", "link", "input")
LINKS = ("src", "href", "srcset", "data", "action", "poster", "xlink:href")


class Page(HTMLParser):
    """Sections with their text, and every tag and link."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.rows: dict[str, list[list[str]]] = defaultdict(list)
        self.text: dict[str, str] = defaultdict(str)
        self.images: dict[str, int] = defaultdict(int)
        self._section = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.links += [value or "" for name, value in given.items() if name in LINKS]
        assert not any(name.startswith("on") for name in given)
        if tag == "section":
            self._section = given["id"] or ""
            self.text[self._section] += ""
        if tag == "img":
            self.images[self._section] += 1
            assert given["alt"]
        if tag == "tr":
            self.rows[self._section].append([])
        if tag in ("td", "th"):
            self.rows[self._section][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> in {self._section!r}"
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        self.text[self._section] += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[self._section][-1][-1] += data


def read(path: Path) -> Page:
    """Parse a file whose tags must all be closed in order."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


def labelled(count: int = 3, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    """Batches with targets for `mlp`."""
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(size, 4, generator=generator), torch.randint(0, CLASSES, (size,), generator=generator))
        for _ in range(count)
    ]


@cache
def measured() -> pq.SensitivityTable:
    """Of `mlp`, at W6A6."""
    return pq.sensitivity(
        mlp(), labelled(), config="W6A6", candidates=["current", "A4", "A8", "W4"], progress=False
    )


@cache
def planned() -> pq.Plan:
    return pq.assign(measured())


@cache
def with_plan() -> pq.Prepared:
    """Not to be changed."""
    return pq.quantize(mlp(), labelled(), plan=planned(), progress=False)
