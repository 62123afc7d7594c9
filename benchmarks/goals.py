"""What pyquant's kernels are asked to reach, and whether results do; misses are listed like hits."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.workload import FLAT, FLAT8, OURS

__all__ = ["GOALS", "Goal", "Outcome", "outcomes"]

Row = Mapping[str, Any]
ORT = ("ONNX Runtime u8u8", "ONNX Runtime u8s8")


@dataclass(frozen=True)
class Goal:
    """A figure of every row of a workload whose name matches; at least `asked`, or at most if `at_most`."""

    isa: str
    workload: str
    rows: str
    threads: int
    what: str
    asked: float
    figure: Callable[[Row], float | None]
    at_most: bool = False


@dataclass(frozen=True)
class Outcome:
    """A goal held against one row."""

    goal: Goal
    row: str
    value: float
    noisy: bool

    @property
    def reached(self) -> bool:
        return self.value <= self.goal.asked if self.goal.at_most else self.value >= self.goal.asked


def faster_than(*names: str, ours: str | None = None) -> Callable[[Row], float | None]:
    """Times faster than the fastest of these candidates; `ours` is a candidate other than the main one."""

    def figure(row: Row) -> float | None:
        ratios = [row["ratios"][name]["median"] for name in names if name in row["ratios"]]
        if not ratios or (ours is not None and ours not in row["ratios"]):
            return None
        return float(min(ratios) / (1.0 if ours is None else row["ratios"][ours]["median"]))

    return figure


def of_limit(row: Row) -> float | None:
    """Share of the probe."""
    shares = [share["median"] for share in row["of_limit"].values()]
    return float(shares[0]) if shares else None


def of_limit_flat(row: Row) -> float | None:
    """Share of the probe with weights that no chain can use (`cases.linear`)."""
    share, slower = of_limit(row), row["ratios"].get(FLAT)
    return None if share is None or slower is None else float(share / slower["median"])


def nanoseconds(row: Row) -> float | None:
    """Per element."""
    return float(1e9 * row["candidates"]["pyquant"]["seconds"]["median"] / row["work"])


def over(name: str, candidate: str) -> Callable[[Row], float | None]:
    """Time of a candidate of ours over that of `name`."""

    def figure(row: Row) -> float | None:
        ratios = {OURS: 1.0} | {each: found["median"] for each, found in row["ratios"].items()}
        return float(ratios[candidate] / ratios[name]) if {name, candidate} <= set(ratios) else None

    return figure


def _training() -> Iterator[tuple[str, str, str, float, Callable[[Row], float | None], bool]]:
    """Workload, rows, what, asked, figure, whether it is an upper end: the same for any instruction set."""
    torch = faster_than("torch float32")
    for rows in ("forward *", "straight-through backward *"):
        yield "fake", rows, "share of a copy into a reused buffer", 1 / 1.3, of_limit, False
        yield "fake", f"{rows}x256", "times torch", 20.0, torch, False
        yield "fake", f"{rows}x16384", "times torch", 8.0, torch, False
    yield "fake", "learned* *x256", "times torch", 12.0, torch, False
    yield "fake", "learned* *x16384", "times torch", 6.0, torch, False
    for workload, rows, asked in (
        ("elementwise", "quantize 20480x*", 0.25),
        ("observe", "min-max 512x16384", 0.12),
        ("observe", "histogram * 512x16384", 0.8),
        ("metrics", "SQNR float32 *x131072", 0.45),
    ):
        yield workload, rows, "ns an element", asked, nanoseconds, True
    for preset, candidate in (("W8A8", OURS), *((p, f"{OURS}, {p}") for p in ("W8A8-lsq", "W4A8-lsq"))):
        step = over("torch float32", candidate)
        yield "qat", "step", f"{preset}: times a float step", 1.35, step, True


def _table() -> Iterator[Goal]:
    torch, one = faster_than("torch float32"), faster_than("pyquant, 1 thread")
    table8 = faster_than("torch float32", ours="pyquant, table8")
    for isa in ("avx2", "avx512vnni"):
        vnni = isa == "avx512vnni"

        def goal(
            workload: str,
            rows: str,
            what: str,
            asked: float,
            figure: Callable[[Row], float | None],
            threads: int = 1,
            at_most: bool = False,
            isa: str = isa,
        ) -> Goal:
            return Goal(isa, workload, rows, threads, what, asked, figure, at_most)

        if vnni:
            yield goal("gemm", "197x384x*", "share of the vpdpbusd limit", 0.85, of_limit)
            yield goal("gemm", "197x[!3]*", "share of the vpdpbusd limit", 0.92, of_limit)
            yield goal("gemm", "*", "times torch float32", 3.2, torch)
        else:
            yield goal("gemm", "*", "share of the vpmaddwd limit", 0.92, of_limit)
            yield goal("gemm", "*", "share of the vpmaddwd limit, flat weights", 0.92, of_limit_flat)
            yield goal("gemm", "*", "times torch float32", 1.7, torch)
            yield goal("gemm", "*", "times ONNX Runtime INT8", 2.4, faster_than(*ORT))
            yield goal("gemm", "*", "times FBGEMM", 1.05, faster_than("FBGEMM"))
        if vnni:
            yield goal("gemm4", "*", "times own int8", 1.0, faster_than("pyquant, int8 weights"))
        else:
            yield goal("gemm4", "*", "times own int8 by vpmaddwd (flat weights)", 1.5, faster_than(FLAT8))
        yield goal("gemv", "* int4", "times own int8", 1.5, faster_than("pyquant, int8 weights"))
        yield goal("gemv", "* int8", "share of the read bandwidth", 0.85, of_limit)
        yield goal("attention", "*", "times torch float32, table16", 2.3 if vnni else 1.8, torch)
        if vnni:
            yield goal("attention", "*", "times torch float32, table8", 3.0, table8)
        for rows, asked in (("softmax 6x197*", 0.30), ("GELU table 197*", 0.15), ("layer norm 197*", 0.40)):
            yield goal("elementwise", rows, "ns an element", asked, nanoseconds, at_most=True)
        yield goal("vit", "batch 1", "share of the compute limit", 1 / (1.45 if vnni else 1.3), of_limit)
        yield goal("vit", "batch 1", "times torch float32", 3.3 if vnni else 1.7, torch)
        if not vnni:
            yield goal("vit", "batch 1", "times ONNX Runtime INT8", 1.1, faster_than(*ORT))
        yield goal("vit", "batch 1", "two threads against one", 1.8, one, threads=2)
        yield goal("vit", "batch 8", "two threads against one", 1.9, one, threads=2)
        for workload, rows, what, asked, figure, at_most in _training():
            yield goal(workload, rows, what, asked, figure, at_most=at_most)


GOALS = tuple(_table())


def outcomes(documents: Iterable[Mapping[str, Any]]) -> list[Outcome]:
    """Every goal that these results can be held against, in the order of the goals."""
    found = []
    by_key = {(d["isa"], d["workload"], d["threads"]): d for d in documents}
    for goal in GOALS:
        document = by_key.get((goal.isa, goal.workload, goal.threads))
        for row in document["rows"] if document else ():
            value = goal.figure(row) if fnmatch.fnmatchcase(row["name"], goal.rows) else None
            if value is not None:
                found.append(Outcome(goal, row["name"], value, row["noisy"]))
    return found
