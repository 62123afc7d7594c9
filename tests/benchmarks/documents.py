"""Result documents of made-up measurements."""

from __future__ import annotations

from typing import Any

PROBES = {"fma_f32": 20.0, "vpmaddwd": 20.0, "vpmaddubsw_vpaddw": 40.0, "read": 18.0, "copy": 12.0}


def spread(value: float) -> dict[str, float]:
    return {"median": value, "low": 0.95 * value, "high": 1.05 * value, "min": 0.9 * value}


def row(
    name: str,
    work: float,
    traffic: float,
    seconds: float,
    ratios: dict[str, float],
    *,
    limit: tuple[str, float] | None = ("vpmaddwd", 0.9),
    gaps: dict[str, str] | None = None,
    noisy: bool = False,
    unit: str = "MAC",
) -> dict[str, Any]:
    times = {"pyquant": seconds, **{peer: seconds * ratio for peer, ratio in ratios.items()}}
    return {
        "name": name,
        "work": work,
        "unit": unit,
        "traffic": traffic,
        "float_traffic": 4 * traffic,
        "checked": "equal to the definition: made up",
        "candidates": {
            peer: {"seconds": spread(time), "rounds": 9, "loops": 1, "settings": ""}
            for peer, time in times.items()
        },
        "ratios": {peer: spread(ratio) for peer, ratio in ratios.items()},
        "of_limit": {} if limit is None else {limit[0]: spread(limit[1])},
        "gaps": gaps or {},
        "probe": {"before": PROBES, "after": PROBES},
        "noisy": noisy,
    }


def document(
    workload: str, rows: list[dict[str, Any]], isa: str = "avx2", threads: int = 1
) -> dict[str, Any]:
    return {
        "schema": 1,
        "workload": workload,
        "title": f"title of {workload}",
        "isa": isa,
        "threads": threads,
        "commit": "abc1234",
        "machine": {"cpu": "Some CPU (cpu family 1)"},
        "build": {"compiler": "cc 1"},
        "versions": {"python": "3", "torch": "2"},
        "settings": {},
        "rows": rows,
    }
