"""Builds the C core, the module ``pyquant._C`` and the torch shim; metadata is in pyproject.toml.

Three steps with flags of their own, from csrc/flags.mk. setuptools' own compile step is not used: it adds
Python's CFLAGS, whose ``-DNDEBUG -fwrapv`` would hide faults, and it has one set of flags for all files.

Environment: ``PYQUANT_BUILD_TORCH`` = auto (default: if torch is found), 1 (must be found) or 0; ``CC``,
``CXX``; ``PYQUANT_CFLAGS``, added to every C compile and link (sanitizers); ``PYQUANT_BUILD_JOBS``.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
BUILD = Path("build") / f"objects-{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
Flags = dict[str, list[str]]

SHIM = "pyquant.lib.libpyquant_torch"
OLDEST_TORCH = (2, 10)  # the first release with the stable ABI that the shim targets
TORCH_TARGET = "-DTORCH_TARGET_VERSION=0x020a000000000000"


def read_flags() -> Flags:
    """The variables of csrc/flags.mk, which are plain words."""
    text = (ROOT / "csrc/flags.mk").read_text()
    return {name: words.split() for name, words in re.findall(r"^(\w+) =(.*)$", text, re.MULTILINE)}


def compiler(variable: str, names: tuple[str, ...]) -> list[str]:
    """The command in an environment variable, else the first of `names` that is installed."""
    if os.environ.get(variable):
        return shlex.split(os.environ[variable])
    for name in names:
        if shutil.which(name):
            return [name]
    raise SystemExit(f"pyquant needs a compiler: set {variable}, or install one of {', '.join(names)}")


def find_torch() -> Path | None:
    """The directory of torch's package, without importing it.

    Under build isolation the outer site-packages are not on sys.path, but sysconfig still names them.
    """
    spec = importlib.util.find_spec("torch")
    places = list(spec.submodule_search_locations or []) if spec else []
    places += [os.path.join(sysconfig.get_path(name), "torch") for name in ("purelib", "platlib")]
    for place in map(Path, places):
        if (place / "include/torch/csrc/stable/library.h").is_file():
            return place
    return None


def torch_version(torch: Path) -> tuple[int, ...]:
    found = re.search(r"^__version__ = ['\"](\d+)\.(\d+)", (torch / "version.py").read_text(), re.MULTILINE)
    return tuple(map(int, found.groups())) if found else (0, 0)


def torch_to_build_with() -> Path | None:
    """What PYQUANT_BUILD_TORCH and this machine say: torch's directory, or None for no shim."""
    wish = os.environ.get("PYQUANT_BUILD_TORCH", "auto")
    if wish not in ("auto", "0", "1"):
        raise SystemExit(f"PYQUANT_BUILD_TORCH: expected auto, 0 or 1, got {wish!r}")
    torch = None if wish == "0" else find_torch()
    needed = ".".join(map(str, OLDEST_TORCH))
    if torch is not None and torch_version(torch) < OLDEST_TORCH:
        print(f"pyquant: no torch shim: {torch} is older than {needed}", file=sys.stderr)
        torch = None
    if torch is None and wish == "1":
        raise SystemExit(f"PYQUANT_BUILD_TORCH=1, but no torch >= {needed} with headers was found")
    return torch


class Build(build_ext):
    """Compiles objects in parallel and only where something changed, then links."""

    def get_ext_filename(self, fullname: str) -> str:
        # setuptools asks with and without the package. The shim is no Python module: no ABI tag in its name.
        if fullname in (SHIM, SHIM.rpartition(".")[2]):
            return fullname.replace(".", os.sep) + ".so"
        return str(super().get_ext_filename(fullname))

    def copy_extensions_to_source(self) -> None:
        (ROOT / "pyquant/lib").mkdir(exist_ok=True)
        super().copy_extensions_to_source()

    def build_extensions(self) -> None:
        os.chdir(ROOT)
        BUILD.mkdir(parents=True, exist_ok=True)
        with open(BUILD / "lock", "w") as lock:  # two builds of one tree must not share half-written objects
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._build()

    def _build(self) -> None:
        flags = read_flags()
        cc = compiler("CC", ("gcc", "cc", "clang")) + shlex.split(os.environ.get("PYQUANT_CFLAGS", ""))
        core_flags = flags["PQ_CFLAGS"] + flags["PQ_WARNINGS"] + ["-Icsrc/include", "-Icsrc"]
        core = BUILD / "libpyquant_core.a"
        jobs = [
            (source, cc + core_flags + isa_flags(source, flags, cc))
            for family in flags["PQ_FAMILIES"]
            for source in sorted(Path("csrc", family).glob("*.c"))
            if is_for_this_machine(source, flags)
        ]
        objects = compile_all(jobs)
        core.unlink(missing_ok=True)
        subprocess.run(["ar", "rcs", str(core), *objects], check=True)
        for ext in self.extensions:
            target = Path(self.get_ext_fullpath(ext.name))
            target.parent.mkdir(parents=True, exist_ok=True)
            link = ["-shared", "-Wl,--as-needed", "-o", str(target)]
            if ext.name == SHIM:
                self._link_shim(ext, flags, core, link)
            else:
                self._link_module(ext, flags, cc, core, link)

    def _link_module(self, ext: Extension, flags: Flags, cc: list[str], core: Path, link: list[str]) -> None:
        import numpy  # a build requirement

        pedantic = {"-Wpedantic"}  # the slots of a Python module are function pointers in void *
        own = [flag for flag in flags["PQ_CFLAGS"] + flags["PQ_WARNINGS"] if flag not in pedantic]
        foreign = ["-isystem", sysconfig.get_path("include"), "-isystem", numpy.get_include()]
        command = [*cc, *own, "-Icsrc/include", "-Icsrc", *foreign]
        objects = compile_all([(Path(source), command) for source in ext.sources])
        subprocess.run([*cc, *link, *objects, str(core), "-fopenmp", "-lm", "-lpthread"], check=True)

    def _link_shim(self, ext: Extension, flags: Flags, core: Path, link: list[str]) -> None:
        torch = find_torch()
        assert torch is not None  # extensions() has asked before
        cxx = compiler("CXX", ("g++", "c++", "clang++"))
        headers = [f"-isystem{torch}/include", f"-isystem{torch}/include/torch/csrc/api/include"]
        own = [*flags["PQ_CXXFLAGS"], TORCH_TARGET, "-Icsrc/include", "-Icsrc", *headers]
        objects = compile_all([(Path(source), cxx + own) for source in ext.sources])
        # No rpath: whoever loads the shim has loaded torch. -z defs finds a missing symbol now, not then.
        libraries = [f"-L{torch}/lib", "-ltorch_cpu", "-lc10", "-Wl,-z,defs", "-fopenmp", "-lm", "-lpthread"]
        subprocess.run([*cxx, *link, *objects, str(core), *libraries], check=True)


def suffix_of(source: Path, flags: Flags) -> str | None:
    last = source.stem.rpartition("_")[2]
    return last if last in flags["PQ_X86_SUFFIXES"] + flags["PQ_ARM_SUFFIXES"] else None


def is_for_this_machine(source: Path, flags: Flags) -> bool:
    machine = platform.machine().lower()
    here = flags["PQ_X86_SUFFIXES"] if machine in ("x86_64", "amd64") else []
    here = flags["PQ_ARM_SUFFIXES"] if machine in ("aarch64", "arm64") else here
    suffix = suffix_of(source, flags)
    return suffix is None or suffix in here


def isa_flags(source: Path, flags: Flags, cc: list[str]) -> list[str]:
    suffix = suffix_of(source, flags)
    if suffix is None:
        return []
    is_clang = b"clang" in subprocess.run([*cc, "--version"], check=True, capture_output=True).stdout
    compiler = "CLANG" if is_clang else "GCC"
    return flags[f"PQ_FLAGS_{suffix}"] + flags.get(f"PQ_{compiler}_FLAGS_{suffix}", [])


def compile_all(jobs: list[tuple[Path, list[str]]]) -> list[str]:
    """Object files of `(source, command)` pairs, those that are out of date compiled anew."""
    workers = int(os.environ.get("PYQUANT_BUILD_JOBS", len(os.sched_getaffinity(0))))
    with ThreadPoolExecutor(max(1, workers)) as pool:
        return list(pool.map(compile_one, *zip(*jobs, strict=True))) if jobs else []


def compile_one(source: Path, command: list[str]) -> str:
    target = BUILD / source.with_suffix(".o")
    stamp, dependencies = target.with_suffix(".cmd"), target.with_suffix(".d")
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [*command, "-MMD", "-MF", str(dependencies), "-c", str(source), "-o", str(target)]
    line = shlex.join(command)
    if not (stamp.is_file() and stamp.read_text() == line and is_newer(target, dependencies)):
        stamp.unlink(missing_ok=True)
        print(line, flush=True)
        if subprocess.run(command).returncode != 0:
            raise SystemExit(f"pyquant: compiling {source} failed")
        stamp.write_text(line)
    return str(target)


def is_newer(target: Path, dependencies: Path) -> bool:
    """Whether the object is newer than all that the compiler read for it."""
    if not (target.is_file() and dependencies.is_file()):
        return False
    inputs = dependencies.read_text().replace("\\\n", " ").partition(":")[2].split()
    built = target.stat().st_mtime_ns
    return all(os.path.exists(name) and os.stat(name).st_mtime_ns < built for name in inputs)


def extensions() -> list[Extension]:
    def sources(pattern: str) -> list[str]:
        return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))

    found = [Extension("pyquant._C", sources("csrc/python/*.c"))]
    if torch_to_build_with() is not None:
        found.append(Extension(SHIM, sources("csrc/torch/*.cpp")))
    return found


setup(ext_modules=extensions(), cmdclass={"build_ext": Build})
