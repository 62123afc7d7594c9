"""Budgets: the program's optimum is that of trying everything, never worse than the greedy choice."""

from __future__ import annotations

import builtins
import dataclasses
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyquant.assignment import solve
from pyquant.assignment.budget import Limit, Option, Problem
from tests.assign.rows import best_of_all

CLOSE = 1e-6


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Up to five sites with up to four options; one or two budgets, of which one may be paid by the unit.

    Small whole numbers, so that ties and budgets that are met exactly come up.
    """
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    number = st.integers(0, 6).map(float)
    tie = st.integers(0, 2).map(float)
    sites = tuple(
        tuple(Option(f"c{o}", (), draw(st.integers(-5, 9)) / 2, draw(tie)) for o in range(size))
        for size in sizes
    )
    costs = tuple(tuple(draw(number) for _ in range(size)) for size in sizes)
    limits = [Limit("latency", float(draw(st.integers(0, 14))), costs, fixed=draw(number))]
    if draw(st.booleans()):
        area = {f"u{i}": float(i + 1) for i in range(4)}
        name = st.sampled_from(sorted(area))
        units = tuple(tuple(draw(name) for _ in range(size)) for size in sizes)
        built = draw(st.frozensets(name, max_size=1))
        table = tuple(tuple(area[unit] for unit in row) for row in units)
        most = float(draw(st.integers(0, 10)))
        limits.append(Limit("area", most, table, units, sum(area[u] for u in built), built))
    return Problem(sites, tuple(limits))


@given(problems())
@settings(max_examples=150)
def test_milp_is_brute_force(problem: Problem) -> None:
    choice, best = solve.milp(problem), best_of_all(problem)
    assert (choice is None) == (best is None)
    if choice is not None and best is not None:
        assert problem.fits(choice)
        assert problem.score(choice) == pytest.approx(best, abs=CLOSE)


@given(problems())
@settings(max_examples=150)
def test_milp_is_never_worse_than_greedy(problem: Problem) -> None:
    rough = solve.greedy(problem)
    if rough is not None:
        assert problem.fits(rough)
        exact = solve.milp(problem)
        assert exact is not None
        assert problem.score(exact) <= problem.score(rough) + CLOSE


@given(problems())
@settings(max_examples=60)
def test_the_nearest_value_is_possible_and_none_is_nearer(problem: Problem) -> None:
    for limit in problem.limits:
        least = solve.nearest(problem, limit, ())
        assert least is not None
        assert best_of_all(Problem(problem.sites, (with_most(limit, least),))) is not None
        assert best_of_all(Problem(problem.sites, (with_most(limit, least - 0.5),))) is None


def with_most(limit: Limit, most: float) -> Limit:
    return dataclasses.replace(limit, most=most)


def random_problem(sites: int, options: int, seed: int) -> Problem:
    rng = random.Random(seed)
    rows = tuple(tuple(Option(f"c{o}", (), rng.random() * 5) for o in range(options)) for _ in range(sites))
    costs = tuple(tuple(1 / (0.2 + option.score) + 0.1 * rng.random() for option in row) for row in rows)
    least, most = sum(min(row) for row in costs), sum(max(row) for row in costs)
    return Problem(rows, (Limit("latency_ms", 0.7 * least + 0.3 * most, costs),))


def test_a_model_of_fifty_sites_and_ten_methods() -> None:
    problem = random_problem(50, 10, 0)
    exact, rough = solve.milp(problem), solve.greedy(problem)
    assert exact is not None
    assert rough is not None
    assert problem.fits(exact)
    assert problem.score(exact) <= problem.score(rough) + CLOSE
    assert solve.milp(problem) == exact  # the same every time
    assert solve.greedy(problem) == rough


def test_greedy_falls_short_where_two_sites_must_move_together() -> None:
    """Found by search: the greedy choice keeps b at the last site, whose price the first two then pay."""
    scores = ((3.0, 3.0, 6.0), (3.0, 5.0, 6.0), (3.0, 0.0, 5.0))
    costs = ((5.0, 4.0, 2.0), (1.0, 5.0, 0.0), (3.0, 4.0, 0.0))
    sites = tuple(tuple(Option("abc"[o], (), score) for o, score in enumerate(row)) for row in scores)
    problem = Problem(sites, (Limit("x", 6.0, costs),))
    exact, rough = solve.milp(problem), solve.greedy(problem)
    assert exact is not None
    assert rough is not None
    assert problem.score(exact) == best_of_all(problem) == 11.0
    assert problem.score(rough) == 12.0


def test_ties_go_to_the_smaller_error_and_then_to_the_name() -> None:
    options = (Option("c", (), 1.0, 0.5), Option("b", (), 1.0, 0.5), Option("a", (), 1.0, 0.7))
    problem = Problem((options,), (Limit("x", 1.0, ((1.0, 1.0, 1.0),)),))
    assert solve.milp(problem) == solve.greedy(problem) == problem.best_alone() == [1]


def test_a_shared_cost_is_paid_once() -> None:
    """Two sites, one unit for both: 5, not 10."""
    sites = tuple((Option("good", (), 0.0), Option("cheap", (), 1.0)) for _ in range(2))
    limit = Limit("area", 6.0, ((5.0, 2.0),) * 2, (("good", "cheap"),) * 2)
    assert limit.total([0, 0]) == 5.0
    assert limit.total([0, 1]) == 7.0
    assert solve.milp(Problem(sites, (limit,))) == [0, 0]
    assert limit.excess([0, 1]) == pytest.approx(1 / 6)
    assert solve.milp(Problem(sites, (with_most(limit, 4.0),))) == [1, 1]
    built = dataclasses.replace(limit, fixed=5.0, built=frozenset({"good"}))
    assert built.total([0, 1]) == 7.0


def test_a_solution_within_the_tolerance_of_highs_alone_does_not_count() -> None:
    """The best choice is over the budget by less than HiGHS sees, and by more than rounding of a sum."""
    sites = ((Option("a", (), 0.0), Option("b", (), 1.0)),)
    problem = Problem(sites, (Limit("x", 1.0, ((1.0 + 1e-7, 0.5),)),))
    assert solve.milp(problem) == [1]


def test_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def no_scipy(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "scipy":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_scipy)
    with pytest.raises(ImportError, match=r"needs SciPy.*solver='greedy' does without"):
        solve.milp(random_problem(2, 2, 0))
    assert solve.greedy(random_problem(2, 2, 0)) is not None
