"""Figures as data URIs, the same bytes each time. Needs matplotlib."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyquant.reporting.histograms import EdgeHistogram
from pyquant.reporting.parts import Picture

__all__ = ["histogram_figure", "picture"]

# The page has one look, whatever the user's settings are. Names of sites are no formulas, and identifiers in
# an SVG are random unless salted.
_STYLE: Sequence[str | Path | dict[str, Any]] = [
    "default",
    {"text.parse_math": False, "svg.hashsalt": "pyquant", "svg.fonttype": "path"},
]
_CSS_PIXELS = 96  # an inch
_INSIDE, _OUTSIDE, _ENDS = "#4477aa", "#cc3311", "#222222"
_BARS = 160
_COLUMNS, _PANEL = 3, (3.7, 1.75)  # inches
_NAME = 44  # characters of a site's name above a panel


def picture(make: Callable[[], Figure], alt: str, caption: str = "") -> Picture:
    """Draw, and put into one data URI.

    Parameters
    ----------
    make : callable
        Makes the figure; called here, since settings such as fonts are read while it does.
    alt, caption : str
    """
    with style.context(_STYLE):
        figure = make()
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    data = base64.b64encode(file.getvalue()).decode("ascii")
    width = round(figure.get_figwidth() * _CSS_PIXELS)
    return Picture(f"data:image/svg+xml;base64,{data}", width, alt, caption)


def histogram_figure(histograms: Sequence[EdgeHistogram]) -> Figure:
    """A panel for each site: its values on a logarithmic scale of counts, and the ends of its grid."""
    columns = min(_COLUMNS, len(histograms))
    rows = math.ceil(len(histograms) / columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, histogram in zip(axes, histograms, strict=False):
        _panel(axis, histogram)
    for axis in axes[len(histograms) :]:
        axis.set_visible(False)
    return figure


def _panel(axis: Axes, histogram: EdgeHistogram) -> None:
    counts, edges = _bars(histogram)
    outside = (edges[:-1] < histogram.low) | (edges[1:] > histogram.high)
    for chosen, colour in ((~outside, _INSIDE), (outside, _OUTSIDE)):
        axis.stairs(np.where(chosen, counts, 0.0), edges, fill=True, color=colour)
    for end in (histogram.low, histogram.high):
        axis.axvline(end, color=_ENDS, linewidth=0.9, linestyle="--")
    axis.set_yscale("log")
    axis.set_ylim(0.5, 2 * max(float(counts.max()), 1.0))
    axis.set_title(
        f"{_shortened(histogram.site, _NAME)}\n{histogram.bits} bit, clips {share_text(histogram.clipped)}, "
        f"{histogram.sqnr:.1f} dB" + ("" if histogram.calibrated else " *"),
        fontsize=7,
        loc="left",
    )
    axis.tick_params(labelsize=6.5, length=2)
    axis.set_yticks([])
    axis.minorticks_off()
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _bars(histogram: EdgeHistogram) -> tuple[np.ndarray, np.ndarray]:
    """Counts of at most `_BARS` bars side by side, and their edges."""
    density = histogram.density
    together = math.ceil(len(density.counts) / _BARS)
    padded = np.pad(density.counts, (0, -len(density.counts) % together))
    counts = padded.reshape(-1, together).sum(axis=1)
    edges = density.origin + np.arange(len(counts) + 1) * (together * density.width)
    return counts, np.clip(edges, density.low, density.high if density.high > density.low else edges[-1])


def share_text(share: float) -> str:
    """A share in percent: two digits where it is small, and none is told from few."""
    return "none" if share == 0 else f"{100 * share:.2g} %"


def _shortened(name: str, length: int) -> str:
    """The end of a name says more than its middle."""
    if len(name) <= length:
        return name
    head = length // 3
    return f"{name[:head]}…{name[head + 1 - length :]}"
