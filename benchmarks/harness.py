"""Paired timing: all candidates in turn, round after round, and the ratios within a round.

A shared machine drifts by more than the differences that matter. What the candidates of one round have in
common cancels in their ratio, so ratios (median and middle half) are results, and times are only context.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.probe import Probe, drift
from benchmarks.workload import OURS, Candidate, Row, Settings

__all__ = ["measure", "paired", "ratio", "spread", "summary"]

NOISY = 0.05
# After a parallel region a pool spins for some milliseconds, on a core that the next candidate needs.
PAUSE = 0.010
# A call this long feels nothing of what ran before it, and is not called once untimed in each round.
LONG = 0.05
MAX_LOOPS = 10_000


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, the middle half and the least of `values`."""
    ordered = sorted(values)
    low, _, high = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    return {"median": statistics.median(ordered), "low": low, "high": high, "min": ordered[0]}


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """Spread of ``over / under`` round by round; rounds that only one of them took part in do not count."""
    return spread([a / b for a, b in zip(over, under, strict=False)])


def paired(
    candidates: Sequence[Candidate],
    settings: Settings,
    *,
    seconds: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
    pause: Callable[[float], None] = time.sleep,
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of a call of each candidate in each round, and how often it was called in a round.

    Each round begins with another candidate, so that none always follows the same one.
    """

    def once(run: Callable[[], Any], loops: int) -> float:
        begin = clock()
        for _ in range(loops):
            run()
        return (clock() - begin) / loops

    loops: dict[str, int] = {}
    settle: dict[str, bool] = {}
    cost = 0.0
    for candidate in candidates:
        if candidate.max_rounds is None:  # else each call is precious, and the builder has made one
            once(candidate.run, 1)
        each = once(candidate.run, 1)
        if each < settings.sample:
            each = once(candidate.run, 3)
        loops[candidate.name] = min(max(1, int(settings.sample / max(each, 1e-9))), MAX_LOOPS)
        settle[candidate.name] = each < LONG
        if candidate.max_rounds is None:
            cost += each * (loops[candidate.name] + settle[candidate.name])
        cost += PAUSE * (settings.threads > 1)
    fewest, most = settings.rounds
    rounds = min(max(int((seconds or settings.seconds) / max(cost, 1e-9)), fewest), most)

    times: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    for index in range(rounds):
        start = index % len(candidates)
        for candidate in [*candidates[start:], *candidates[:start]]:
            if candidate.max_rounds is not None and index >= candidate.max_rounds:
                continue
            if settings.threads > 1:
                pause(PAUSE)
            if settle[candidate.name]:
                candidate.run()
            times[candidate.name].append(once(candidate.run, loops[candidate.name]))
    return times, loops


def summary(row: Row, times: Mapping[str, Sequence[float]], loops: Mapping[str, int]) -> dict[str, Any]:
    """The row as it goes into a result file.

    ``ratios``: a peer's time over pyquant's, above 1 where pyquant is faster. ``of_limit``: pyquant's rate
    over the probe's, at most 1.
    """
    ours = times[OURS]
    amount = row.traffic if row.limit in ("read", "copy") else row.work
    return {
        "name": row.name,
        "work": row.work,
        "unit": row.unit,
        "traffic": row.traffic,
        "float_traffic": 4 * row.traffic if row.float_traffic is None else row.float_traffic,
        "checked": row.checked,
        "candidates": {
            name: {
                "seconds": spread(times[name]),
                "rounds": len(times[name]),
                "loops": loops[name],
                "settings": candidate.settings,
                **({} if candidate.error is None else {"error": candidate.error}),
            }
            for name, candidate in row.candidates.items()
        },
        "ratios": {name: ratio(times[name], ours) for name in row.candidates if name != OURS},
        "of_limit": {
            name: spread([(amount / a) / (limit.work / b) for a, b in zip(ours, times[name], strict=False)])
            for name, limit in row.limits.items()
        },
        "gaps": dict(row.gaps),
    }


def measure(row: Row, settings: Settings, probe: Probe | None) -> dict[str, Any]:
    """Time a row between two probes of the machine; it is noisy if the probe that bounds it has moved."""
    seconds = (0.005, 1) if settings.tiny else (0.02, 3)
    if probe is not None:
        row.add_limits(probe)
    before = {} if probe is None else probe.peaks(*seconds)
    candidates = [*row.candidates.values(), *row.limits.values()]
    times, loops = paired(candidates, settings, seconds=row.seconds)
    after = {} if probe is None else probe.peaks(*seconds)
    moved = {name: drift({name: before[name]}, after) for name in before}
    # Noise of the memory does not spoil what runs from the cache, nor the other way round.
    relevant = [row.limit] if row.limit in before else [n for n in before if n not in ("read", "copy")]
    return {
        **summary(row, times, loops),
        "probe": {"before": before, "after": after},
        "noisy": max((moved[name] for name in relevant), default=0.0) > NOISY,
    }
