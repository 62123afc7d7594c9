"""``pyquant info`` and ``pyquant selftest``: this machine."""

from __future__ import annotations

import os
import platform
from collections import Counter
from importlib import metadata
from pathlib import Path

import typer

from pyquant import _C, selftest
from pyquant._version import __version__
from pyquant.cli.common import app, table

__all__ = ["info", "selftest_command"]

VERSIONS = ("numpy", "safetensors", "torch", "transformers")


@app.command()
def info() -> None:
    """What pyquant finds on this machine, and which kernels it takes."""
    limit = os.environ.get("PYQUANT_ISA")
    why = f"limited by PYQUANT_ISA={limit}" if limit else "the best of this machine and build"
    threads = os.environ.get("OMP_NUM_THREADS")
    rows = [
        ("pyquant", __version__),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *((name, _version(name)) for name in VERSIONS),
        ("torch shim", _shim()),
        ("cpu", _cpu_name()),
        ("features", " ".join(_C.cpu_features()) or "none that a kernel uses"),
        ("isa", f"{_C.isa_active()} ({why})"),
        ("threads", f"{_C.num_threads()} ({f'OMP_NUM_THREADS={threads}' if threads else 'all processors'})"),
    ]
    chosen = {op: isa for op, isa, _, eligible in _C.kernels() if eligible}  # the last eligible row wins
    passed_over = {op: [i for o, i, _, ok in _C.kernels() if o == op and not ok] for op in chosen}
    typer.echo(table(rows))
    typer.echo()
    kernels = [(op, isa, ", ".join(passed_over[op])) for op, isa in chosen.items()]
    typer.echo(table([("kernel", "isa", "not eligible here"), *kernels]))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _shim() -> str:
    try:
        from pyquant import torch_ops
    except ImportError as error:
        return f"not loaded: torch cannot be imported ({error})"
    except Exception as error:  # a torch that is installed but broken may raise anything
        return f"not loaded: {error}"
    return "loaded" if torch_ops.shim_loaded() else "not loaded: ops run in pure torch, with the same results"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@app.command("selftest")
def selftest_command() -> None:
    """Check every kernel that this machine can run against known answers."""
    results = selftest.run()
    rows = [(r.kernel, r.isa, r.status, r.detail) for r in results]
    typer.echo(table([("kernel", "isa", "result", ""), *rows]))
    built = {isa for _, isa, _, _ in _C.kernels()}
    absent = [isa for isa in _C.isa_names() if isa not in built]
    if absent:
        typer.echo(f"not checked: {', '.join(absent)} (this build has no kernel for them)")
    count = Counter(result.status for result in results)
    typer.echo(f"{count['ok']} ok, {count['MISMATCH']} mismatched, {count['not checked']} not checked")
    if count["MISMATCH"]:
        raise typer.Exit(1)
