"""Numbers of a plan as a reader wants them: decibels, microseconds, bytes."""

from __future__ import annotations

__all__ = ["cost_text", "difference_text", "score_text"]


def score_text(value: float, unit: str) -> str:
    """Two decimals beside a unit, four significant digits without."""
    return f"{value:.2f} {unit}" if unit else f"{value:.4g}"


def cost_text(metric: str, value: float) -> str:
    """A cost with its unit, which the metric's name ends in."""
    if metric.endswith("_ms"):
        return f"{value:.3f} ms" if abs(value) >= 1 else f"{1e3 * value:.2f} us"
    if metric.endswith("_bytes"):
        return f"{value:,.0f} bytes"
    return f"{value:,.4g} {metric}" if abs(value) < 1e4 else f"{value:,.0f} {metric}"


def difference_text(metric: str, mine: float, other: float) -> str:
    """How one cost stands to another: ``"0.52 us cheaper"``."""
    if mine == other:
        return f"as much {metric}"
    return f"{cost_text(metric, abs(mine - other))} {'cheaper' if mine < other else 'dearer'}"
