"""Every AVX-512 and NEON intrinsic that a kernel uses has a row in csrc/tests/test_simd_*.c.

Those rows make an emulated kernel evidence: SIMDe has gaps and a few wrong results, so nothing of it is
believed that no row has compared with a plain model.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.structure.project import CSRC, without_comments

X86 = re.compile(r"\b_mm(?:256|512)?_\w+")
NEON = re.compile(r"\bv[a-z0-9]+(?:_[a-z0-9]+)*_[suf](?:8|16|32|64)(?=\()")
ROW = re.compile(r"\b(?:ROW|MASK_ROW|STORE_ROW)\((\w+),")
PASTED = re.compile(r"\b(?:_mm\w*|v[a-z0-9]+_\w*)##|##_(?:epi|epu|ps|pd|si512|mask|[suf](?:8|16|32|64))\b")
FOREIGN = re.compile(r"#\s*include\s*[<\"]((?:\w*intrin|arm_\w+)\.h|simde/[^>\"]+)[>\"]")
NO_RESULT = {"_mm_prefetch", "_mm_sfence"}


def sources() -> list[Path]:
    """All C code but the wrappers themselves, their tests and what is built."""
    found = [path for path in CSRC.rglob("*.[ch]") if not {"build", "tests"} & set(path.parts)]
    return [path for path in found if not path.name.startswith("simd_")]


def intrinsics(name: str, text: str) -> set[str]:
    """Intrinsics of emulated ISAs in the text of a source file of this name."""
    text = without_comments(text)
    found = set(X86.findall(text)) - NO_RESULT
    if "avx512" not in name:
        found = {word for word in found if word.startswith("_mm512_")}
    return found | (set(NEON.findall(text)) if "neon" in name else set())


def rows() -> set[str]:
    tests = list((CSRC / "tests").glob("test_simd_*.c"))
    return {name for path in tests for name in ROW.findall(without_comments(path.read_text()))}


def test_every_intrinsic_of_a_kernel_has_a_row() -> None:
    used = {path: intrinsics(path.name, path.read_text()) for path in sources()}
    have = rows()
    missing = {str(path.relative_to(CSRC)): sorted(names - have) for path, names in used.items()}
    missing = {path: names for path, names in missing.items() if names}
    assert not missing, "add rows to csrc/tests/test_simd_*.c (csrc/tests/simd_rows.h says how)"
    assert sum(len(names) for names in used.values()) > 100


@pytest.mark.parametrize("header", ["simd_avx512_missing.h", "simd_neon.h"])
def test_every_fallback_has_a_row(header: str) -> None:
    text = without_comments((CSRC / "core" / header).read_text())
    defined = set(re.findall(r"^#define ((?:_mm|v)\w+)", text, re.MULTILINE))
    assert defined
    assert defined <= rows()


def test_names_are_written_in_full() -> None:
    """A name pasted together by the preprocessor is hidden from this test."""
    for path in sources():
        if "avx512" in path.name or "neon" in path.name:
            assert not PASTED.search(without_comments(path.read_text())), f"{path}: write intrinsics in full"


def test_only_the_wrappers_include_intrinsics() -> None:
    """cpuid.h and sys/auxv.h are no intrinsics; `core/cpu.c` may."""
    guilty = {str(path.relative_to(CSRC)): FOREIGN.findall(path.read_text()) for path in sources()}
    assert {path: names for path, names in guilty.items() if names} == {}


def test_what_the_collector_sees() -> None:
    code = """
    __m512i a = _mm512_add_epi32(b, c); /* _mm512_sub_epi32 */
    _mm256_mask_storeu_epi8(p, k, _mm256_cvtepi32_epi8(_mm256_loadu_si256(q)));
    x = _mm256_add_epi32(_mm256_cvtepi8_epi32(y), _mm256_dpbusd_epi32(z, u, v));
    """
    narrow = {
        "mask_storeu_epi8",
        "cvtepi32_epi8",
        "loadu_si256",
        "add_epi32",
        "cvtepi8_epi32",
        "dpbusd_epi32",
    }
    wide = {"_mm512_add_epi32", *(f"_mm256_{name}" for name in narrow)}
    assert intrinsics("gemm_avx512vnni.c", code) == wide
    assert intrinsics("gemm_avx2.c", code) == {"_mm512_add_epi32"}
    code = "int32x4_t s = vdotq_laneq_s32(a, vld1q_s8(p), value_of(x), 1); vreinterpretq_s16_u16(v);"
    assert intrinsics("gemm_neondot.c", code) == {"vdotq_laneq_s32", "vld1q_s8", "vreinterpretq_s16_u16"}
    assert FOREIGN.search("#include <immintrin.h>")
    assert FOREIGN.search("#include <arm_neon.h>")
    assert PASTED.search("_mm512_add_##type(a, b)")
