"""Run workloads: each, with each number of threads, in a process of its own.

A process of its own, because peers read the number of threads from the environment when they are loaded, and
because one that crashes must not take the others with it.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from benchmarks import harness, machine, results
from benchmarks.probe import Probe
from benchmarks.workload import OURS, WORKLOADS, Settings, Workload

__all__ = ["main", "measure"]

# Loggers of peers that warn of their own future.
CHATTY = ("torchao", "torch.utils._pytree", "torch.onnx", "onnxscript", "transformers")


def workload(name: str) -> Workload:
    """The module of a workload."""
    return cast(Workload, importlib.import_module(f"benchmarks.bench_{name}"))


def measure(name: str, settings: Settings, only: str = "") -> dict[str, Any]:
    """Run one workload here and now, and return its document; `only` is part of the names of the rows."""
    from pyquant import _C

    module = workload(name)
    try:
        probe, missing = Probe(settings.threads), ""
    except OSError as error:
        probe, missing = None, str(error)
    rows = []
    with _torch(settings.threads):
        for row, build in module.rows(settings).items():
            if only in row:
                begin = time.perf_counter()
                rows.append(harness.measure(build(), settings, probe))
                if missing:
                    rows[-1]["gaps"]["limits"] = missing
                _print(rows[-1], time.perf_counter() - begin)
    return {
        "schema": results.SCHEMA,
        "workload": name,
        "title": module.TITLE,
        "isa": _C.isa_active(),
        "threads": settings.threads,
        "commit": machine.commit(),
        "machine": machine.describe(),
        "build": machine.compiled_by(),
        "versions": machine.versions(),
        "settings": asdict(settings),
        "rows": rows,
    }


@contextmanager
def _torch(threads: int) -> Iterator[None]:
    """No gradients, so many threads, and no warnings of what peers will drop one day."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(before)


def _print(row: dict[str, Any], spent: float) -> None:
    print(f"  {row['name']}{'  NOISY' if row['noisy'] else ''}  [{spent:.0f} s]", flush=True)
    for name, candidate in row["candidates"].items():
        milliseconds = 1e3 * candidate["seconds"]["median"]
        text = f"    {name:34s}{milliseconds:11.4f} ms"
        if name != OURS:
            r = row["ratios"][name]
            text += f"  {r['median']:6.2f} x  ({r['low']:.2f} .. {r['high']:.2f})"
        print(text, flush=True)
    for name, share in row["of_limit"].items():
        print(f"    {100 * share['median']:.0f} % of {name}", flush=True)
    for name, why in row["gaps"].items():
        print(f"    not measured: {name} ({why})", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=WORKLOADS, metavar="WORKLOAD")
    parser.add_argument("--rows", default="", help="only rows whose name holds this text; saves nothing")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--peers", choices=("all", "torch", "none"), default="all")
    parser.add_argument("--quick", action="store_true", help="a few short rounds; saves nothing unless --out")
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that everything runs")
    parser.add_argument("--progress", action="store_true", help="tell how long each peer took to set up")
    parser.add_argument("--out", type=Path, help="folder of the result files")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # the process of one workload
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = _parser().parse_args(arguments)
    quick = options.quick or options.tiny
    partial = quick or bool(options.rows)
    out = options.out.resolve() if options.out else None if partial else results.FOLDER
    if options.here:
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger("benchmarks").addHandler(logging.StreamHandler())
        logging.getLogger("benchmarks").setLevel(logging.INFO if options.progress else logging.WARNING)
        chosen = Settings(threads=options.threads[0], peers=options.peers, tiny=options.tiny)
        settings = replace(chosen, seconds=1.0, rounds=(3, 5), sample=0.001) if quick else chosen
        document = measure(options.only[0], settings, options.rows)
        if out is not None:
            print(f"  saved {results.save(document, out).name}")
        return
    failed = [
        f"{name}, threads {threads}"
        for name in options.only
        for threads in options.threads
        if not _child(name, threads, options, out)
    ]
    if failed:
        raise SystemExit("failed: " + "; ".join(failed))
    if out == results.FOLDER:
        from benchmarks import report

        report.main([])


def _child(name: str, threads: int, options: argparse.Namespace, out: Path | None) -> bool:
    print(f"{name}, {threads} thread{'s' if threads > 1 else ''}", flush=True)
    words = ["--here", "--only", name, "--threads", str(threads), "--peers", options.peers]
    words += ["--rows", options.rows] if options.rows else []
    words += [f"--{flag}" for flag in ("quick", "tiny", "progress") if getattr(options, flag)]
    words += ["--out", str(out)] if out else []
    environment = {
        **os.environ,
        **machine.MALLOC,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=machine.ROOT, env=environment, check=False
    )
    return done.returncode == 0
