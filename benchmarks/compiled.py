"""C that only benchmarks need, compiled where it is first asked for."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks import machine

__all__ = ["core", "library"]

FLAGS = ("-std=c11", "-O2", "-fopenmp", "-shared", "-fPIC", "-fvisibility=hidden")


def core() -> Path:
    """The archive that the module in the tree was linked from (setup.py): the kernels, as they are shipped.

    Raises
    ------
    OSError
        pyquant was not built in this tree.
    """
    folder = f"objects-{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    archive = machine.ROOT / "build" / folder / "libpyquant_core.a"
    if not archive.is_file():
        raise OSError("no libpyquant_core.a: pyquant was not built in this tree")
    return archive


def library(name: str, *objects: Path, flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    """A C file of this folder as a shared library, made anew where a source, an object or a flag has changed.

    Raises
    ------
    OSError
        No compiler.
    """
    source = Path(__file__).with_name(name)
    compiler = next((c for c in (os.environ.get("CC"), "gcc", "cc", "clang") if c and shutil.which(c)), None)
    if compiler is None:
        raise OSError(f"{name}: no C compiler found")
    key = hashlib.sha256(" ".join((compiler, *FLAGS, *flags)).encode())
    for file in (source, *objects):
        key.update(file.read_bytes())
    target = machine.BUILD / f"{source.stem}-{key.hexdigest()[:12]}.so"
    if not target.is_file():
        machine.BUILD.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}.tmp")
        files = [str(file) for file in (source, *objects)]
        subprocess.run([compiler, *FLAGS, *flags, "-o", str(unfinished), *files, "-lm"], check=True)
        os.replace(unfinished, target)
    return ctypes.CDLL(str(target))
