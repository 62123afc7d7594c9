"""Values that print: rows of text as an aligned table and as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

__all__ = ["html_table", "text_table"]


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """Columns two spaces apart; the first `left` begin at the left, numbers end at the right."""
    table = [header, *rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: Iterable[str]) -> str:
    """The same for notebooks; every text is escaped."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>" for cells in rows
    )
    title = "<br>".join(html.escape(line) for line in caption)
    return f"<table><caption>{title}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
