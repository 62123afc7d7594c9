"""The choice as a problem in numbers: options of each site, and limits on what all choices cost together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyquant.costs.values import CURRENT, Costs

__all__ = ["Limit", "Option", "Problem", "limits_of"]

# Two sums of the same costs in another order differ by less; a budget copied from a printed total must hold.
SLACK = 1e-9


@dataclass(frozen=True)
class Option:
    """One candidate of one site: `score` and `tie` are to be small."""

    candidate: str
    settings: tuple[tuple[str, Any], ...]
    score: float
    tie: float = 0.0

    @property
    def order(self) -> tuple[float, float, str]:
        """Score, then mean squared error, then name."""
        return self.score, self.tie, self.candidate


@dataclass(frozen=True)
class Limit:
    """A budget: ``(fixed + what the choices cost) / scale <= most``.

    Parameters
    ----------
    name : str
        As the user gave it.
    most : float
    costs : tuple of tuple of float
        Of each option of each site; a shared cost is what its unit costs.
    units : tuple of tuple of str
        Unit of each option of each site; empty for a cost that every site pays.
    fixed : float
        Cost of the sites outside the problem.
    built : frozenset of str
        Units that those sites need anyway.
    scale : float
    """

    name: str
    most: float
    costs: tuple[tuple[float, ...], ...]
    units: tuple[tuple[str, ...], ...] = ()
    fixed: float = 0.0
    built: frozenset[str] = frozenset()
    scale: float = 1.0

    def total(self, choice: Sequence[int]) -> float:
        """Cost of the whole model, one option index a site."""
        if self.units:
            needed = {
                self.units[s][o]: self.costs[s][o]
                for s, o in enumerate(choice)
                if self.units[s][o] not in self.built
            }
            return (self.fixed + math.fsum(needed.values())) / self.scale
        return (self.fixed + math.fsum(self.costs[s][o] for s, o in enumerate(choice))) / self.scale

    def excess(self, choice: Sequence[int]) -> float:
        """By how much a choice is beyond the limit, in shares of the limit; 0 if it is not."""
        over = self.total(choice) - self.most
        return over / max(abs(self.most), 1e-30) if over > SLACK * max(abs(self.most), 1e-30) else 0.0


@dataclass(frozen=True)
class Problem:
    """Choose one option for each site: least sum of scores, within every limit."""

    sites: tuple[tuple[Option, ...], ...]
    limits: tuple[Limit, ...] = ()

    def score(self, choice: Sequence[int]) -> float:
        """Sum over the sites."""
        return math.fsum(self.sites[s][o].score for s, o in enumerate(choice))

    def fits(self, choice: Sequence[int]) -> bool:
        """Whether every limit holds."""
        return all(limit.excess(choice) == 0.0 for limit in self.limits)

    def best_alone(self) -> list[int]:
        """The best option of each site, whatever it costs."""
        return [min(range(len(options)), key=lambda o: options[o].order) for options in self.sites]

    def useful(self) -> list[list[int]]:
        """Options of each site without those that another one equals or beats in everything.

        Ties so go to the smaller mean squared error, then to the name, in every solver.
        """
        return [
            [o for o in range(len(options)) if not any(self._beats(s, p, o) for p in range(len(options)))]
            for s, options in enumerate(self.sites)
        ]

    def _beats(self, s: int, p: int, o: int) -> bool:
        one, two = self.sites[s][p], self.sites[s][o]
        if one.score > two.score or one.order >= two.order:
            return False
        return all(
            limit.units[s][p] == limit.units[s][o] if limit.units else limit.costs[s][p] <= limit.costs[s][o]
            for limit in self.limits
        )


def limits_of(
    constraints: Mapping[str, float], costs: Costs | None, names: Sequence[str], problem: Problem
) -> tuple[Limit, ...]:
    """Budgets in numbers.

    Parameters
    ----------
    constraints : mapping of str to float
        Metric to the most that the whole model may cost. ``average_weight_bits`` stands for ``weight_bits``
        over the number of weights.
    costs : Costs or None
    names : sequence of str
        Sites of the problem.
    problem : Problem

    Raises
    ------
    ValueError
        A budget without costs for it, or one that is no number.
    """
    limits = []
    for name, most in constraints.items():
        if isinstance(most, bool) or not isinstance(most, (int, float)) or not math.isfinite(most):
            raise ValueError(f"assign: expected constraint {name!r} to be a finite number, got {most!r}")
        if costs is None:
            raise ValueError(f"assign: constraint {name!r} needs costs (see pyquant.costs)")
        limits.append(limit_of(name, float(most), costs, names, problem))
    return tuple(limits)


def limit_of(name: str, most: float, costs: Costs, names: Sequence[str], problem: Problem) -> Limit:
    """One budget; see `limits_of`."""
    metric = "weight_bits" if name == "average_weight_bits" else name
    if metric not in costs.metrics:
        raise ValueError(
            f"assign: constraint {name!r} is none of the costs, which are {', '.join(costs.metrics)}"
        )
    inside = set(names)
    # What has no such cost at all (steps of a run that are no sites) has no part in it.
    outside = [site for site in costs.sites_with(metric) if site not in inside]
    fixed, built = 0.0, frozenset[str]()
    table = tuple(
        tuple(costs.value(site, option.candidate, metric) for option in options)
        for site, options in zip(names, problem.sites, strict=True)
    )
    units: tuple[tuple[str, ...], ...] = ()
    if metric in costs.shared:
        units = tuple(
            tuple(costs.unit(site, option.candidate) for option in options)
            for site, options in zip(names, problem.sites, strict=True)
        )
        needed = {costs.unit(site, CURRENT): costs.value(site, CURRENT, metric) for site in outside}
        fixed, built = math.fsum(needed.values()), frozenset(needed)
    else:
        fixed = math.fsum(costs.value(site, CURRENT, metric) for site in outside)
    scale = 1.0
    if name == "average_weight_bits":
        first = [options[0].candidate for options in problem.sites]
        counted = [*zip(names, first, strict=True), *((site, CURRENT) for site in outside)]
        scale = math.fsum(costs.value(site, candidate, "weights") for site, candidate in counted)
        if scale <= 0.0:
            raise ValueError("assign: constraint 'average_weight_bits', but no site has weights")
    return Limit(name, most, table, units, fixed, built, scale)
