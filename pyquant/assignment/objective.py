"""What a plan makes small: a column of the sensitivity table, or the unified metric.

Within one site every candidate has the same SQNR in, hence ``delta = SQNR in - accumulated`` and
``accumulated`` prefer the same candidate; they differ in what is printed. Under a budget decibels are summed,
so that one from 50 to 49 weighs as much as one from 10 to 9; ``noise``, the power that the site adds by
itself in shares of its signal, is what adds up where errors are small and independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pyquant.sensitivity_table import SCORES, Score, SensitivityRow

__all__ = [
    "COLUMNS",
    "PERTURBATIONS",
    "SQNR_CEILING",
    "TERMS",
    "column_scores",
    "unified_scores",
]

# Edges are float32: 24 bits of mantissa, 6.02 dB each, hold 144 dB. A candidate without any error (+inf dB)
# counts as this much, so that sums stay finite and it still beats whatever can be measured.
SQNR_CEILING = 200.0


COLUMNS: Mapping[str, Score] = {
    **{name: score for name, score in SCORES.items() if name not in ("sqnr_in", "all_but_this")},
    "noise": Score("noise power that the site adds, in shares of its signal", "", True),
    "unified": Score("sensitivity, perturbation and cost", "", True),
}
TERMS = ("sensitivity", "perturbation", "cost")
PERTURBATIONS = ("isolated", "accumulated", "cosine", "kl")


def column_scores(rows: Sequence[SensitivityRow], name: str) -> list[float]:
    """The column of each row, infinite SQNR at the ceiling; NaN where there is no usable number.

    Raises
    ------
    ValueError
        The table does not have this score.
    """
    if name == "noise":
        return _noise(column_scores(rows, "isolated"))
    values = [_delta(row) if name == "delta" else _capped(name, _get(row, name)) for row in rows]
    if rows and all(value is None for value in values):
        raise ValueError(
            f"assign: the table holds no {name!r}; compute it with pyquant.sensitivity, or choose another "
            f"objective"
        )
    return [math.nan if value is None else value for value in values]


def _get(row: SensitivityRow, name: str) -> float | None:
    value = getattr(row, name, None)
    return None if value is None else float(value)


def _capped(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    if COLUMNS[name].unit == "dB":
        return _ceiling(value)
    return value if math.isfinite(value) else math.nan


def _ceiling(decibel: float) -> float:
    return decibel if math.isnan(decibel) else max(-SQNR_CEILING, min(SQNR_CEILING, decibel))


def _delta(row: SensitivityRow) -> float | None:
    """SQNR in - accumulated; +inf on either side counts as the ceiling, which keeps the order."""
    given = _get(row, "delta")
    if given is not None and math.isfinite(given):
        return given
    sqnr_in, accumulated = _get(row, "sqnr_in"), _get(row, "accumulated")
    if sqnr_in is None or accumulated is None:
        return given if given is None else math.nan
    return _ceiling(sqnr_in) - _ceiling(accumulated)


def _perturbation(rows: Sequence[SensitivityRow], name: str) -> list[float]:
    """How far the function itself is off, in shares of the signal where it is not KL divergence already."""
    values = column_scores(rows, name)
    if name == "cosine":
        return [1.0 - value for value in values]
    if name == "kl":
        return values
    return _noise(values)


def _noise(decibels: Sequence[float]) -> list[float]:
    """Noise power over signal power."""
    return [10.0 ** (-value / 10.0) for value in decibels]


def unified_scores(
    rows: Sequence[SensitivityRow],
    costs: Sequence[float],
    weights: Mapping[str, float],
    perturbation: str,
) -> list[float]:
    """Sensitivity, perturbation and cost of each row as one number; less is better.

    ``score = w_s N(delta) + w_p N(perturbation) + w_c N(cost)``. N subtracts the smallest value among the
    candidates of the site and divides by the largest such difference at any site of the same kind, so every
    term lies in [0, 1], and a site at which all candidates are nearly equal does not count as much as one at
    which they differ widely. Perturbation is noise power over signal power, ``10^(-SQNR / 10)`` of the named
    score; ``1 - cosine``; or the KL divergence of the model's output.

    Notes
    -----
    The form (a sum of sensitivity by SQNR, perturbation and computational cost, for each layer) is that of
    IPTQ-ViT. The normalisation and the choice of perturbation are this library's reading of it.

    References
    ----------
    Kim, Lee, Kim: IPTQ-ViT, arXiv 2511.15369, the unified metric.
    """
    total = [0.0] * len(rows)
    terms = {
        "sensitivity": lambda: column_scores(rows, "delta"),
        "perturbation": lambda: _perturbation(rows, perturbation),
        "cost": lambda: list(costs),
    }
    for name, weight in weights.items():
        if weight != 0.0:
            shares = _normalised(rows, terms[name]())
            total = [t + weight * s for t, s in zip(total, shares, strict=True)]
    return total


def _normalised(rows: Sequence[SensitivityRow], values: Sequence[float]) -> list[float]:
    least: dict[str, float] = {}
    for row, value in zip(rows, values, strict=True):
        if not math.isnan(value):
            least[row.site] = min(value, least.get(row.site, math.inf))
    above = [value - least.get(row.site, math.nan) for row, value in zip(rows, values, strict=True)]
    widest: dict[str, float] = {}
    for row, value in zip(rows, above, strict=True):
        if not math.isnan(value):
            widest[row.kind] = max(value, widest.get(row.kind, 0.0))
    return [
        value / widest[row.kind] if widest.get(row.kind, 0.0) > 0.0 else 0.0 * value
        for row, value in zip(rows, above, strict=True)
    ]
