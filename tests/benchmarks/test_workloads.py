"""Every workload runs, on sizes that only show that, and without what has to be installed for it."""

from __future__ import annotations

import pytest

from benchmarks import results, run
from benchmarks.workload import WORKLOADS, Settings

pytest.importorskip("torch")

TINY = Settings(peers="torch", tiny=True, seconds=0.05, rounds=(2, 2), sample=0.0002)


@pytest.mark.parametrize("name", WORKLOADS)
def test_workload(name: str) -> None:
    found = run.measure(name, TINY)
    results.check(found)
    assert len(found["rows"]) == len(run.workload(name).rows(TINY))
    for row in found["rows"]:
        assert all(why in ("torch has no quantized attention",) for why in row["gaps"].values()), row["gaps"]
        assert len(row["ratios"]) >= 1
        assert row["candidates"]["pyquant"]["seconds"]["min"] > 0


def test_rows_can_be_chosen() -> None:
    names = [row["name"] for row in run.measure("elementwise", TINY, only="GELU")["rows"]]
    assert names == ["GELU table 5x384"]


def test_two_threads_are_held_against_one() -> None:
    two = Settings(threads=2, peers="none", tiny=True, seconds=0.05, rounds=(2, 2), sample=0.0002)
    (row,) = run.measure("gemm", two)["rows"]
    assert set(row["ratios"]) == {"pyquant, 1 thread"}
