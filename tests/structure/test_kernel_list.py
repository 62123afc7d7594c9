"""csrc/core/kernels.def is complete: every kernel has a row, every row a kernel, in a file of its name."""

from __future__ import annotations

import re

from tests.structure.project import (
    CSRC,
    FLOAT_FAMILIES,
    INTEGER_FAMILIES,
    ISAS,
    ROOT,
    family_sources,
    kernel_rows,
    without_comments,
)

SOURCES = family_sources(*INTEGER_FAMILIES, *FLOAT_FAMILIES)
DEFINITION = re.compile(rf"^const struct pq_(\w+)_kernel pq_(\w+)_({'|'.join(ISAS)})\b", re.MULTILINE)
NEEDS = {
    "ref": set(),
    "avx2": {"PQ_CPU_AVX2"},
    "avx512": {"PQ_CPU_AVX512"},
    "avx512vnni": {"PQ_CPU_AVX512", "PQ_CPU_AVX512VNNI"},
    "neon": {"PQ_CPU_NEON"},
    "neondot": {"PQ_CPU_NEON", "PQ_CPU_DOTPROD"},
}


def test_rows_and_definitions_are_the_same_set() -> None:
    defined = {}
    for path in SOURCES:
        for struct_op, op, isa in DEFINITION.findall(without_comments(path.read_text())):
            assert struct_op == op, f"{path}: pq_{op}_{isa} is a struct pq_{struct_op}_kernel"
            assert path.stem == f"{op}_{isa}", f"pq_{op}_{isa} is defined in {path.name}"
            defined[op, isa] = path
    listed = {(op, isa) for op, isa, _ in kernel_rows()}
    assert listed == set(defined)


def test_no_row_twice_and_ref_first() -> None:
    rows = [(op, isa) for op, isa, _ in kernel_rows()]
    assert len(rows) == len(set(rows))
    for op in dict.fromkeys(op for op, _ in rows):
        order = [ISAS.index(isa) for other, isa in rows if other == op]
        assert order[0] == 0, f"{op}: the first row must be ref"
        assert order == sorted(order), f"{op}: rows run slow -> fast"


def test_needs_cover_the_flags_of_the_file() -> None:
    for op, isa, needs in kernel_rows():
        words = set(re.findall(r"PQ_CPU_\w+", needs))
        assert NEEDS[isa] <= words, f"{op}, {isa}: needs {needs}"


def test_every_wide_file_has_a_reference_beside_it() -> None:
    """Also helpers that are no kernels of their own, such as a softmax method."""
    for path in SOURCES:
        stem, _, suffix = path.stem.rpartition("_")
        if suffix in ISAS[1:]:
            assert path.with_name(f"{stem}_ref.c").is_file(), f"{path.relative_to(CSRC)} has no _ref"


def test_every_kernel_is_named_by_a_test() -> None:
    tests = [*(CSRC / "tests").glob("*.[ch]"), *(ROOT / "tests").rglob("*.py")]
    text = "\n".join(path.read_text() for path in tests)
    for op in {op for op, _, _ in kernel_rows()}:
        assert re.search(rf"(PQ_KERNEL_OP_|pq_|ops\.|_C\.|\"){op}", text), f"no test names {op}"
