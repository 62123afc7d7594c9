"""Costs: what each candidate costs at each site, in any number of metrics."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pyquant.candidates import CURRENT
from pyquant.tables import html_table, text_table

__all__ = ["CURRENT", "CostRow", "Costs"]

VERSION = 1
PER_UNIT = " per unit"  # ends the name of a shared metric's column in CSV
FIXED = ("site", "candidate", "unit")


@dataclass(frozen=True)
class CostRow:
    """One site with one candidate.

    Parameters
    ----------
    site : str
    candidate : str
        Name of the candidate; ``"current"`` for the site as the model is configured.
    values : tuple of (str, float)
        By metric; a metric's name ends in its unit where it has one (``latency_ms``, ``weight_bytes``).
    unit : str
        The piece of hardware that computes it; what sites of one unit share is paid once.
    """

    site: str
    candidate: str
    values: tuple[tuple[str, float], ...]
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.site:
            raise ValueError("costs: expected the name of a site, got an empty string")
        for metric, value in self.values:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(
                    f"costs: {self.site}, {self.candidate}: expected {metric} to be a "
                    f"finite number, got {value!r}"
                )


@dataclass(frozen=True)
class Costs:
    """A table of costs; prints, compares, is stored as JSON or CSV, and joins with others by ``|``.

    Parameters
    ----------
    rows : tuple of CostRow
    shared : tuple of str
        Metrics that are paid once for all sites of a unit (area), not by each site.
    meta : mapping
        How they were found: batch, threads, machine; no part of any computation.
    """

    rows: tuple[CostRow, ...]
    shared: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: set[tuple[str, str]] = set()
        unit_values: dict[tuple[str, str], float] = {}
        for row in self.rows:
            key = row.site, row.candidate
            if key in seen:
                raise ValueError(f"costs: {row.site}, {row.candidate} is there twice")
            seen.add(key)
            for metric, value in row.values:
                if metric not in self.shared:
                    continue
                if not row.unit:
                    raise ValueError(f"costs: {row.site}: {metric} is paid by unit, and the row names none")
                if unit_values.setdefault((row.unit, metric), value) != value:
                    raise ValueError(
                        f"costs: unit {row.unit!r} has two values of {metric}: "
                        f"{unit_values[row.unit, metric]:g} and {value:g}"
                    )

    @cached_property
    def _by_key(self) -> dict[tuple[str, str], CostRow]:
        return {(row.site, row.candidate): row for row in self.rows}

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in the order in which they first appear."""
        return tuple(dict.fromkeys(metric for row in self.rows for metric, _ in row.values))

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites, in the order in which they first appear."""
        return tuple(dict.fromkeys(row.site for row in self.rows))

    def sites_with(self, metric: str) -> tuple[str, ...]:
        """Sites for which some candidate has the metric."""
        return tuple(dict.fromkeys(row.site for row in self.rows if metric in dict(row.values)))

    def row(self, site: str, candidate: str) -> CostRow | None:
        """All costs of a site with a candidate, if there are any."""
        return self._by_key.get((site, candidate))

    def value(self, site: str, candidate: str, metric: str) -> float:
        """One cost.

        Raises
        ------
        ValueError
            There is none.
        """
        row = self.row(site, candidate)
        found = None if row is None else dict(row.values).get(metric)
        if found is None:
            raise ValueError(
                f"costs: no {metric} of candidate {candidate!r} at {site!r}; there are "
                f"{', '.join(self.metrics) or 'none'} for {len(self.sites)} sites"
            )
        return found

    def unit(self, site: str, candidate: str) -> str:
        """The unit that computes a row; empty if it is not known."""
        row = self.row(site, candidate)
        return "" if row is None else row.unit

    def __or__(self, other: Costs) -> Costs:
        """Both tables' metrics; where both have one, the other's value holds."""
        if not isinstance(other, Costs):
            return NotImplemented
        joined: dict[tuple[str, str], CostRow] = {}
        for row in (*self.rows, *other.rows):
            old = joined.get((row.site, row.candidate), CostRow(row.site, row.candidate, ()))
            values = tuple({**dict(old.values), **dict(row.values)}.items())
            joined[row.site, row.candidate] = CostRow(row.site, row.candidate, values, row.unit or old.unit)
        shared = tuple(dict.fromkeys((*self.shared, *other.shared)))
        return Costs(tuple(joined.values()), shared, {**self.meta, **other.meta})

    # ---- looking ----

    def to_rows(self) -> list[dict[str, Any]]:
        """Plain dictionaries, as data frames like them."""
        return [
            {"site": r.site, "candidate": r.candidate, "unit": r.unit, **dict(r.values)} for r in self.rows
        ]

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        cells = [
            (
                row.site,
                row.candidate,
                row.unit,
                *(f"{values[m]:.6g}" if m in values else "" for m in self.metrics),
            )
            for row in self.rows
            for values in [dict(row.values)]
        ]
        return (*FIXED, *self.metrics), cells

    def __str__(self) -> str:
        return text_table(*self._table(), left=len(FIXED))

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        return html_table(*self._table(), [", ".join(f"{k} {v}" for k, v in self.meta.items())])

    # ---- files ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON, or CSV if the name ends in .csv (which keeps no `meta`)."""
        if str(path).endswith(".csv"):
            header = [*FIXED, *(m + PER_UNIT * (m in self.shared) for m in self.metrics)]
            with open(path, "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(header)
                for row in self.rows:
                    values = dict(row.values)
                    writer.writerow(
                        [
                            row.site,
                            row.candidate,
                            row.unit,
                            *(repr(values[m]) if m in values else "" for m in self.metrics),
                        ]
                    )
            return
        data = {
            "version": VERSION,
            "meta": dict(self.meta),
            "shared": list(self.shared),
            "rows": [
                {"site": r.site, "candidate": r.candidate, "unit": r.unit, "values": dict(r.values)}
                for r in self.rows
            ],
        }
        Path(path).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Costs:
        """Read JSON or CSV, by the name's ending.

        A CSV of your own needs the columns ``site`` and ``candidate`` and one a metric; ``unit`` may be left
        out. A metric that is paid once a unit ends in ``" per unit"``.

        Raises
        ------
        ValueError
            The file holds no costs.
        """
        text = Path(path).read_text(encoding="utf-8")
        try:
            return _from_csv(text) if str(path).endswith(".csv") else _from_json(text)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"costs: {path}: {error}") from None


def _from_json(text: str) -> Costs:
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise ValueError(f"expected an object with version {VERSION}")
    if set(data) != {"version", "meta", "shared", "rows"}:
        raise ValueError(f"expected version, meta, shared and rows, got {', '.join(data)}")
    rows = []
    for each in data["rows"]:
        if set(each) != {"site", "candidate", "unit", "values"}:
            raise ValueError(f"expected site, candidate, unit and values, got {', '.join(each)}")
        rows.append(CostRow(each["site"], each["candidate"], tuple(each["values"].items()), each["unit"]))
    return Costs(tuple(rows), tuple(data["shared"]), data["meta"])


def _from_csv(text: str) -> Costs:
    header, *lines = [line for line in csv.reader(text.splitlines()) if line] or [[]]
    columns = {name: i for i, name in enumerate(header)}
    metrics = [name for name in header if name not in FIXED]
    if "site" not in columns or "candidate" not in columns or not metrics:
        raise ValueError(f"expected the columns site, candidate and one a metric, got {', '.join(header)}")
    rows = [_csv_row(line, columns, metrics) for line in lines]
    return Costs(tuple(rows), tuple(m.removesuffix(PER_UNIT) for m in metrics if m.endswith(PER_UNIT)))


def _csv_row(line: Sequence[str], columns: Mapping[str, int], metrics: Sequence[str]) -> CostRow:
    if len(line) != len(columns):
        raise ValueError(f"expected {len(columns)} cells, got {', '.join(line)}")
    values = [(m.removesuffix(PER_UNIT), line[columns[m]]) for m in metrics]
    return CostRow(
        line[columns["site"]],
        line[columns["candidate"]],
        tuple((m, float(cell)) for m, cell in values if cell),
        line[columns["unit"]] if "unit" in columns else "",
    )
