"""What a figure depends on besides the code: CPU, caches, environment, compiler and versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import multiprocessing
import os
import platform
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "BUILD",
    "HELD",
    "MALLOC",
    "ROOT",
    "alone",
    "commit",
    "compiled_by",
    "describe",
    "last_level_cache",
    "versions",
]

Result = TypeVar("Result")

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "benchmarks"

# Otherwise glibc gives torch's buffers back to the system at each step, and the time goes into page faults.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
}
# What holds pyquant, torch, oneDNN and MKL to a lesser instruction set than the machine's.
HELD = ("PYQUANT_ISA", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
PACKAGES = ("numpy", "torch", "onnxruntime", "onnx", "openvino", "nncf", "torchao", "transformers")


def caches() -> dict[str, int]:
    """Bytes of each cache of processor 0, by name: ``L1d``, ``L1i``, ``L2``, ``L3``."""
    sizes = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        unit = {"K": 1 << 10, "M": 1 << 20}.get(size[-1:], 1)
        suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
        sizes[f"L{level}{suffix}"] = int(size.rstrip("KM")) * unit
    return sizes


def last_level_cache() -> int:
    """Bytes of the last-level cache; 32 MiB where the system does not tell."""
    return caches().get("L3") or caches().get("L2") or 32 << 20


def cpu_model() -> str:
    """The name that the kernel gives the CPU, or its architecture."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    fields = dict(re.findall(r"^(model name|cpu family|model|stepping)\s*:\s*(.+)$", text, re.MULTILINE))
    if "model name" not in fields:
        return platform.machine()
    # Cloud machines name whole families alike: the numbers tell the generation.
    numbers = [f"{name} {fields[name]}" for name in ("cpu family", "model", "stepping") if name in fields]
    return f"{fields['model name']} ({', '.join(numbers)})"


def versions() -> dict[str, str]:
    """Of Python, pyquant and of every peer that is installed."""
    import pyquant

    found = {"python": platform.python_version(), "pyquant": pyquant.__version__}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def compiled_by() -> dict[str, Any]:
    """Compiler and flags of pyquant's kernels: as csrc/flags.mk says, and as the module's own note says."""
    from pyquant import _C

    text = (ROOT / "csrc/flags.mk").read_text() if (ROOT / "csrc/flags.mk").is_file() else ""
    flags = dict(re.findall(r"^(PQ_CFLAGS|PQ_FLAGS_\w+) =[ \t]*(.*)$", text, re.MULTILINE))
    flags.pop("PQ_FLAGS_simde", None)
    note = re.search(rb"(GCC: \([^)]*\) [\d.]+|clang version [\d.]+)", Path(_C.__file__).read_bytes())
    return {"compiler": note.group(1).decode() if note else "unknown", "flags": flags}


def alone(function: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a call in a new process; one that dies there is an error here."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def commit() -> str:
    """Short hash of the commit, with ``+`` if tracked files differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    name = git("rev-parse", "--short", "HEAD")
    # Results themselves are tracked, and change while they are being measured.
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return (name or "unknown") + ("+" if changed else "")


def describe() -> dict[str, Any]:
    """Everything above, as it goes into a result file."""
    from pyquant import _C

    return {
        "cpu": cpu_model(),
        "processors": len(os.sched_getaffinity(0)),
        "caches": caches(),
        "cpu_features": list(_C.cpu_features()),
        "load": os.getloadavg()[0],
        "environment": {n: os.environ[n] for n in (*MALLOC, "OMP_NUM_THREADS", *HELD) if n in os.environ},
    }
