"""Two ways to choose under budgets: exactly, as a mixed-integer linear program, and greedily.

Both are deterministic. The exact one is SciPy's HiGHS; the greedy one needs nothing, may miss the optimum,
and is there to check the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from pyquant.assignment.budget import SLACK, Limit, Problem

__all__ = ["SOLVERS", "greedy", "milp", "nearest"]

# HiGHS stops once bound and solution differ by 1e-6: in this unit a billionth of the widest difference.
OBJECTIVE_UNIT = 1e-3
# A solution of HiGHS may pass a limit by a relative 1e-6. Such a one is excluded, and the search repeated.
CUTS = 100


def milp(problem: Problem) -> list[int] | None:
    """The choice of least score within all limits, or None if there is none.

    One binary variable an option, one of each site set; a shared cost adds one binary variable a unit, which
    no option that needs the unit may pass.

    Raises
    ------
    ImportError
        SciPy is not installed.
    """
    found = _search(problem, problem.limits, None)
    return None if found is None else _polished(problem, found)


def nearest(problem: Problem, aim: Limit, others: tuple[Limit, ...]) -> float | None:
    """The least total of one limit that is possible within others, or None if those exclude each other."""
    found = _search(problem, others, aim)
    return None if found is None else aim.total(found)


def _search(problem: Problem, limits: tuple[Limit, ...], aim: Limit | None) -> list[int] | None:
    program = _Program(problem, limits, aim)
    for _ in range(CUTS):
        choice = program.solve()
        if choice is None or all(limit.excess(choice) == 0.0 for limit in limits):
            return choice
        program.exclude(choice)
    raise RuntimeError(f"assign: {CUTS} solutions within the solver's tolerance, none within the budget")


class _Program:
    """The arrays of `scipy.optimize.milp`; `aim` None makes the sum of scores small."""

    def __init__(self, problem: Problem, limits: tuple[Limit, ...], aim: Limit | None) -> None:
        self.problem = problem
        kept = problem.useful() if aim is None else [list(range(len(options))) for options in problem.sites]
        self.pairs = [(s, o) for s, options in enumerate(kept) for o in options]
        self.column = {pair: i for i, pair in enumerate(self.pairs)}
        self.width = len(self.pairs)
        self.rows: list[dict[int, float]] = []
        self.bounds: list[tuple[float, float]] = []
        for s, options in enumerate(kept):
            self._add({self.column[s, o]: 1.0 for o in options}, 1.0, 1.0)
        for limit in limits:
            line = self._line(limit)
            room = limit.most * limit.scale - limit.fixed
            room += SLACK * abs(limit.most * limit.scale)
            size = max([abs(room), *(abs(v) for v in line.values()), 1e-30])
            self._add({i: v / size for i, v in line.items()}, -math.inf, room / size)
        self.objective = self._line(aim) if aim is not None else self._scores()
        # HiGHS's gap is absolute: the largest coefficient becomes one.
        size = max([abs(v) for v in self.objective.values()], default=0.0) or 1.0
        self.objective = {i: v / size for i, v in self.objective.items()}

    def _scores(self) -> dict[int, float]:
        """By how much each option is worse than the best of its site, which is all that decides."""
        least = [min(option.score for option in options) for options in self.problem.sites]
        return {i: self.problem.sites[s][o].score - least[s] for i, (s, o) in enumerate(self.pairs)}

    def _add(self, line: dict[int, float], low: float, high: float) -> None:
        self.rows.append(line)
        self.bounds.append((low, high))

    def _line(self, limit: Limit) -> dict[int, float]:
        """Coefficients of a total; a shared cost gets a variable a unit first."""
        if not limit.units:
            return {i: limit.costs[s][o] for i, (s, o) in enumerate(self.pairs)}
        unit: dict[str, int] = {}
        line: dict[int, float] = {}
        for i, (s, o) in enumerate(self.pairs):
            name = limit.units[s][o]
            if name in limit.built:
                continue
            if name not in unit:
                unit[name] = self.width
                line[self.width] = limit.costs[s][o]
                self.width += 1
            self._add({i: 1.0, unit[name]: -1.0}, -math.inf, 0.0)
        return line

    def exclude(self, choice: list[int]) -> None:
        """Never this choice again."""
        self._add({self.column[pair]: 1.0 for pair in enumerate(choice)}, -math.inf, len(choice) - 1.0)

    def solve(self) -> list[int] | None:
        """An option a site, or None."""
        import numpy as np

        optimize, sparse = _scipy()
        cost = np.zeros(self.width)
        for i, value in self.objective.items():
            cost[i] = value / OBJECTIVE_UNIT
        entries = [(r, i, v) for r, line in enumerate(self.rows) for i, v in line.items()]
        at_row, at_column, values = zip(*entries, strict=True)
        matrix = sparse.csr_matrix((values, (at_row, at_column)), shape=(len(self.rows), self.width))
        low, high = zip(*self.bounds, strict=True)
        result = optimize.milp(
            cost,
            integrality=np.ones(self.width),
            bounds=optimize.Bounds(0.0, 1.0),
            constraints=optimize.LinearConstraint(matrix, low, high),
            options={"mip_rel_gap": 0.0},
        )
        if result.status == 2:
            return None
        if result.x is None:
            raise RuntimeError(f"assign: HiGHS found no answer: {result.message}")
        choice = [-1] * len(self.problem.sites)
        for (s, o), x in zip(self.pairs, result.x, strict=False):
            if x > 0.5:
                choice[s] = o
        return choice


def _scipy() -> tuple[Any, Any]:
    try:
        from scipy import optimize, sparse
    except ImportError as error:
        raise ImportError(
            "assign: solver 'milp' needs SciPy, which is not installed here (pip install scipy); "
            "solver='greedy' does without"
        ) from error
    return optimize, sparse


def _moves(problem: Problem, choice: list[int], kept: list[list[int]]) -> Iterator[list[int]]:
    """All choices that differ at one site."""
    for s, options in enumerate(kept):
        for o in options:
            if o != choice[s]:
                yield [*choice[:s], o, *choice[s + 1 :]]


def _polished(problem: Problem, choice: list[int]) -> list[int]:
    """Improve one site at a time while that lowers the score within the limits."""
    kept = problem.useful()
    while True:
        now = problem.score(choice)
        better = [m for m in _moves(problem, choice, kept) if problem.score(m) < now and problem.fits(m)]
        if not better:
            return choice
        choice = min(better, key=problem.score)  # the first of equals, in the order of the sites


def greedy(problem: Problem) -> list[int] | None:
    """A choice within all limits, by steps that change one site; None if it finds none.

    It starts from the best score, gives up the least score for each share of a limit that is saved until
    every limit holds, then improves again; and from the cheapest options likewise. The better end counts.
    """
    kept = problem.useful()
    starts = [problem.best_alone(), _cheapest(problem, kept)]
    ends = [end for start in starts if (end := _repaired(problem, start, kept)) is not None]
    return min((_polished(problem, end) for end in ends), key=problem.score, default=None)


def _cheapest(problem: Problem, kept: list[list[int]]) -> list[int]:
    def shares(s: int) -> Callable[[int], tuple[float, float]]:
        return lambda o: (
            math.fsum(limit.costs[s][o] / max(abs(limit.most), 1e-30) for limit in problem.limits),
            problem.sites[s][o].score,
        )

    return [min(options, key=shares(s)) for s, options in enumerate(kept)]


def _repaired(problem: Problem, choice: list[int], kept: list[list[int]]) -> list[int] | None:
    def excess(one: list[int]) -> float:
        return math.fsum(limit.excess(one) for limit in problem.limits)

    while not problem.fits(choice):
        over, score = excess(choice), problem.score(choice)
        helping = [m for m in _moves(problem, choice, kept) if excess(m) < over]
        if not helping:
            return None

        def price(move: list[int], over: float = over, score: float = score) -> float:
            return (problem.score(move) - score) / (over - excess(move))

        choice = min(helping, key=price)
    return choice


SOLVERS: dict[str, Callable[[Problem], list[int] | None]] = {"milp": milp, "greedy": greedy}
