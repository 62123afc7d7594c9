"""SensitivityTable: rows of scores, a file, a frame, a ranking, pictures."""

from __future__ import annotations

import csv
import dataclasses
import html
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyquant.sensitivity_table.rows import SCORES, SensitivityRow
from pyquant.tables import text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["FORMAT", "VERSION", "SensitivityTable"]

FORMAT, VERSION = "pyquant-sensitivity", 1

_FIELDS = {f.name: f for f in dataclasses.fields(SensitivityRow)}
_COLUMNS = list(SensitivityRow(site="", kind="", index=0, candidate="", settings=()).to_dict())
_COLUMNS.remove("settings")  # the candidate's text says it


@dataclass(frozen=True)
class SensitivityTable:
    """Scores of candidates at sites, in the order of execution.

    Parameters
    ----------
    rows : iterable of SensitivityRow
    meta : mapping
        How they were measured: model, config, scope, scores, batches, samples, seconds, float_pass_seconds
        (time of the float stream alone), version of pyquant. Plain data.
    """

    rows: tuple[SensitivityRow, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __init__(self, rows: Iterable[SensitivityRow], meta: Mapping[str, Any] | None = None) -> None:
        object.__setattr__(self, "rows", tuple(rows))
        object.__setattr__(self, "meta", dict(meta or {}))

    def __iter__(self) -> Iterator[SensitivityRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    # -- looking ---------------------------------------------------------------------------------------------

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites, in the order of execution."""
        return tuple(dict.fromkeys(row.site for row in self.rows))

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the candidates, as they first appear."""
        return tuple(dict.fromkeys(row.candidate for row in self.rows))

    @property
    def measured(self) -> tuple[str, ...]:
        """The scores that some row has."""
        return tuple(name for name in SCORES if any(getattr(row, name) is not None for row in self.rows))

    def row(self, site: str, candidate: str) -> SensitivityRow:
        """The row of a candidate at a site.

        Raises
        ------
        KeyError
            There is none; the message says what the site has.
        """
        for each in self.rows:
            if (each.site, each.candidate) == (site, candidate):
                return each
        tried = [each.candidate for each in self.rows if each.site == site]
        raise KeyError(
            f"site {site!r} has {', '.join(tried)}, not {candidate!r}" if tried else f"no site {site!r}"
        )

    def rank(self, by: str = "delta") -> tuple[SensitivityRow, ...]:
        """Rows that have a score, most damage first.

        Infinite decibels (no error, or none in the input) come last: they do not compare with the others.
        Rows of equal score keep their order.

        Parameters
        ----------
        by : str
            A name of `SCORES`.

        Raises
        ------
        ValueError
            No such score, or no row has it.
        """
        score = SCORES[self.check_score("rank", by)]

        def key(row: SensitivityRow) -> tuple[bool, float]:
            damage = score.damage(getattr(row, by))
            return math.isinf(damage), -damage

        return tuple(sorted((row for row in self.rows if getattr(row, by) is not None), key=key))

    def check_score(self, what: str, name: str) -> str:
        """`name`, if the table has that score; else a ValueError that says what there is."""
        if name not in SCORES:
            raise ValueError(f"{what}: expected one of {', '.join(SCORES)}, got {name!r}")
        if name not in self.measured:
            raise ValueError(f"{what}: {name!r} was not measured; the table has {', '.join(self.measured)}")
        return name

    # -- as other things -------------------------------------------------------------------------------------

    def to_frame(self) -> DataFrame:
        """A pandas DataFrame, one line a row; None becomes NaN.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(f"to_frame needs pandas: pip install pandas ({error})") from error
        frame = pandas.DataFrame([row.to_dict() for row in self.rows], columns=_COLUMNS)
        numbers = [name for name in _COLUMNS if name not in ("site", "kind", "candidate", "index")]
        return frame.astype({name: float for name in numbers if name not in ("samples", "exact")})

    def to_csv(self, path: str | Path) -> None:
        """One line a row; what was not measured is empty, numbers have all their digits."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(row.to_dict() for row in self.rows)

    def save(self, path: str | Path) -> None:
        """Write JSON that `load` reads; infinite numbers are the texts "inf" and "-inf"."""
        rows = [{name: getattr(row, name) for name in _FIELDS} for row in self.rows]
        for row in rows:
            row["settings"] = dict(row["settings"])
        data = {"format": FORMAT, "version": VERSION, "meta": dict(self.meta), "rows": _plain(rows)}
        Path(path).write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> SensitivityTable:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            The file is no sensitivity table of this version.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"sensitivity table: {path} is not JSON: {error}") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"sensitivity table: {path} is not one")
        if data.get("version") != VERSION:
            raise ValueError(
                f"sensitivity table: expected version {VERSION}, got {data.get('version')!r} in {path}"
            )
        try:
            return cls([_row(item) for item in data["rows"]], data["meta"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"sensitivity table: {path} is damaged: {error}") from None

    def plot(self, kind: str = "heatmap", *, score: str | None = None, **options: Any) -> Figure:
        """A picture.

        Parameters
        ----------
        kind : {"heatmap", "bars", "depth"}
            ``heatmap``: sites down, candidates across, a panel for each kind of site.
            ``bars``: sites with the most damage first; a bar to the site's best candidate, a dot for each
            other. ``depth``: the score of every candidate along the order of execution.
        score : str, optional
            A name of `SCORES`; by default ``delta``, or ``output_sqnr`` for scope="output".
        **options
            ``heatmap``: `width`, at most so many inches wide if the panels of two kinds can stand below
            each other. ``bars``: `top`, the number of sites (30).

        Returns
        -------
        matplotlib.figure.Figure
            Not registered with pyplot: save it by ``figure.savefig(path)``, or let a notebook show it, which
            takes ``%matplotlib inline``.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            No such kind, no such score, or an empty table.
        """
        try:
            from pyquant.sensitivity_table import plots
        except ImportError as error:
            raise ImportError(f"plot needs matplotlib: pip install matplotlib ({error})") from error
        if kind not in plots.KINDS:
            raise ValueError(f"plot: expected kind to be one of {', '.join(plots.KINDS)}, got {kind!r}")
        if not self.rows:
            raise ValueError("plot: the table is empty")
        return plots.KINDS[kind](self, self.check_score("plot", score or self.main_score), **options)

    @property
    def main_score(self) -> str:
        """What the table is about: ``delta``, or the first score that it has."""
        return next(
            (name for name in ("delta", "output_sqnr", *self.measured) if name in self.measured), "delta"
        )

    def groups(self) -> list[tuple[str, list[str], list[str]]]:
        """(kind, sites, candidates) of each kind of site: a panel of a picture, or a table."""
        sites: dict[str, dict[str, None]] = {}
        names: dict[str, dict[str, None]] = {}
        for row in self.rows:
            sites.setdefault(row.kind, {})[row.site] = None
            names.setdefault(row.kind, {})[row.candidate] = None
        return [(kind, list(sites[kind]), list(names[kind])) for kind in sites]

    def summary(self) -> str:
        """One line."""
        parts = [f"{len(self.sites)} sites, {len(self)} candidates at them"]
        parts += [f"{self.meta[name]} {name}" for name in ("samples",) if name in self.meta]
        parts += [f"{name} {self.meta[name]}" for name in ("scope", "model") if name in self.meta]
        if "seconds" in self.meta:
            parts.append(f"{self.meta['seconds']:.1f} s")
        return ", ".join(parts)

    def __str__(self) -> str:
        header = ["site", "kind", "candidate", *self.measured]
        lines = [
            [row.site, row.kind, row.candidate, *(shown(getattr(row, name)) for name in self.measured)]
            for row in self.rows
        ]
        return f"{text_table(header, lines, 3)}\n{self.summary()}"

    def _repr_html_(self) -> str:
        """For notebooks: a table for each kind of site, the main score, coloured by damage."""
        name = self.main_score
        score = SCORES[name]
        finite = [
            score.damage(getattr(row, name))
            for row in self.rows
            if getattr(row, name) is not None and math.isfinite(getattr(row, name))
        ]
        low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
        values = {(row.site, row.candidate): getattr(row, name) for row in self.rows}

        def cell(value: float | None) -> str:
            if value is None or not math.isfinite(value):
                return f"<td>{shown(value)}</td>"
            share = (score.damage(value) - low) / (high - low) if high > low else 0.0
            return f'<td style="background:rgba(214,69,65,{0.85 * share:.2f})">{shown(value)}</td>'

        tables = [f"<p>{html.escape(self.summary())}; {html.escape(score.label)} {score.unit}</p>"]
        for kind, sites, candidates in self.groups():
            head = "".join(f"<th>{html.escape(text)}</th>" for text in (kind, *candidates))
            body = ""
            for site in sites:
                cells = "".join(cell(values.get((site, name))) for name in candidates)
                body += f"<tr><td>{html.escape(site)}</td>{cells}</tr>"
            tables.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        return "".join(tables)


def shown(value: float | None) -> str:
    """A number for people."""
    if value is None:
        return ""
    return f"{value:.2f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2e}"


def _plain(value: Any) -> Any:
    """Infinity as text, which JSON has no number for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _row(item: dict[str, Any]) -> SensitivityRow:
    missing = sorted(set(_FIELDS) ^ set(item))
    if missing:
        raise ValueError(f"a row has other columns: {', '.join(missing)}")
    given = dict(item)
    settings = tuple(sorted(given.pop("settings").items()))
    for name, value in given.items():
        kind = str(_FIELDS[name].type)
        if kind.startswith("float") and value is not None:
            given[name] = float(value)
        elif not kind.startswith("float") and type(value).__name__ != kind:
            raise ValueError(f"{name}: expected {kind}, got {value!r}")
    return SensitivityRow(settings=settings, **given)
