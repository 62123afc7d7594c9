"""Where things are, and the few ways in which the structure tests look at them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "pyquant"

INTEGER_FAMILIES = ("gemm", "softmax", "attention", "layernorm", "elementwise", "unary", "layout", "engine")
FLOAT_FAMILIES = ("quantize", "levels", "derive", "observe", "metrics", "fake")
ISAS = ("ref", "avx2", "avx512", "avx512vnni", "neon", "neondot")


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def have(*tools: str) -> bool:
    return all(shutil.which(tool) for tool in tools)


def family_sources(*families: str) -> list[Path]:
    return sorted(path for family in families for path in (CSRC / family).glob("*.c"))


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)


def kernel_rows() -> list[tuple[str, str, str]]:
    """`(op, isa, needs)` of csrc/core/kernels.def, the rows of all architectures."""
    text = without_comments((CSRC / "core/kernels.def").read_text())
    rows = re.findall(r"^PQ_KERNEL\((\w+), (\w+), ([^\n]+)\)$", text, re.MULTILINE)
    assert rows, "no rows found: has the format of kernels.def changed?"
    return rows
