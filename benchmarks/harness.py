"""What every benchmark shares: the machine's description, its limits, paired timing, and the result files."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def tune_malloc() -> None:
    """Restart with glibc told to keep large blocks, for every peer alike.

    Otherwise torch gives its buffers back to the system at each step and spends its time in page faults.
    """
    wanted = {
        "MALLOC_MMAP_THRESHOLD_": "4294967296",
        "MALLOC_TRIM_THRESHOLD_": "4294967296",
        "MALLOC_TOP_PAD_": "268435456",
    }
    if any(os.environ.get(k) != v for k, v in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


def probe() -> dict[str, str]:
    """Peak rates of this machine, now (`probe.c`); empty where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or platform.machine() != "x86_64":
        return {}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "probe"
        subprocess.run(
            [compiler, "-O2", "-o", str(program), str(Path(__file__).with_name("probe.c"))], check=True
        )
        text = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return {name: rest for name, _, rest in (line.partition(" ") for line in text.splitlines())}


def machine() -> dict[str, Any]:
    """CPU, ISA, versions and commit."""
    import numpy
    import torch

    import pyquant
    from pyquant import _C

    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    ).stdout.strip()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "isa": _C.isa_active(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
        "pyquant": pyquant.__version__,
        "commit": commit,
    }


def paired(
    candidates: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds of each candidate in each round; all of them in turn, so that drift hits them alike."""
    for _ in range(warmup):
        for run in candidates.values():
            run()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    return times


def ratio(times: Mapping[str, list[float]], slow: str, fast: str) -> dict[str, float]:
    """How many times faster `fast` is than `slow`, round by round: median and the middle half."""
    each = sorted(a / b for a, b in zip(times[slow], times[fast], strict=True))
    quartiles = statistics.quantiles(each, n=4) if len(each) > 1 else [each[0]] * 3
    return {"median": statistics.median(each), "low": quartiles[0], "high": quartiles[2]}


def save(name: str, result: dict[str, Any]) -> Path:
    """Write ``results/<name>-<isa>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{result['machine']['isa']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return path
