"""Plan: which candidate each site gets, why, and what the whole costs."""

from __future__ import annotations

import difflib
import glob
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyquant.assignment.objective import COLUMNS
from pyquant.assignment.words import cost_text, difference_text, score_text
from pyquant.config import Override, QuantConfig, resolve_config
from pyquant.tables import html_table, text_table

__all__ = ["Alternative", "Change", "Choice", "Plan", "PlanDiff", "as_plan"]

Numbers = tuple[tuple[str, float], ...]

# The rest is noise, which would show in every comparison of two plans. A score may be a small error, a cost a
# large count.
SCORE_DIGITS, COST_DECIMALS = 6, 6


def _finite(what: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"plan: expected {what} to be a finite number, got {value!r}")
    return float(value) + 0.0  # not -0.0


def _score(value: float) -> float:
    return float(f"{_finite('score', value):.{SCORE_DIGITS}g}")


def _numbers(what: str, values: Numbers) -> Numbers:
    return tuple(
        (name, round(_finite(f"{what} {name}", value), COST_DECIMALS) + 0.0) for name, value in values
    )


def _round(row: Alternative | Choice) -> None:
    object.__setattr__(row, "score", _score(row.score))
    object.__setattr__(row, "costs", _numbers("cost", row.costs))


@dataclass(frozen=True)
class Alternative:
    """A candidate with its score and costs."""

    candidate: str
    score: float
    costs: Numbers = ()

    def __post_init__(self) -> None:
        _round(self)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What one site gets.

    Parameters
    ----------
    site, kind : str
    candidate : str
        Name of the candidate, e.g. ``"softmax=ibert"``.
    score : float
        In the unit of the plan's objective; kept to six digits.
    costs : tuple of (str, float)
        By metric; kept to six decimals.
    settings : tuple of (str, value)
        Fields of `SiteConfig` that the candidate sets.
    runner_up : Alternative or None
        The best of the other candidates by score; better than the choice if only a budget ruled it out.
    """

    site: str
    kind: str
    candidate: str
    score: float
    costs: Numbers = ()
    settings: tuple[tuple[str, Any], ...] = ()
    runner_up: Alternative | None = None

    def __post_init__(self) -> None:
        _round(self)
        if not self.site:
            raise ValueError("plan: expected the name of a site, got an empty string")
        try:
            Override(self.site, self.settings)
        except ValueError as error:
            raise ValueError(f"plan: site {self.site!r}: {error}") from None
        object.__setattr__(self, "settings", tuple(sorted(self.settings)))


@dataclass(frozen=True)
class Change:
    """A site whose candidate differs; None where a plan lacks it."""

    site: str
    mine: str | None
    other: str | None


@dataclass(frozen=True)
class PlanDiff:
    """Where two plans differ; empty (false) if they choose alike."""

    changes: tuple[Change, ...]

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def __str__(self) -> str:
        if not self.changes:
            return "no differences"
        return "\n".join(f"{c.site}: {c.mine or 'none'} -> {c.other or 'none'}" for c in self.changes)


@dataclass(frozen=True)
class Plan:
    """One candidate for each site, in execution order; prints, compares, and is stored as YAML.

    Parameters
    ----------
    choices : tuple of Choice
    objective : str
        What was made small: a column of the sensitivity table, or ``"unified"``.
    options : tuple of (str, value)
        Further arguments of the objective.
    constraints : tuple of (str, float)
        Budgets, each at most.
    solver : str
        ``"each site alone"``, ``"milp"`` or ``"greedy"``.
    totals : tuple of (str, float)
        Cost of the whole model by metric; sites outside the plan count as they are configured.
    config : QuantConfig or None
        What the sensitivities were measured with; `pyquant.quantize` starts from it unless told otherwise.
    model : str
        Name of the model's class, for readers.
    """

    choices: tuple[Choice, ...]
    objective: str
    options: tuple[tuple[str, Any], ...] = ()
    constraints: Numbers = ()
    solver: str = "each site alone"
    totals: Numbers = ()
    config: QuantConfig | None = None
    model: str = ""

    def __post_init__(self) -> None:
        if self.objective not in COLUMNS:
            raise ValueError(
                f"plan: expected objective to be one of {', '.join(COLUMNS)}, got {self.objective!r}"
            )
        object.__setattr__(self, "constraints", _numbers("constraint", self.constraints))
        object.__setattr__(self, "totals", _numbers("total", self.totals))
        names = [choice.site for choice in self.choices]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"plan: site {name!r} is there twice")

    # ---- looking ----

    def __iter__(self) -> Iterator[Choice]:
        return iter(self.choices)

    def __len__(self) -> int:
        return len(self.choices)

    def __getitem__(self, site: str) -> Choice:
        """The choice of one site.

        Raises
        ------
        KeyError
            The plan has no such site.
        """
        for choice in self.choices:
            if choice.site == site:
                return choice
        near = difflib.get_close_matches(site, [choice.site for choice in self.choices], n=1)
        hint = f"; is it {near[0]!r}?" if near else f"; there are {len(self)} sites"
        raise KeyError(f"plan: no site {site!r}{hint}")

    @property
    def total_cost(self) -> dict[str, float]:
        """Cost of the whole model by metric."""
        return dict(self.totals)

    @property
    def total_score(self) -> float:
        """Sum of the scores of all sites."""
        return _score(math.fsum(choice.score for choice in self.choices))

    def explain(self, site: str) -> str:
        """Why a site got what it got, in one line.

        Raises
        ------
        KeyError
            The plan has no such site.
        """
        choice = self[site]
        column = COLUMNS[self.objective]
        first = f"{choice.site}: {choice.candidate}, {self.objective} {score_text(choice.score, column.unit)}"
        other = choice.runner_up
        if other is None:
            return f"{first}; the only candidate"
        gain = column.damage(choice.score) - column.damage(other.score)
        tolerance = dict(self.options).get("tolerance", 0.0)
        named = f"{other.candidate} {score_text(other.score, column.unit)}"
        theirs = dict(other.costs)
        compared = [
            f"{difference_text(name, value, theirs[name])} than {other.candidate}"
            for name, value in choice.costs
            if name in theirs and name in self._metrics() and value != theirs[name]
        ]
        if gain <= 0.0:
            second = f"next {named}"
        elif gain <= tolerance:
            second = f"as good as {named} within {score_text(tolerance, column.unit)}"
        else:
            second = f"the budget rules out {named}"
        return "; ".join([first, second, *compared])

    def diff(self, other: Plan) -> PlanDiff:
        """Sites for which the other plan has another candidate or other settings."""
        mine = {choice.site: choice for choice in self.choices}
        theirs = {choice.site: choice for choice in other.choices}
        changes = []
        for site in [*mine, *(name for name in theirs if name not in mine)]:
            a, b = mine.get(site), theirs.get(site)
            if a is None or b is None or a.settings != b.settings:
                changes.append(
                    Change(site, None if a is None else a.candidate, None if b is None else b.candidate)
                )
        return PlanDiff(tuple(changes))

    def summary(self) -> tuple[str, ...]:
        """Objective, budgets and totals, a line each."""
        unit = COLUMNS[self.objective].unit
        budgets = ", ".join(f"{name} <= {value:g}" for name, value in self.constraints)
        lines = [
            f"{len(self)} sites by {self.objective} ({self.solver}), sum {score_text(self.total_score, unit)}"
            + (f", under {budgets}" if budgets else "")
        ]
        if self.totals:
            lines.append("whole model: " + ", ".join(cost_text(n, v) for n, v in self.totals))
        return tuple(lines)

    def _metrics(self) -> list[str]:
        """Costs to show: those with a budget if there are any, else all."""
        metrics = list(dict.fromkeys(name for choice in self.choices for name, _ in choice.costs))
        limited = {name.removeprefix("average_") for name, _ in self.constraints}
        return [name for name in metrics if name in limited] or metrics

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        unit = COLUMNS[self.objective].unit
        metrics = self._metrics()
        header = ("site", "kind", "candidate", "next", self.objective, "next", *metrics)
        rows = []
        for choice in self.choices:
            costs, other = dict(choice.costs), choice.runner_up
            rows.append(
                (
                    choice.site,
                    choice.kind,
                    choice.candidate,
                    other.candidate if other else "",
                    score_text(choice.score, unit),
                    score_text(other.score, unit) if other else "",
                    *(f"{costs[name]:.6g}" if name in costs else "" for name in metrics),
                )
            )
        return header, rows

    def __str__(self) -> str:
        return "\n".join([text_table(*self._table(), left=4), *self.summary()])

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        return html_table(*self._table(), self.summary())

    # ---- using ----

    def apply(self, config: str | Mapping[str, Any] | QuantConfig) -> QuantConfig:
        """The configuration with one more override for each site, after those that it has.

        A site's name stands for itself alone, also where it holds characters that globs give a meaning.
        """
        applied = resolve_config(config)
        for choice in self.choices:
            if choice.settings:
                applied = applied.override(glob.escape(choice.site), **dict(choice.settings))
        return applied

    def check_sites(self, kinds: Mapping[str, str]) -> None:
        """Raise ValueError unless each site is there and of the same kind.

        Parameters
        ----------
        kinds : mapping of str to str
            Kind of each site of a model.
        """
        for choice in self.choices:
            found = kinds.get(choice.site)
            if found is None:
                near = difflib.get_close_matches(choice.site, list(kinds), n=1)
                hint = f"; is it {near[0]!r}?" if near else ""
                raise ValueError(f"plan: the model has no integer site {choice.site!r}{hint}")
            if found != choice.kind:
                raise ValueError(f"plan: site {choice.site!r} is a {choice.kind}, but in the model a {found}")

    # ---- files ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write YAML: a header, then a block for each site in execution order."""
        from pyquant.assignment.plan_file import to_yaml

        Path(path).write_text(to_yaml(self), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            The file is no plan: another version, an unknown or missing key, or a setting that no site has.
        """
        from pyquant.assignment.plan_file import from_yaml

        return from_yaml(Path(path).read_text(encoding="utf-8"), str(path))


def as_plan(plan: Plan | str | os.PathLike[str]) -> Plan:
    """A plan, or the file that holds one."""
    if isinstance(plan, Plan):
        return plan
    if isinstance(plan, (str, os.PathLike)):
        return Plan.load(plan)
    raise TypeError(f"plan: expected a Plan or the path of one, got {type(plan).__name__}")
