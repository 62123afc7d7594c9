"""Sensitivity rows made by hand, and the brute force that budgets are checked against."""

from __future__ import annotations

import itertools
from typing import Any

from pyquant.assignment.budget import Problem
from pyquant.sensitivity_table import SensitivityRow, SensitivityTable

__all__ = ["best_of_all", "row", "softmax_rows"]


def row(
    site: str,
    candidate: str,
    kind: str = "attention",
    index: int = 0,
    settings: tuple[tuple[str, Any], ...] = (),
    *,
    sqnr_in: float = 40.0,
    delta: float | None = None,
    accumulated: float | None = None,
    **scores: float | None,
) -> SensitivityRow:
    """A row whose accumulated score may be given by its delta."""
    if delta is not None and accumulated is None:
        accumulated = sqnr_in - delta
    return SensitivityRow(
        site=site,
        kind=kind,
        index=index,
        candidate=candidate,
        settings=settings,
        sqnr_in=sqnr_in,
        accumulated=accumulated,
        **scores,  # type: ignore[arg-type]
    )


def softmax_rows(
    deltas: dict[str, dict[str, float]], meta: dict[str, Any] | None = None, sqnr_in: float = 40.0
) -> SensitivityTable:
    """Site -> method of softmax -> delta, all from the same SQNR in."""
    rows = []
    for index, (site, methods) in enumerate(deltas.items()):
        for method, delta in methods.items():
            accumulated = sqnr_in - delta
            rows.append(
                row(
                    site,
                    f"softmax={method}",
                    "attention",
                    index,
                    (("softmax", method),),
                    sqnr_in=sqnr_in,
                    delta=delta,
                    isolated=accumulated + 3.0,
                    mse=10.0 ** (-accumulated / 10.0),
                )
            )
    return SensitivityTable(rows, meta)


def best_of_all(problem: Problem) -> float | None:
    """The least score of all choices within the limits, by trying each."""
    every = itertools.product(*(range(len(options)) for options in problem.sites))
    return min((problem.score(choice) for choice in every if problem.fits(choice)), default=None)
