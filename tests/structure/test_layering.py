"""Dependencies run one way (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.structure.project import (
    CSRC,
    FLOAT_FAMILIES,
    INTEGER_FAMILIES,
    ISAS,
    PACKAGE,
    family_sources,
    without_comments,
)

# Directory -> directories it may include from, besides itself. "pyquant" is csrc/include/pyquant. A family
# knows another family only through its public header.
FAMILIES = {family: {"pyquant", "core"} for family in (*INTEGER_FAMILIES, *FLOAT_FAMILIES, "sim")}
C_MAY_INCLUDE = {
    "include": {"pyquant"},
    "core": {"pyquant"},
    **FAMILIES,
    "gemm": {"pyquant", "core", "elementwise"},  # a table or an add follows on each block of a product
    "attention": {"pyquant", "core", "softmax"},
    # Exponentials exist once, and weights are quantized by the kernels that quantize activations.
    "derive": {"pyquant", "core", "observe", "quantize", "softmax"},
    "python": {"pyquant", "core"},
    "torch": {"pyquant", "core"},
}

# Lower may not import higher. `pyquant/__init__.py` is the public face and knows all.
PYTHON_LAYERS = [
    {"_C", "_version", "errors", "qparams", "tables", "files", "coverage", "methods", "quantizer_text"},
    {
        "numerics",
        "ops",
        "metrics",
        "config",
        "candidates",
        "sensitivity_table",
        "selftest",
        "selftest_answers",
    },
    {"engine"},
    {"torch_ops"},
    {"graph", "observers", "quantizers", "batches", "scoring"},
    {"verbs", "costs", "assignment"},
    {"training"},
    {"reporting", "cli"},
]
LEVEL = {name: level for level, names in enumerate(PYTHON_LAYERS) for name in names}
WITHOUT_TORCH = {
    "_version",
    "errors",
    "qparams",
    "coverage",
    "methods",
    "quantizer_text",
    "numerics",
    "ops",
    "metrics",
    "config",
    "candidates",
    "sensitivity_table",
    "tables",
    "files",
    "engine",
    "cli",
    "costs",
    "assignment",
} | {
    "selftest",
    "selftest_answers",
}


def quoted_includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("folder", C_MAY_INCLUDE)
def test_c_includes(folder: str) -> None:
    allowed = C_MAY_INCLUDE[folder] | {folder}
    for path in sorted((CSRC / folder).rglob("*.[ch]*")):
        for name in quoted_includes(path):
            where = name.split("/")[0] if "/" in name else folder
            assert where in allowed, f"{path.relative_to(CSRC)} includes {name}"


def test_every_folder_is_covered() -> None:
    folders = {path.name for path in CSRC.iterdir() if path.is_dir()} - {"tests", "build", "python", "torch"}
    assert folders == set(C_MAY_INCLUDE) - {"python", "torch"}


def test_python_and_intrinsics_stay_where_they_belong() -> None:
    for path in sorted(CSRC.rglob("*.[ch]*")):
        text, folder = without_comments(path.read_text()), path.relative_to(CSRC).parts[0]
        includes = set(re.findall(r"#\s*include\s+<([^>]+)>", text))
        assert folder == "python" or "Python.h" not in includes, path
        assert folder == "torch" or path.suffix in (".c", ".h", ".def"), f"{path}: C++ lives in csrc/torch"
        intrinsics = {"immintrin.h", "arm_neon.h", "x86intrin.h", "simde/x86/avx512.h"} & includes
        assert not intrinsics or path.name.startswith("simd_"), f"{path} includes {intrinsics}"


def test_variants_are_pure() -> None:
    """A kernel variant never allocates, splits work, or reports: its entry has done all that."""
    forbidden = re.compile(r"\b(pq_alloc|pq_free|malloc|calloc|free|pq_fail|parallel_for|omp_\w+|printf)\b")
    for path in family_sources(*INTEGER_FAMILIES, *FLOAT_FAMILIES):
        if path.stem.rpartition("_")[2] in ISAS:
            found = forbidden.findall(without_comments(path.read_text()))
            assert not found, f"{path.relative_to(CSRC)}: {found}"


def python_imports(path: Path) -> list[tuple[str, bool]]:
    """`(module, at the top level)` of every import in a file, relative ones made absolute."""
    package = ("pyquant", *path.relative_to(PACKAGE).with_suffix("").parts)[:-1]
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "pyquant" else [module]
            found += [(name, id(node) in top) for name in names]
    return found


PYTHON_FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def layer_name(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_python_imports(path: Path) -> None:
    mine = layer_name(path)
    assert mine in LEVEL, f"{mine} has no layer: add it to PYTHON_LAYERS and to docs/architecture.md"
    for module, at_top in python_imports(path):
        parts = module.split(".")
        if parts[0] == "torch":
            assert not (mine in WITHOUT_TORCH and at_top), f"{mine} must import without torch"
        if parts[0] == "pyquant" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[mine], f"{mine} imports {module}"


def test_the_walk_sees_imports() -> None:
    """The two tests above would pass if this function found nothing."""
    found = {name for path in PYTHON_FILES for name, _ in python_imports(path)}
    assert {"torch", "pyquant.errors"} <= found
