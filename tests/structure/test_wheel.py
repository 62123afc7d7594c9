"""A wheel builds, holds what it should, and its shared objects need nothing unusual."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.structure.project import PACKAGE, ROOT, have, run

pytestmark = pytest.mark.skipif(not have("objdump", "nm", "gcc"), reason="needs a compiler and binutils")

C_LIBRARIES = {"libc.so.6", "libm.so.6", "libgomp.so.1", "libpthread.so.0"}
LOADERS = {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
CXX_LIBRARIES = {"libstdc++.so.6", "libgcc_s.so.1"}
TORCH_LIBRARIES = {"libtorch_cpu.so", "libtorch.so", "libc10.so"}
MODULE = f"pyquant/_C{sysconfig.get_config_var('EXT_SUFFIX')}"
SHIM = "pyquant/lib/libpyquant_torch.so"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content. Objects come from the incremental build; build/lib would keep deleted files."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        folder,
        ".",
    ]
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "wheel.lock").open("w") as lock:  # another worker may want one too
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in (ROOT / "build").glob("lib*"):
            shutil.rmtree(stale)
        run(*command, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    (wheel,) = folder.glob("pyquant_integer-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "content")
    return folder / "content"


def dynamic(target: Path) -> tuple[set[str], bool]:
    """What an object needs, and whether it bakes a search path in."""
    header = run("objdump", "-p", target)
    return set(re.findall(r"NEEDED\s+(\S+)", header)), bool(re.search(r"\bR(UN)?PATH\b", header))


def exported(target: Path) -> set[str]:
    lines = run("nm", "-D", "--defined-only", target).splitlines()
    return {line.split()[-1].partition("@")[0] for line in lines}


def test_content(unpacked: Path) -> None:
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    package = {name for name in files if name.startswith("pyquant/")}
    python = {str(p.relative_to(ROOT)) for p in PACKAGE.rglob("*.py*") if p.suffix in (".py", ".pyi")}
    expected = python | {"pyquant/py.typed", "pyquant/reporting/page.html.j2", MODULE}
    assert package - {SHIM} == expected
    others = {name for name in files - package if ".dist-info/" not in name}
    assert others == set()
    assert any(name.endswith("licenses/LICENSE") for name in files)


def test_module(unpacked: Path) -> None:
    needed, has_rpath = dynamic(unpacked / MODULE)
    assert needed <= C_LIBRARIES | LOADERS
    assert not has_rpath
    assert exported(unpacked / MODULE) == {"PyInit__C"}


def test_shim(unpacked: Path) -> None:
    if not (unpacked / SHIM).is_file():
        pytest.skip("not checked: the shim was not built (no torch)")
    needed, has_rpath = dynamic(unpacked / SHIM)
    assert needed <= C_LIBRARIES | LOADERS | CXX_LIBRARIES | TORCH_LIBRARIES
    assert not has_rpath
    assert not {name for name in exported(unpacked / SHIM) if name.startswith(("pq_", "Py"))}


def test_metadata(unpacked: Path) -> None:
    (metadata,) = unpacked.glob("*.dist-info/METADATA")
    text = metadata.read_text()
    assert "\nName: pyquant-integer\n" in text
    assert "\nLicense-Expression: Apache-2.0\n" in text
    required = set(re.findall(r"^Requires-Dist: ([\w-]+)(?![^\n]*extra ==)", text, re.MULTILINE))
    assert required == {"numpy", "safetensors", "pyyaml", "tqdm", "typer", "rich"}
    (scripts,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "pyquant = pyquant.cli:main" in scripts.read_text()
