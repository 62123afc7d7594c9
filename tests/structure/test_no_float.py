"""The integer families contain no float arithmetic: their objects are disassembled.

Moves, shuffles and logic pass, because a compiler moves integers through any register (`movups`, `xorps`,
`vblendvpd`). Refused: arithmetic, comparison, conversion, sqrt, reciprocal, rounding, FMA, all of x87, and
calls of functions that might do it instead.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import pytest

from tests.structure.project import CSRC, INTEGER_FAMILIES, family_sources, have, run

KINDS = "(?:ps|pd|ss|sd|ph|sh)"
X86 = re.compile(
    "|".join(
        [
            rf"v?(?:add|sub|mul|div|min|max|sqrt|rcp|rsqrt|round|addsub|hadd|hsub|dp|comi|ucomi){KINDS}",
            rf"v?cmp\w*{KINDS}",
            r"v?cvt\w+",
            rf"v(?:rcp|rsqrt)(?:14|28){KINDS}",
            r"v(?:rndscale|reduce|range|getexp|getmant|scalef|fixupimm|fpclass|exp2)\w+",
            r"vf(?:n?m(?:add|sub)|maddsub|msubadd|c?madd|c?mul)\w+",
            r"vdpbf16ps",
            r"f(?!s$)\w+",  # x87: no other instruction begins with f
        ]
    )
)
# bfi, bfc, bfm, bfxil move bits; fmov moves a register.
AARCH64 = re.compile(r"f(?!mov$)\w+|[su]cvtf|bf(?:dot|mmla|mlal\w|cvt\w*)")

# What integer code may call outside itself.
ALLOWED_CALLS = re.compile(
    r"pq_\w+|mem(?:cpy|set|move|cmp|chr)|str(?:len|n?cmp|c?spn)|v?snprintf|abort|__assert_fail|__stack_chk_fail"
    r"|__(?:mem|v?sn)\w+_chk|pthread_(?:mutex|once)\w*|sysconf|__aarch64_\w+|_GLOBAL_OFFSET_TABLE_|qsort|__tls_get_addr"
)


def mnemonics(target: str, objdump: str) -> list[str]:
    listing = run(objdump, "-d", "--no-show-raw-insn", target)
    found = []
    for line in listing.splitlines():
        code = re.match(r"\s+[0-9a-f]+:\t(.*)", line)
        if code:
            words = [w for w in code.group(1).split() if w not in PREFIXES]
            found.append(words[0] if words else "")
    return found


PREFIXES = {"rep", "repz", "repnz", "lock", "bnd", "notrack", "data16", "cs", "ds", "es", "fs", "gs", "ss"}


def float_code(target: Path, objdump: str = "objdump", pattern: re.Pattern[str] = X86) -> set[str]:
    return {word for word in mnemonics(str(target), objdump) if pattern.fullmatch(word)}


def float_calls(target: Path, nm: str = "nm") -> set[str]:
    names = run(nm, "-u", target).split()
    return {name for name in names if name not in ("U", "w", "v") and not ALLOWED_CALLS.fullmatch(name)}


@pytest.mark.skipif(not have("make", "cc", "objdump", "nm"), reason="needs a compiler and binutils")
@pytest.mark.parametrize("target", ["native", "aarch64"])
def test_integer_families(target: str) -> None:
    machine = platform.machine()
    prefix = "" if target == "native" else "aarch64-linux-gnu-"
    if prefix and (machine == "aarch64" or not have(f"{prefix}gcc", f"{prefix}objdump")):
        pytest.skip("not checked: AArch64 objects (no cross compiler)")
    folder = CSRC / "build" / ("plain" if target == "native" else "aarch64")
    compiler = f"{prefix}gcc" if prefix else os.environ.get("CC", "cc")
    run("make", "-s", "-j2", "-C", CSRC, f"CC={compiler}", f"BUILD={folder}", "lib")
    pattern = AARCH64 if prefix or machine == "aarch64" else X86

    checked = {}
    for source in family_sources(*INTEGER_FAMILIES):
        built = folder / source.relative_to(CSRC).with_suffix(".o")
        foreign = ("neon", "neondot") if pattern is X86 else ("avx2", "avx512", "avx512vnni")
        if source.stem.rpartition("_")[2] in foreign:
            continue
        found = float_code(built, f"{prefix}objdump", pattern) | float_calls(built, f"{prefix}nm")
        checked[source.name] = found
    guilty = {name: found for name, found in checked.items() if found}
    assert not guilty
    assert len(checked) >= len(INTEGER_FAMILIES)


PLANTED = {
    "arithmetic": "float f(float a, float b) { return a * b; }",
    "comparison": "int f(double a, double b) { return a < b; }",
    "conversion": "int f(float a) { return (int)a; }",
    "from integer": "float f(int a) { return (float)a; }",
    "sqrt": "double f(double a) { return __builtin_sqrt(a); }",
    "call": "double cbrt(double); double f(double a) { return cbrt(a); }",
    "vector": "void f(float *a, float b) { for (int i = 0; i < 64; i++) a[i] += b; }",
    "fma": "float f(float a, float b, float c) { return __builtin_fmaf(a, b, c); }",
}


def build(tmp_path: Path, code: str) -> Path:
    source, target = tmp_path / "planted.c", tmp_path / "planted.o"
    source.write_text(code)
    wide = ["-mavx2", "-mfma"] if platform.machine() == "x86_64" else []
    run(os.environ.get("CC", "cc"), "-O2", "-fno-math-errno", *wide, "-c", source, "-o", target)
    return target


HERE = X86 if platform.machine() == "x86_64" else AARCH64


@pytest.mark.skipif(not have("cc", "objdump", "nm"), reason="needs a compiler and binutils")
@pytest.mark.parametrize("what", PLANTED)
def test_planted_float_is_found(what: str, tmp_path: Path) -> None:
    target = build(tmp_path, PLANTED[what])
    assert float_code(target, pattern=HERE) | float_calls(target)


@pytest.mark.skipif(platform.machine() != "x86_64" or not have("cc", "objdump"), reason="x87 is x86")
def test_planted_x87_is_found(tmp_path: Path) -> None:
    target = build(tmp_path, "long double f(long double a, long double b) { return a + b; }")
    assert {"fldt", "faddp"} <= float_code(target)


@pytest.mark.skipif(not have("cc", "objdump", "nm"), reason="needs a compiler and binutils")
def test_integer_code_passes(tmp_path: Path) -> None:
    code = """
    #include <stdint.h>
    #include <string.h>
    void f(int32_t *y, const int8_t *x, int n) { for (int i = 0; i < n; i++) y[i] += x[i] * 3; }
    void g(int32_t *y, const int32_t *x) { memcpy(y, x, 4096); y[0] = x[1] / x[2]; }
    """
    target = build(tmp_path, code)
    assert not float_code(target, pattern=HERE)
    assert not float_calls(target)


HARMLESS = "vmovaps shufps vxorps vblendvpd vpmaddwd vpcmpeqb vperm2f128 vpsubd setae cwtl"
FLOAT = (
    "vaddps mulss vcmpltps vcmpneq_oqpd ucomisd cvttss2si vcvtdq2ps vroundps vrndscaleps vfmadd231ps"
    " vfnmsub132sd rcpps vrsqrt14ps fldt fmulp vmaxpd vdpbf16ps vgetexpps"
)


@pytest.mark.parametrize("word", HARMLESS.split())
def test_moves_and_integers_are_not_refused(word: str) -> None:
    assert not X86.fullmatch(word)


@pytest.mark.parametrize("word", FLOAT.split())
def test_float_words_are_refused(word: str) -> None:
    assert X86.fullmatch(word)
