"""Pictures of a sensitivity table. Imported when one is asked for: it needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
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


def _label(name: str) -> str:
    score = SCORES[name]
    return f"{score.label} ({score.unit})" if score.unit else score.label


def _short(candidate: str) -> str:
    """Without the setting's name, which a panel's title says."""
    parts = candidate.split("+")
    return parts[0].partition("=")[2] if len(parts) == 1 and "=" in candidate else candidate


def heatmap(table: SensitivityTable, score: str) -> Figure:
    """Sites down, candidates across; a panel for each group of sites with the same candidates."""
    groups = table.groups()
    values = {(row.site, row.candidate): getattr(row, score) for row in table.rows}
    finite = [v for v in values.values() if v is not None and math.isfinite(v)] or [0.0]
    widths = [max(len(candidates), 2) for _, _, candidates in groups]
    tallest = max(len(sites) for _, sites, _ in groups)
    label_width = max(len(site) for site in table.sites) * 0.075
    figure = Figure(
        figsize=(sum(0.62 * w + label_width + 0.3 for w in widths) + 1.2, 0.26 * tallest + 1.9),
        layout="constrained",
    )
    axes = figure.subplots(1, len(groups), squeeze=False, width_ratios=widths)[0]
    # dark is damage, whichever way the score runs
    colours = "YlOrRd" if SCORES[score].large_is_bad else "YlOrRd_r"
    for axis, (kind, sites, candidates) in zip(axes, groups, strict=True):
        cells = np.array([[_number(values[s, c]) for c in candidates] for s in sites])
        axis.imshow(
            np.ma.masked_invalid(cells), cmap=colours, vmin=min(finite), vmax=max(finite), aspect="auto"
        )
        axis.set_facecolor("0.92")
        axis.set_title(kind, fontsize=9)
        axis.set_xticks(range(len(candidates)), [_short(c) for c in candidates], rotation=90, fontsize=8)
        axis.set_yticks(range(len(sites)), sites, fontsize=7)
        axis.tick_params(length=0)
        middle = (min(finite) + max(finite)) / 2
        for (i, j), value in np.ndenumerate(cells):
            dark = (value > middle) == SCORES[score].large_is_bad and math.isfinite(value)
            text = "∞" if math.isinf(value) else "" if math.isnan(value) else f"{value:.3g}"
            axis.text(j, i, text, ha="center", va="center", fontsize=6, color="white" if dark else "0.15")
    figure.colorbar(
        ScalarMappable(Normalize(min(finite), max(finite)), colours),
        ax=list(axes),
        label=_label(score),
        shrink=min(1.0, 12 / max(tallest, 1)),
        pad=0.01,
    )
    return figure


def bars(table: SensitivityTable, score: str, *, top: int = 30) -> Figure:
    """A bar from 0 to the site's best candidate, a dot for each other, most damage of the best first."""
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
    axis.set_yticks(
        range(len(order)), [f"{site}  [{_short(best[site].candidate)}]" for site in order], fontsize=7
    )
    axis.invert_yaxis()
    axis.margins(y=0.01)
    axis.axvline(0, color="0.3", linewidth=0.8)
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    axis.set_xlabel(_label(score))
    shown = [kind for kind in kinds if any(best[site].kind == kind for site in order)]
    handles = [Line2D([], [], color=colours[kind], linewidth=6, alpha=0.75, label=kind) for kind in shown]
    handles.append(
        Line2D([], [], color="0.4", marker="o", linestyle="", markersize=3.5, label="other candidates")
    )
    axis.legend(handles=handles, fontsize=8, loc="best")
    if len(order) < len(by_site):
        axis.set_title(f"{len(order)} of {len(by_site)} sites; in brackets the best candidate", fontsize=9)
    else:
        axis.set_title("in brackets the best candidate", fontsize=9)
    return figure


def depth(table: SensitivityTable, score: str) -> Figure:
    """The score along the order of execution: a panel a kind of site, a line a candidate."""
    kinds = list(dict.fromkeys(row.kind for row in table.rows))
    figure = Figure(figsize=(9.0, 2.3 * len(kinds) + 0.6), layout="constrained")
    axes = figure.subplots(len(kinds), 1, sharex=True, squeeze=False)[:, 0]
    for axis, kind in zip(axes, kinds, strict=True):
        rows = [row for row in table.rows if row.kind == kind]
        names = list(dict.fromkeys(row.candidate for row in rows))
        for i, name in enumerate(names):
            points = [(row.index, _number(getattr(row, score))) for row in rows if row.candidate == name]
            x, y = np.array(points, dtype=np.float64).T
            axis.plot(
                x,
                np.where(np.isfinite(y), y, np.nan),
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
