"""The roofline picture of an instruction set: how fast each row ran, against what its memory traffic allows.

Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 2009. Across:
multiply-adds for each byte that must move at least once. Up: multiply-adds a second. The roofs are probes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

__all__ = ["draw", "draw_all"]

Document = Mapping[str, Any]

# Colour-blind safe (Okabe and Ito), one colour and one shape a workload.
MARKS = {
    "gemm": ("#0072B2", "o", "GEMM int8"),
    "gemm4": ("#D55E00", "D", "GEMM 4-bit weights"),
    "gemv": ("#009E73", "v", "GEMV, cold weights"),
    "attention": ("#CC79A7", "s", "attention"),
    "vit": ("#000000", "*", "ViT, whole"),
}
FLOAT = "torch float32"
# Workloads whose rows lie apart, and what tells one row from the next.
NAMED: dict[str, Callable[[str], str]] = {
    "gemv": lambda name: name.split()[-1],
    "attention": lambda name: f"{name.split('x')[1]} tokens",
    "vit": lambda name: name,
}
ROOF_NAMES = {
    "fma_f32": "float32 FMA",
    "fma_f32_512": "float32 FMA, 512 bit",
    "fmla_f32": "float32 FMLA",
    "vpmaddwd": "vpmaddwd: int8, exact",
    "vpmaddwd_512": "vpmaddwd, 512 bit",
    "vpmaddubsw_vpaddw": "vpmaddubsw + vpaddw: 4-bit weights",
    "vpmaddubsw_vpmaddwd": "vpmaddubsw + vpmaddwd: pairs",
    "vpdpbusd_512": "vpdpbusd: int8, exact",
    "smull_sadalp": "smull + sadalp: int8",
    "sdot": "sdot: int8, exact",
}
LOW, HIGH = 0.15, 3000.0  # multiply-adds a byte: from float32 GEMV to whole models


def draw_all(documents: Sequence[Document], folder: Path) -> list[Path]:
    """A picture ``roofline-<isa>.png`` for each instruction set that has rows with multiply-adds."""
    made = []
    for isa in dict.fromkeys(d["isa"] for d in documents):
        here = [d for d in documents if d["isa"] == isa and d["workload"] in MARKS and d["rows"]]
        if here:
            path = folder / f"roofline-{isa}.png"
            draw(here, path)
            made.append(path)
    return made


def draw(documents: Sequence[Document], path: Path) -> None:
    """One panel a number of threads, on common axes."""
    threads = sorted({d["threads"] for d in documents})
    figure, panels = plt.subplots(
        1,
        len(threads),
        figsize=(max(9.0, 6.4 * len(threads)), 5.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, count in zip(panels[0], threads, strict=True):
        _panel(axes, [d for d in documents if d["threads"] == count])
        axes.set_title(f"{count} thread{'s' if count > 1 else ''}", fontsize=11)
        axes.set_xlabel("multiply-adds per byte of operands and result")
    panels[0][0].set_ylabel("GMAC/s")
    present = [name for name in MARKS if any(d["workload"] == name for d in documents)]
    handles = [
        Line2D([], [], color=MARKS[n][0], marker=MARKS[n][1], linestyle="", markersize=8, label=MARKS[n][2])
        for n in present
    ]
    handles.append(  # what is empty is float32, in the colour of its workload
        Line2D([], [], color="#555555", marker="o", mfc="none", linestyle="", markersize=8, label=FLOAT)
    )
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 3 * len(threads)),
        frameon=False,
        fontsize=9.5,
    )
    first = documents[0]
    figure.suptitle(f"{first['machine']['cpu'].partition(' (')[0]}, {first['isa']}", fontsize=12)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _panel(axes: Axes, documents: Sequence[Document]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(LOW, HIGH)
    for axis, steps in ((axes.xaxis, (1.0,)), (axes.yaxis, (1.0, 2.0, 5.0))):
        axis.set_major_locator(LogLocator(10, steps))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _roofs(axes, _peaks(documents))
    for document in documents:
        colour, marker, _ = MARKS[document["workload"]]
        for row in document["rows"]:
            for name, filled, traffic in (("pyquant", True, "traffic"), (FLOAT, False, "float_traffic")):
                if name not in row["candidates"]:
                    continue
                rate = 1e-9 * row["work"] / row["candidates"][name]["seconds"]["median"]
                intensity = row["work"] / row[traffic]
                beside = document["workload"] == "gemv"  # below is the roof
                if filled and document["workload"] in NAMED:
                    axes.annotate(
                        NAMED[document["workload"]](row["name"]),
                        (intensity, rate),
                        xytext=(8, 0) if beside else (0, -9),
                        textcoords="offset points",
                        ha="left" if beside else "center",
                        va="center" if beside else "top",
                        fontsize=7.5,
                        color=colour,
                    )
                axes.plot(
                    intensity,
                    rate,
                    marker=marker,
                    color=colour,
                    markerfacecolor=colour if filled else "none",
                    markeredgewidth=1.3,
                    markersize=11 if marker == "*" else 7,
                    linestyle="",
                    zorder=3,
                )


def _peaks(documents: Sequence[Document]) -> dict[str, float]:
    """The best of each probe in these documents: a roof is what the machine can do undisturbed."""
    values: dict[str, list[float]] = {}
    for document in documents:
        for row in document["rows"]:
            for moment in ("before", "after"):
                for name, value in row["probe"].get(moment, {}).items():
                    values.setdefault(name, []).append(value)
    return {name: max(found) for name, found in values.items()}


def _named(peaks: Mapping[str, float]) -> set[str]:
    """The roofs to draw: a narrower form, or an instruction that another replaces wholly, is none."""
    names = {name for name in peaks if name in ROOF_NAMES and f"{name}_512" not in peaks}
    replaced = ("vpmaddwd", "vpmaddubsw") if "vpdpbusd_512" in peaks else ()
    return {name for name in names if not name.startswith(replaced)} if replaced else names


def _roofs(axes: Axes, peaks: Mapping[str, float]) -> None:
    read = peaks.get("read")
    levels = sorted((peak, name) for name, peak in peaks.items() if name in _named(peaks))
    if not read or not levels:
        return
    top = levels[-1][0]
    ridge = top / read
    axes.plot([LOW, ridge], [LOW * read, top], color="#777777", linewidth=1.4, zorder=2)
    axes.text(
        LOW * 1.15,
        LOW * 1.15 * 1.4 * read,
        f"memory read, {read:.0f} GB/s",
        rotation=math.degrees(math.atan(1.4 * read)),  # along the line, in data coordinates
        rotation_mode="anchor",
        transform_rotates_text=True,
        fontsize=8.5,
        color="#555555",
    )
    # Roofs that lie closer than the height of a label share one.
    groups: list[list[tuple[float, str]]] = []
    for level in levels:
        if groups and level[0] < 1.3 * groups[-1][-1][0]:
            groups[-1].append(level)
        else:
            groups.append([level])
    for group in groups:
        for peak, _ in group:
            axes.plot([peak / read, HIGH], [peak, peak], color="#777777", linewidth=1.1, zorder=2)
        text = "\n".join(f"{ROOF_NAMES[name]}, {peak:.0f}" for peak, name in reversed(group))
        axes.annotate(
            text,
            (group[0][0] / read * 4, group[-1][0]),
            xytext=(0, 3),
            textcoords="offset points",
            ha="left",
            va="bottom",
            fontsize=8.5,
            color="#555555",
        )
    axes.set_ylim(LOW * read / 3, top * 2)
