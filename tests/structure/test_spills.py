"""No register tile spills: the loops that do the work touch the stack with no vector register.

A tile fits the registers by count only; compilers still spill it by moving loads up or by keeping copies
(csrc/flags.mk lists what keeps them from it). Each ISA's objects are compiled with each compiler that is
installed, whatever this machine can run, and disassembled.
"""

from __future__ import annotations

import platform
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.structure.disassembly import AARCH64, X86, Machine, loops
from tests.structure.project import CSRC, have, run

FLAGS = dict(re.findall(r"^(\w+) =(.*)$", (CSRC / "flags.mk").read_text(), re.MULTILINE))


@dataclass(frozen=True)
class Target:
    name: str
    architecture: str
    compiler: str

    @property
    def machine(self) -> Machine:
        return X86 if self.architecture == "x86_64" else AARCH64

    @property
    def objdump(self) -> str:
        return "objdump" if self.architecture == platform.machine() else "aarch64-linux-gnu-objdump"

    def flags(self, suffix: str) -> list[str]:
        own = "CLANG" if self.compiler.startswith("clang") else "GCC"
        names = ("PQ_CFLAGS", f"PQ_FLAGS_{suffix}", f"PQ_{own}_FLAGS_{suffix}")
        return [word for name in names for word in FLAGS.get(name, "").split()]


CROSS_CLANG = "clang --target=aarch64-linux-gnu -isystem /usr/aarch64-linux-gnu/include"
HERE = [Target(name, platform.machine(), name) for name in ("gcc", "clang")]
CROSS = [
    Target("aarch64-gcc", "aarch64", "aarch64-linux-gnu-gcc"),
    Target("aarch64-clang", "aarch64", CROSS_CLANG),
]
TARGETS = HERE + (CROSS if platform.machine() == "x86_64" else [])


def usable(target: Target) -> None:
    tools = ["make", target.compiler.split()[0], target.objdump]
    if target.compiler == CROSS_CLANG:
        tools.append("aarch64-linux-gnu-gcc")  # its package brings the C library's headers
    if target.architecture not in ("x86_64", "aarch64") or not have(*tools):
        pytest.skip(f"not checked: {target.name} objects (needs {', '.join(tools)})")


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_register_tiles_stay_in_registers(target: Target) -> None:
    usable(target)
    folder = CSRC / "build" / f"wide-{target.name}"
    run("make", "-s", "-k", "-j2", "-C", CSRC, f"CC={target.compiler}", f"BUILD={folder}", "wide")
    tiles, spilled = dict[str, int](), dict[str, list[str]]()
    for source in sorted(CSRC.glob("*/*.c")):
        built = folder / source.relative_to(CSRC).with_suffix(".o")
        if built.is_file() and source.parent.name != "tests":
            found = [loop for loop in loops(built, target.machine, target.objdump) if loop.is_tile]
            tiles[source.stem] = len(found)
            for loop in found:
                if loop.spills:
                    spilled.setdefault(source.name, []).append(f"{loop.function}: {'; '.join(loop.spills)}")
    assert not spilled
    kernels = [name for name in tiles if re.match(r"(gemm|attention)_.*(avx|dot)", name)]
    assert len(kernels) >= 2
    assert all(tiles[name] for name in kernels), (
        f"no tile found in one of {tiles}: has the code's shape changed?"
    )


TILE = """
#include <stddef.h>
{include}
#define UNROLL _Pragma("{unroll}")
typedef {vector} v;
void tile(v *out, const char *x, const char *w, size_t n) {{
    v acc[{rows}][{columns}];
    UNROLL
    for (int i = 0; i < {rows}; i++) {{
        UNROLL
        for (int j = 0; j < {columns}; j++) {{
            acc[i][j] = out[i * {columns} + j];
        }}
    }}
    for (size_t p = 0; p < n; p++) {{
        UNROLL
        for (int i = 0; i < {rows}; i++) {{
            const v a = {broadcast};
            UNROLL
            for (int j = 0; j < {columns}; j++) {{
                acc[i][j] = {step};
            }}
        }}
        x += 4;
        w += {columns} * sizeof(v);
    }}
    UNROLL
    for (int i = 0; i < {rows}; i++) {{
        UNROLL
        for (int j = 0; j < {columns}; j++) {{
            out[i * {columns} + j] = acc[i][j];
        }}
    }}
}}
"""
AVX2_TILE = {
    "include": "#include <immintrin.h>",
    "vector": "__m256i",
    "broadcast": "_mm256_set1_epi32(((const int *)x)[i * 64])",
    "step": "_mm256_add_epi32(acc[i][j], _mm256_madd_epi16(a, ((const v *)w)[j]))",
}
VNNI_TILE = {
    "include": "#include <immintrin.h>",
    "vector": "__m512i",
    "broadcast": "_mm512_set1_epi32(((const int *)x)[i * 64])",
    "step": "_mm512_dpbusd_epi32(acc[i][j], a, ((const v *)w)[j])",
}
DOT_TILE = {
    "include": "#include <arm_neon.h>",
    "vector": "int32x4_t",
    "broadcast": "vdupq_n_s32(((const int *)x)[i * 64])",
    "step": "vdotq_s32(acc[i][j], (int8x16_t)a, vld1q_s8((const signed char *)(w + 16 * j)))",
}
PLANTED = {
    ("x86_64", "avx2"): (AVX2_TILE, (6, 2), (8, 4)),
    ("x86_64", "avx512vnni"): (VNNI_TILE, (6, 4), (10, 4)),
    ("aarch64", "neondot"): (DOT_TILE, (6, 4), (10, 4)),
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_planted_spill_is_found(target: Target, tmp_path: Path) -> None:
    usable(target)
    for (architecture, suffix), (parts, fits, too_large) in PLANTED.items():
        if architecture != target.architecture:
            continue
        unroll = "clang loop unroll(full)" if target.compiler.startswith("clang") else "GCC unroll 16"
        for rows, columns in (fits, too_large):
            source, built = tmp_path / f"tile_{suffix}_{rows}.c", tmp_path / f"tile_{suffix}_{rows}.o"
            source.write_text(TILE.format(rows=rows, columns=columns, unroll=unroll, **parts))
            compiler = shlex.split(target.compiler)
            run(*compiler, *target.flags(suffix), "-c", source, "-o", built)
            (tile,) = [loop for loop in loops(built, target.machine, target.objdump) if loop.is_tile]
            assert tile.multiply_adds == rows * columns
            assert bool(tile.spills) == ((rows, columns) == too_large), (source.read_text(), tile)
