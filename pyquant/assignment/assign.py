"""assign: a sensitivity table becomes a plan."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Mapping, Sequence

from pyquant.assignment.budget import Limit, Option, Problem, limit_of, limits_of
from pyquant.assignment.objective import (
    COLUMNS,
    PERTURBATIONS,
    TERMS,
    column_scores,
    unified_scores,
)
from pyquant.assignment.plan import COST_DECIMALS, Alternative, Choice, Numbers, Plan
from pyquant.assignment.solve import SOLVERS, nearest
from pyquant.config import resolve_config
from pyquant.costs.values import Costs
from pyquant.sensitivity_table import SensitivityRow, SensitivityTable

__all__ = ["assign"]


def assign(
    table: SensitivityTable,
    *,
    objective: str = "delta",
    constraints: Mapping[str, float] | None = None,
    costs: Costs | None = None,
    solver: str = "milp",
    select: str = "*",
    weights: Mapping[str, float] | None = None,
    perturbation: str = "isolated",
    cost: str | None = None,
    tolerance: float = 0.0,
) -> Plan:
    """Choose a candidate for each site: by the smallest damage, or by damage and cost, under budgets.

    Without constraints each site is chosen alone: the smallest score, then the smaller mean squared error,
    then the name. With constraints the sum of the scores is made small, exactly.

    Parameters
    ----------
    table : SensitivityTable
        As `pyquant.sensitivity` gives it: one row a site and candidate. Each site gets one candidate; where
        bits and method are both to vary, candidates that set both are needed.
    objective : str
        ``delta``, the dB that the site itself loses; ``noise``, 10^(-isolated / 10), the noise power that it
        adds in shares of its signal; ``accumulated``, ``isolated``, ``mse``, ``cosine``,
        ``max_error`` at the site; ``output_sqnr``, ``kl``, ``flips``, ``accuracy`` of a table with scope
        ``output``; or ``unified``, sensitivity, perturbation and cost in one number.
    constraints : mapping of str to float, optional
        Metric of `costs` to the most that the whole model may cost, for example ``{"latency_ms": 12.0}`` or
        ``{"weight_bytes": 2e6, "area": 900}``; ``average_weight_bits`` is ``weight_bits`` over all weights.
        Sites outside the table count as they are configured.
    costs : Costs, optional
        From `pyquant.costs`; needed for constraints and for ``unified``.
    solver : {"milp", "greedy"}
        For constraints. ``milp`` is exact and needs SciPy; ``greedy`` needs nothing and may be worse.
    select : str
        A glob over site names.
    weights : mapping of str to float, optional
        For ``unified``: of ``sensitivity``, ``perturbation`` and ``cost``, 1 each unless given.
    perturbation : {"isolated", "accumulated", "cosine", "kl"}
        For ``unified``: the score that it follows from.
    cost : str, optional
        For ``unified``: the metric of `costs`, where there are several.
    tolerance : float
        Candidates of a site whose scores are this close to its best, in the score's unit, count as equally
        good, and the table's first wins. Candidates that compute almost the same differ by thousandths of a
        decibel, on other batches the other way round; a plan should not.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        No row, a score that the table lacks, a site for which no candidate has a number, a constraint without
        costs, or a budget that no choice meets: then the error names the nearest value that is possible.
    TypeError
        `table`, `costs` or `constraints` is something else.
    ImportError
        ``milp`` without SciPy.

    Notes
    -----
    A candidate without any error, +inf dB, counts as 200 dB; one whose score is NaN is never chosen.

    References
    ----------
    Kim et al.: Mixed Non-linear Quantization for Vision Transformers, arXiv 2407.18437, the SQNR difference.
    Kim, Lee, Kim: IPTQ-ViT, arXiv 2511.15369, the unified metric (`pyquant.assignment.unified_scores`).
    """
    if not isinstance(table, SensitivityTable):
        raise TypeError(f"assign: expected a SensitivityTable, got {type(table).__name__}")
    if costs is not None and not isinstance(costs, Costs):
        raise TypeError(f"assign: expected costs to be Costs (see pyquant.costs), got {type(costs).__name__}")
    if constraints is not None and not isinstance(constraints, Mapping):
        raise TypeError(f"assign: expected constraints to be a mapping, got {type(constraints).__name__}")
    _check_names(objective, solver, perturbation)
    number = isinstance(tolerance, (int, float)) and not isinstance(tolerance, bool)
    if not number or not 0.0 <= tolerance < math.inf:
        raise ValueError(f"assign: expected tolerance to be a number >= 0, got {tolerance!r}")
    rows = _rows(table, select)
    options: dict[str, float | str] = {}
    if objective == "unified":
        chosen = _weights(weights)
        if chosen["cost"] != 0.0:
            cost = _cost_metric(costs, cost)
        values = _cost_values(rows, costs, cost) if chosen["cost"] != 0.0 else [0.0] * len(rows)
        scores = unified_scores(rows, values, chosen, perturbation)
        options = {f"{name}_weight": weight for name, weight in chosen.items()}
        options |= {"perturbation": perturbation} | ({"cost": cost} if cost and chosen["cost"] else {})
    elif weights is not None or cost is not None:
        raise ValueError(f"assign: weights and cost belong to objective 'unified', not to {objective!r}")
    else:
        scores = column_scores(rows, objective)
    if tolerance:
        options["tolerance"] = float(tolerance)
    problem, names, kinds, natural = _problem(rows, scores, COLUMNS[objective].large_is_bad, tolerance)
    limits = limits_of(constraints or {}, costs, names, problem)
    problem = Problem(problem.sites, limits)
    picked = problem.best_alone()
    used = Plan.solver
    if limits:
        used = solver
        found = SOLVERS[solver](problem)
        if found is None:
            raise ValueError(_infeasible(problem, solver))
        picked = found
    meta = table.meta
    return Plan(
        choices=tuple(
            _choice(names[s], kinds[names[s]], problem.sites[s], picked[s], natural[s], costs)
            for s in range(len(names))
        ),
        objective=objective,
        options=tuple(options.items()),
        constraints=tuple((limit.name, limit.most) for limit in limits),
        solver=used,
        totals=_totals(costs, names, problem, picked, limits),
        config=None if meta.get("config") is None else resolve_config(meta["config"]),
        model=str(meta.get("model") or ""),
    )


def _check_names(objective: str, solver: str, perturbation: str) -> None:
    if objective == "all_but_this":
        raise ValueError(
            "assign: all_but_this is the same for every candidate of a site, so there is nothing to choose"
        )
    for name, value, allowed in (
        ("objective", objective, tuple(COLUMNS)),
        ("solver", solver, tuple(SOLVERS)),
        ("perturbation", perturbation, PERTURBATIONS),
    ):
        if value not in allowed:
            raise ValueError(f"assign: expected {name} to be one of {', '.join(allowed)}, got {value!r}")


def _rows(table: SensitivityTable, select: str) -> list[SensitivityRow]:
    rows = [row for row in table.rows if fnmatch.fnmatchcase(row.site, select)]
    if not rows:
        raise ValueError(
            f"assign: select {select!r} matches none of the table's {len(table.rows)} rows"
            if len(table.rows)
            else "assign: the table has no rows"
        )
    seen = set()
    for row in rows:
        if (row.site, row.candidate) in seen:
            raise ValueError(f"assign: the table has {row.candidate!r} at {row.site!r} twice")
        seen.add((row.site, row.candidate))
    return sorted(rows, key=lambda row: row.index)


def _weights(weights: Mapping[str, float] | None) -> dict[str, float]:
    given = dict(weights or {})
    for name, value in given.items():
        if name not in TERMS:
            raise ValueError(f"assign: expected weights of {', '.join(TERMS)}, got {name!r}")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0.0 <= value < math.inf:
            raise ValueError(f"assign: expected the weight of {name} to be a number >= 0, got {value!r}")
    return {name: float(given.get(name, 1.0)) for name in TERMS}


def _cost_metric(costs: Costs | None, cost: str | None) -> str:
    if costs is None:
        raise ValueError("assign: objective 'unified' needs costs, or weights={'cost': 0}")
    if cost is None and len(costs.metrics) != 1:
        raise ValueError(f"assign: cost: expected one of {', '.join(costs.metrics)}, got none")
    chosen = costs.metrics[0] if cost is None else cost
    if chosen not in costs.metrics:
        raise ValueError(f"assign: cost: expected one of {', '.join(costs.metrics)}, got {chosen!r}")
    return chosen


def _cost_values(rows: Sequence[SensitivityRow], costs: Costs | None, metric: str | None) -> list[float]:
    assert costs is not None
    assert metric is not None
    return [costs.value(row.site, row.candidate, metric) for row in rows]


def _problem(
    rows: Sequence[SensitivityRow], scores: Sequence[float], large_is_bad: bool, tolerance: float
) -> tuple[Problem, list[str], dict[str, str], list[list[float]]]:
    """Sites in execution order, their kinds, and the scores as the table has them."""
    sites: dict[str, list[Option]] = {}
    natural: dict[str, list[float]] = {}
    kinds = {row.site: row.kind for row in rows}
    for row, score in zip(rows, scores, strict=True):
        sites.setdefault(row.site, [])
        if math.isnan(score):
            continue
        mse = getattr(row, "mse", None)
        tie = math.inf if mse is None or math.isnan(mse) else float(mse)
        signed = score if large_is_bad else -score
        sites[row.site].append(Option(row.candidate, tuple(row.settings), signed, tie))
        natural.setdefault(row.site, []).append(score)
    for name, options in sites.items():
        if not options:
            raise ValueError(
                f"assign: the score of every candidate at {name!r} is NaN; was the site reached?"
            )
    return (
        Problem(tuple(tuple(_leveled(options, tolerance)) for options in sites.values())),
        list(sites),
        kinds,
        [natural[name] for name in sites],
    )


def _leveled(options: Sequence[Option], tolerance: float) -> Sequence[Option]:
    """Options close to the best get its score, and their place decides."""
    if not tolerance:
        return options
    best = min(option.score for option in options)
    return [
        dataclasses.replace(option, score=best, tie=float(place))
        if option.score <= best + tolerance
        else option
        for place, option in enumerate(options)
    ]


def _choice(
    site: str,
    kind: str,
    options: Sequence[Option],
    picked: int,
    natural: Sequence[float],
    costs: Costs | None,
) -> Choice:
    def costs_of(candidate: str) -> Numbers:
        if costs is None:
            return ()
        row = costs.row(site, candidate)
        return () if row is None else row.values

    others = [o for o in range(len(options)) if o != picked]
    best = min(others, key=lambda o: options[o].order, default=None)
    runner_up = None
    if best is not None:
        name = options[best].candidate
        runner_up = Alternative(name, natural[best], costs_of(name))
    option = options[picked]
    return Choice(
        site=site,
        kind=kind,
        candidate=option.candidate,
        settings=option.settings,
        score=natural[picked],
        costs=costs_of(option.candidate),
        runner_up=runner_up,
    )


def _totals(
    costs: Costs | None,
    names: Sequence[str],
    problem: Problem,
    picked: Sequence[int],
    limits: Sequence[Limit],
) -> Numbers:
    """Total of every metric that all sites have, and of every budget."""
    totals: dict[str, float] = {}
    for metric in costs.metrics if costs is not None else ():
        assert costs is not None
        try:
            totals[metric] = limit_of(metric, math.inf, costs, names, problem).total(picked)
        except ValueError:
            continue  # a metric of some sites only has no total
    totals |= {limit.name: limit.total(picked) for limit in limits}
    return tuple(totals.items())


def _infeasible(problem: Problem, solver: str) -> str:
    """Which budget is too small, and the nearest value that is possible."""
    if solver == "greedy":  # without SciPy: exact for costs that every site pays
        least = [None if limit.units else _least_alone(limit) for limit in problem.limits]
    else:
        least = [nearest(problem, limit, ()) for limit in problem.limits]
    short = [
        f"{limit.name} <= {limit.most:g}: the nearest is {_up(value)}"
        for limit, value in zip(problem.limits, least, strict=True)
        if value is not None and value > limit.most
    ]
    if short:
        return f"assign: no choice meets {'; '.join(short)}"
    if solver == "greedy":
        return "assign: the greedy solver found no choice within the budgets; solver='milp' decides"
    pairs = []
    for limit in problem.limits:
        others = tuple(other for other in problem.limits if other is not limit)
        value = nearest(problem, limit, others)
        if value is not None:
            pairs.append(f"{limit.name} {_up(value)} (asked: {limit.most:g}) within the others")
    # Of three or more, the others may exclude each other already.
    alone = [
        f"{limit.name} {_up(value)} alone"
        for limit, value in zip(problem.limits, least, strict=True)
        if value
    ]
    return f"assign: no choice meets all budgets together; the nearest are {', or '.join(pairs or alone)}"


def _least_alone(limit: Limit) -> float:
    return limit.total([min(range(len(costs)), key=costs.__getitem__) for costs in limit.costs])


def _up(value: float) -> str:
    """Rounded up, so that it can be asked for."""
    digits = max(COST_DECIMALS - 1 - math.floor(math.log10(abs(value))), 0) if value else 0
    return f"{math.ceil(value * 10**digits) / 10**digits:.12g}"
