"""Pictures of a sensitivity table. Imported when one is asked for: it needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pyquant.sensitivity_table.rows import SCORES, SensitivityRow

if TYPE_CHECKING:
    from pyquant.sensitivity_table.table import SensitivityTable

__all__ = ["KINDS"]

_COLOURS = [matplotlib.colormaps["tab10"](i) for i in range(10)]
_MARKERS = "osD^vPX<>*"
_CELL, _ROW, _TITLE, _LETTER = 0.42, 0.19, 0.3, 0.066  # inches of a heat map; a letter of size 7
_GAP, _BAR = 0.15, 1.1  # inches between columns, and for the bar of colours


def _label(name: str) -> str:
    score = SCORES[name]
    return f"{score.label} ({score.unit})" if score.unit else score.label


def _short(candidate: str) -> str:
    """Without the setting's name, which a panel's title says."""
    parts = candidate.split("+")
    return parts[0].partition("=")[2] if len(parts) == 1 and "=" in candidate else candidate


def _text(value: float, score: str) -> str:
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    value = value if abs(value) >= 0.05 else abs(value)  # no "-0.0"
    return f"{value:.1f}" if SCORES[score].unit in ("dB", "%") else f"{value:.2g}"


class _Panel:
    """One kind of site in a heat map, with its size in inches: every cell of a picture is as large."""

    def __init__(self, kind: str, sites: list[str], names: list[str]) -> None:
        self.kind, self.sites, self.names = kind, sites, [_short(name) for name in names]
        self.candidates = names
        self.left = _LETTER * max(map(len, sites)) + 0.15
        self.below = _LETTER * max(map(len, self.names)) + 0.2
        self.cells = max(_CELL * len(names), 1.0), _ROW * len(sites)
        self.height = _TITLE + self.cells[1] + self.below

    def draw(self, axis: Axes, values: Mapping[tuple[str, str], float | None], score: str, norm: Any) -> None:
        """A colour and a number for each candidate at each site."""
        cells = np.array([[_number(values.get((s, c))) for c in self.candidates] for s in self.sites])
        axis.imshow(np.ma.masked_invalid(cells), cmap=_colours(score), norm=norm, aspect="auto")
        axis.set_facecolor("0.92")
        axis.set_title(self.kind, fontsize=9)
        axis.set_xticks(range(len(self.names)), self.names, rotation=90, fontsize=7)
        axis.set_yticks(range(len(self.sites)), self.sites, fontsize=7)
        axis.tick_params(length=0)
        for (i, j), value in np.ndenumerate(cells):
            dark = math.isfinite(value) and (norm(value) > 0.55) == SCORES[score].large_is_bad
            colour = "white" if dark else "0.15"
            axis.text(j, i, _text(value, score), ha="center", va="center", fontsize=6, color=colour)


def _colours(score: str) -> str:
    """Dark is damage, whichever way the score runs."""
    return "YlOrRd" if SCORES[score].large_is_bad else "YlOrRd_r"


def _columns(panels: Sequence[_Panel], width: float) -> list[list[_Panel]]:
    """Panels in columns, as low as the tallest panel lets them be, but within `width` if that can be."""
    limit = max(panel.height for panel in panels) + 0.3
    columns = _packed(panels, limit)
    while len(columns) > 1 and sum(map(_width, columns)) > width:
        limit += _TITLE
        columns = _packed(panels, limit)
    return columns


def _width(column: Sequence[_Panel]) -> float:
    """The cells of its panels begin at one place."""
    return max(panel.left for panel in column) + max(panel.cells[0] for panel in column) + _GAP


def _packed(panels: Sequence[_Panel], limit: float) -> list[list[_Panel]]:
    """Columns no taller than `limit`."""
    columns: list[list[_Panel]] = []
    for panel in sorted(panels, key=lambda p: -p.height):
        for column in columns:
            if sum(p.height for p in column) + panel.height <= limit:
                column.append(panel)
                break
        else:
            columns.append([panel])
    return columns


def heatmap(table: SensitivityTable, score: str, *, width: float = math.inf) -> Figure:
    """Sites down, candidates across; a panel for each kind of site, dark where the damage is."""
    values = {(row.site, row.candidate): getattr(row, score) for row in table.rows}
    finite = [v for v in values.values() if v is not None and math.isfinite(v)] or [0.0]
    norm = Normalize(min(finite), max(finite))
    columns = _columns([_Panel(*group) for group in table.groups()], width - _BAR)
    widths = [_width(column) for column in columns]
    width = sum(widths) + _BAR
    height = max(max(sum(p.height for p in column) for column in columns), 2.0) + 0.1
    figure = Figure(figsize=(width, height))
    x = 0.0
    for column, column_width in zip(columns, widths, strict=True):
        y = height
        left = x + max(panel.left for panel in column)
        for panel in column:
            across, down = panel.cells
            box = (left / width, (y - _TITLE - down) / height, across / width, down / height)
            panel.draw(figure.add_axes(box), values, score, norm)
            y -= panel.height
        x += column_width
    bar_height = min(height - _TITLE - 0.3, 6.0)
    bar = figure.add_axes(
        (1 - 0.95 / width, 1 - (_TITLE + bar_height) / height, 0.18 / width, bar_height / height)
    )
    figure.colorbar(ScalarMappable(norm, _colours(score)), cax=bar, label=_label(score))
    return figure


def bars(table: SensitivityTable, score: str, *, top: int = 30) -> Figure:
    """A bar from 0 to the site's best candidate, a dot for each other, most damage of the best first.

    Candidates are named only where some site has several.
    """
    if top < 1:
        raise ValueError(f"plot: expected top >= 1, got {top}")
    read = SCORES[score]
    by_site: dict[str, list[SensitivityRow]] = {}
    for row in table.rows:
        value = getattr(row, score)
        if value is not None and math.isfinite(value):
            by_site.setdefault(row.site, []).append(row)
    if not by_site:
        raise ValueError(f"plot: no site has a finite {score!r}")
    best = {site: min(rows, key=lambda r: read.damage(getattr(r, score))) for site, rows in by_site.items()}
    order = sorted(by_site, key=lambda site: -read.damage(getattr(best[site], score)))[:top]
    kinds = list(dict.fromkeys(row.kind for row in table.rows))
    colours = {kind: _COLOURS[i % len(_COLOURS)] for i, kind in enumerate(kinds)}
    figure = Figure(figsize=(8.5, 0.24 * len(order) + 1.4), layout="constrained")
    axis = figure.subplots()
    for place, site in enumerate(order):
        chosen, colour = best[site], colours[best[site].kind]
        axis.barh(place, getattr(chosen, score), color=colour, alpha=0.75, height=0.7)
        others = [getattr(row, score) for row in by_site[site] if row is not chosen]
        axis.plot(
            others,
            [place] * len(others),
            "o",
            color=colour,
            markersize=3.5,
            markeredgecolor="0.2",
            markeredgewidth=0.4,
        )
    several = any(len(by_site[site]) > 1 for site in order)
    labels = [f"{site}  [{_short(best[site].candidate)}]" if several else site for site in order]
    axis.set_yticks(range(len(order)), labels, fontsize=7)
    axis.invert_yaxis()
    axis.margins(y=0.01)
    axis.axvline(0, color="0.3", linewidth=0.8)
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    axis.set_xlabel(_label(score))
    shown = [kind for kind in kinds if any(best[site].kind == kind for site in order)]
    handles = [Line2D([], [], color=colours[kind], linewidth=6, alpha=0.75, label=kind) for kind in shown]
    if several:
        handles.append(
            Line2D([], [], color="0.4", marker="o", linestyle="", markersize=3.5, label="other candidates")
        )
    axis.legend(handles=handles, fontsize=8, loc="best")
    title = [f"{len(order)} of {len(by_site)} sites"] if len(order) < len(by_site) else []
    title += ["in brackets the best candidate"] if several else []
    axis.set_title("; ".join(title), fontsize=9)
    return figure


def depth(table: SensitivityTable, score: str) -> Figure:
    """The score along the order of execution: a panel a kind of site, a line a candidate."""
    known = [row for row in table.rows if math.isfinite(_number(getattr(row, score)))]
    if not known:
        raise ValueError(f"plot: no site has a finite {score!r}")
    kinds = list(dict.fromkeys(row.kind for row in known))
    figure = Figure(figsize=(9.0, 2.3 * len(kinds) + 0.6), layout="constrained")
    axes = figure.subplots(len(kinds), 1, sharex=True, squeeze=False)[:, 0]
    for axis, kind in zip(axes, kinds, strict=True):
        rows = [row for row in known if row.kind == kind]
        names = list(dict.fromkeys(row.candidate for row in rows))
        for i, name in enumerate(names):
            points = [(row.index, _number(getattr(row, score))) for row in rows if row.candidate == name]
            x, y = np.array(points, dtype=np.float64).T
            axis.plot(
                x,
                y,
                color=_COLOURS[i % len(_COLOURS)],
                marker=_MARKERS[i % len(_MARKERS)],
                markersize=3.5,
                linewidth=1.1,
                label=_short(name),
            )
        unit = SCORES[score].unit
        axis.set_ylabel(f"{score} ({unit})" if unit else score, fontsize=8)
        axis.set_title(kind, fontsize=9, loc="left")
        axis.grid(color="0.9")
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes[-1].set_xlabel("site, in the order of execution")
    return figure


def _number(value: float | None) -> float:
    return math.nan if value is None else value


KINDS: Mapping[str, Callable[..., Figure]] = {"heatmap": heatmap, "bars": bars, "depth": depth}
