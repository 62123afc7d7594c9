"""Which operations of a model run as integers, as a value that prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, get_args

from pyquant.tables import html_table, text_table

__all__ = ["Coverage", "CoverageRow", "Kind"]

Kind: TypeAlias = Literal["integer", "folded", "view", "float", "simulated"]
KINDS: tuple[str, ...] = get_args(Kind)
HEADER = ("site", "op", "kind", "reason")


@dataclass(frozen=True)
class CoverageRow:
    """One operation.

    Parameters
    ----------
    site : str
        Its name, e.g. ``"vit.layers.3.attention"``.
    op : str
        What it computes, e.g. ``"linear"``.
    kind : {"integer", "folded", "view", "float", "simulated"}
        Runs as integers; vanished into another operation or a constant; moves data only; stays float; is
        float arithmetic on quantized values, since a quantizer has no integer form.
    reason : str
        Why it stays float or where it went; may be empty.
    """

    site: str
    op: str
    kind: Kind
    reason: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not isinstance(getattr(self, field.name), str):
                raise TypeError(f"expected {field.name} to be a str, got {getattr(self, field.name)!r}")
        if self.kind not in KINDS:
            raise ValueError(f"expected kind to be one of {', '.join(KINDS)}, got {self.kind!r}")


@dataclass(frozen=True)
class Coverage:
    """Every operation of a model; equal if all rows are.

    Examples
    --------
    >>> rows = [CoverageRow("fc", "linear", "integer"), CoverageRow("lu", "lu", "float", "no kernel")]
    >>> print(Coverage(rows))
    site  op      kind     reason
    fc    linear  integer
    lu    lu      float    no kernel
    50.0 % integer: 1 integer, 0 folded, 0 view, 1 float
    """

    rows: tuple[CoverageRow, ...]

    def __init__(self, rows: Iterable[CoverageRow]) -> None:
        object.__setattr__(self, "rows", tuple(rows))

    @property
    def percent_integer(self) -> float:
        """Share of the operations that compute (integer, float or simulated) which are integer; 100 if none
        does."""
        count = self.counts
        computing = count["integer"] + count["float"] + count.get("simulated", 0)
        return 100.0 * count["integer"] / computing if computing else 100.0

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each kind; of ``simulated`` only where there are some."""
        found = Counter(row.kind for row in self.rows)
        return {kind: found[kind] for kind in KINDS if kind != "simulated" or found[kind]}  # type: ignore[index]

    @property
    def float_rows(self) -> tuple[CoverageRow, ...]:
        """What stays float."""
        return tuple(row for row in self.rows if row.kind == "float")

    @property
    def simulated_rows(self) -> tuple[CoverageRow, ...]:
        """What is simulated, and no integers."""
        return tuple(row for row in self.rows if row.kind == "simulated")

    def to_rows(self) -> list[dict[str, str]]:
        """Plain dictionaries, as JSON and data frames like them."""
        return [{"site": r.site, "op": r.op, "kind": r.kind, "reason": r.reason} for r in self.rows]

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, str]]) -> Coverage:
        """The inverse of `to_rows`."""
        return cls(CoverageRow(**row) for row in rows)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[CoverageRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def summary(self) -> str:
        """One line."""
        counts = ", ".join(f"{n} {kind}" for kind, n in self.counts.items())
        return f"{self.percent_integer:.1f} % integer: {counts}"

    def _cells(self) -> list[tuple[str, ...]]:
        return [(r.site, r.op, r.kind, r.reason) for r in self.rows]

    def __str__(self) -> str:
        return "\n".join([text_table(HEADER, self._cells(), left=len(HEADER)), self.summary()])

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        return html_table(HEADER, self._cells(), [self.summary()])
