"""Sections about the choices: which site hurts, what its values look like, what the plan does about it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from pyquant.assignment import Plan
from pyquant.graph.prepared import Prepared
from pyquant.reporting.histograms import EdgeHistogram
from pyquant.reporting.models import carries
from pyquant.reporting.parts import Part, Section, Table, Text
from pyquant.reporting.pictures import histogram_figure, picture, share_text
from pyquant.sensitivity_table import SCORES, SensitivityRow, SensitivityTable

__all__ = ["histograms", "plan", "sensitivity", "worst_sites"]

_PAGE = 14.0  # inches of a heat map: a page 1200 pixels wide shows them at 0.85 of their size


def sensitivity(table: SensitivityTable | None, top: int) -> Section:
    """The heat map, and the worst sites as bars."""
    title = "Sensitivity"
    if table is None:
        hint = "Not measured: pass a table, as pyquant.sensitivity gives or its save has written."
        return Section("sensitivity", title, [Text(hint, hint=True)])
    if not table.rows:
        return Section("sensitivity", title, [Text("The table is empty.", hint=True)])
    score = SCORES[table.main_score]
    parts: list[Part] = [
        Text(f"{table.summary()}."),
        picture(
            lambda: table.plot("heatmap", width=_PAGE),
            "Heat map: sites down, candidates across, one panel for each kind of site",
            f"{_named(table)} of each candidate at each site; dark is damage.",
        ),
    ]
    if any(_finite(row, table.main_score) for row in table):
        caption = f"The sites that the best of their candidates hurts most, by {score.label}."
        parts.append(picture(lambda: table.plot("bars", top=top), "Bars: the worst sites", caption))
    return Section("sensitivity", title, parts)


def _named(table: SensitivityTable) -> str:
    score = SCORES[table.main_score]
    return f"{score.label[0].upper()}{score.label[1:]}" + (f" ({score.unit})" if score.unit else "")


def _finite(row: SensitivityRow, name: str) -> bool:
    value = getattr(row, name)
    return value is not None and math.isfinite(value)


def worst_sites(prepared: Prepared, table: SensitivityTable, count: int) -> list[str]:
    """Sites in the order of their damage, each with the candidate that it has now, or else with its best."""
    sites = prepared.sites()
    damage = SCORES[table.main_score].damage
    rows: dict[str, list[SensitivityRow]] = {}
    for row in table:
        if _finite(row, table.main_score):
            rows.setdefault(row.site, []).append(row)

    def of(site: str) -> float:
        config = sites[site].config
        now = [r for r in rows[site] if all(getattr(config, k) == v for k, v in r.settings)]
        return min(damage(getattr(row, table.main_score)) for row in now or rows[site])

    return sorted(rows, key=lambda site: -of(site))[:count]


def histograms(found: Sequence[EdgeHistogram], by_table: bool, left_out: int) -> Section:
    """Values and clip points of the worst sites."""
    order = (
        "the sites with the most damage by the sensitivity table, with the settings that they have"
        if by_table
        else "the sites whose own grid fits their values worst; with a table, those with the most damage"
    )
    parts: list[Part] = []
    if found:
        caption = (
            "Counts on a logarithmic scale. Dashed: the smallest and the largest value of the grid; red: "
            "what they cut. In dB: the values over the error of this grid alone."
        )
        if not all(histogram.calibrated for histogram in found):
            caption += " * calibration kept no histogram of it; these are the values of the first batch."
        rows = [
            (
                h.site,
                h.kind,
                str(h.bits),
                f"[{h.density.low:.4g}, {h.density.high:.4g}]",
                f"[{h.low:.4g}, {h.high:.4g}]",
                f"{h.grid.scale:.4g}",
                str(h.grid.zero_point),
                share_text(h.clipped),
                f"{h.sqnr:.1f}",
            )
            for h in found
        ]
        header = (
            "site",
            "kind",
            "bits",
            "values",
            "range of the grid",
            "step",
            "zero point",
            "clipped",
            "dB",
        )
        parts = [
            Text(f"Outputs of {order}."),
            picture(lambda: histogram_figure(found), "Histograms of the worst sites", caption),
            Table(header, rows, left=2),
        ]
    if left_out:
        hint = f"Calibration kept no histogram of {left_out} of the worst sites: pass batches to see them."
        parts.append(Text(hint, hint=True))
    return Section("histograms", "Values and clip points", parts or [Text("No site has a histogram.")])


def plan(found: Plan | None, prepared: Prepared) -> Section:
    """What each site gets, and why."""
    if found is None:
        hint = "None: pass a plan, as pyquant.assign gives or its save has written."
        return Section("plan", "Plan", [Text(hint, hint=True)])
    parts: list[Part] = [Text(f"{line}.") for line in found.summary()]
    if not carries(prepared, found):
        parts.append(
            Text(
                "The model on this page does not carry the plan: its sites have other settings. Pass the "
                "float model, or what pyquant.quantize(model, batches, plan=plan) gives.",
                hint=True,
            )
        )
    counts = Counter((choice.kind, choice.candidate) for choice in found)
    parts.append(Table(("kind", "candidate", "sites"), [(*key, str(n)) for key, n in counts.items()], left=2))
    rows = [
        (choice.site, choice.kind, choice.candidate, _reason(found, choice.site, choice.candidate))
        for choice in found
    ]
    parts.append(Table(("site", "kind", "candidate", "why"), rows, left=4))
    return Section("plan", "Plan", parts)


def _reason(found: Plan, site: str, candidate: str) -> str:
    """`Plan.explain` without what other columns say."""
    return found.explain(site).removeprefix(f"{site}: {candidate}, ")
