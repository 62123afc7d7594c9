"""What a page is made of: sections of text, tables, pictures and listings. The template draws each kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

__all__ = ["Cells", "Listing", "Part", "Picture", "Section", "Table", "Text"]

Cells: TypeAlias = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Text:
    """A paragraph. A `hint` says what to pass to get what is missing."""

    kind: ClassVar[str] = "text"
    text: str
    hint: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Parameters
    ----------
    header : sequence of str
        Empty for a table without one.
    rows : sequence of sequences of str
    left : int
        So many columns begin at the left; the others hold numbers, which end at the right.
    shares : sequence of float
        For each row, between 0 and 1: the length of the bar in its last cell. Empty for no bars.
    """

    kind: ClassVar[str] = "table"
    header: Sequence[str]
    rows: Cells
    left: int = 1
    shares: Sequence[float] = ()


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, `width` CSS pixels wide where there is room."""

    kind: ClassVar[str] = "picture"
    uri: str
    width: int
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Listing:
    """Text in lines of its own."""

    kind: ClassVar[str] = "listing"
    text: str
    caption: str = ""


Part: TypeAlias = Text | Table | Picture | Listing


@dataclass(frozen=True)
class Section:
    """A heading, and what stands below it."""

    name: str
    title: str
    parts: Sequence[Part]
