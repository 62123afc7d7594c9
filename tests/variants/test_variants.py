"""Every instruction set and every number of threads give the reference's bits, on shapes at the edges.

Larger shapes than the specification can do in time; the reference on one thread is the definition here (it
equals the specification: tests/spec/test_reference.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyquant import _C
from tests.spec import cases, norm_cases
from tests.spec.cases import ENDS, Case, all_types
from tests.variants.calls import actual, eligible_isas, limited_to, traced

THREADS = (1, 2, 3)
# 0, 1, around the widths of vectors and tiles (8, 16, 32, 64), a prime, one large.
EDGES = (0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 257)


def gemm_cases() -> list[Case]:
    rng = np.random.default_rng(0)
    made = []
    for dtype in ("int8", "int16", "int32"):
        made += [cases.gemm(rng, edge, 33, 40, dtype) for edge in EDGES]
        made += [cases.gemm(rng, 7, edge, 40, dtype) for edge in EDGES]
        made += [cases.gemm(rng, 7, 33, edge, dtype) for edge in EDGES]
        made += [cases.gemm(rng, 6, 64, 256, dtype, kind) for kind in ENDS]
        made += [cases.gemm(rng, 197, 389, 384, dtype), cases.gemm(rng, 3, 5, 8000, dtype, "high")]
    return made


def gemm_s8s4_cases() -> list[Case]:
    rng = np.random.default_rng(5)
    made = []
    for dtype, group_size in (("int8", 0), ("int16", 32), ("int32", 12)):
        made += [cases.gemm_s8s4(rng, edge, 33, 40, group_size, dtype) for edge in EDGES]
        made += [cases.gemm_s8s4(rng, 7, edge, 40, group_size, dtype) for edge in EDGES]
        made += [cases.gemm_s8s4(rng, 7, 33, edge, group_size, dtype) for edge in EDGES]
        made += [cases.gemm_s8s4(rng, 1, 130, edge, group_size, dtype, least=-8) for edge in EDGES]
        made += [cases.gemm_s8s4(rng, 6, 64, 256, group_size, dtype, kind, -8) for kind in ENDS]
        made += [cases.gemm_s8s4(rng, 197, 389, 384, group_size, dtype)]
        made += [cases.gemm_s8s4(rng, 3, 5, 8000, group_size, dtype, "high")]
    return made


def attention_cases() -> list[Case]:
    rng = np.random.default_rng(1)
    made = []
    for method in ("table16", "table8"):
        made += [cases.attention(rng, (1, 1, 1, edge, 19, 16), method) for edge in EDGES]
        made += [cases.attention(rng, (1, 2, 1, 3, edge, 16), method) for edge in EDGES]
        made += [cases.attention(rng, (1, 1, 1, 3, 19, edge), method) for edge in EDGES]
        made += [cases.attention(rng, (1, 2, 2, 9, 65, 32), method, kind) for kind in ENDS]
        for mask in ("", "keep", "add", "both"):
            for causal in (False, True):
                made += [cases.attention(rng, (2, 4, 2, 33, 37, 24), method, mask=mask, causal=causal)]
        made += [cases.attention(rng, (1, 6, 3, 197, 197, 64), method)]
        made += [cases.attention(rng, (1, 1, 1, 5, 20_000, 8), method)]  # longer than a panel of scores
    return made


def layernorm_cases() -> list[Case]:
    rng = np.random.default_rng(2)
    made = []
    for x_type, y_type in all_types():
        for rms in (False, True):
            made += [cases.layernorm(rng, 3, edge, x_type, y_type, rms=rms) for edge in EDGES[1:]]
            made += [
                cases.layernorm(rng, 3, 97, x_type, y_type, kind, rms) for kind in (*ENDS, "small", "peak")
            ]
            made += [
                cases.layernorm(rng, 2, 32767, x_type, y_type, kind, rms) for kind in ("random", "mixed")
            ]
        made += [cases.layernorm(rng, edge, 24, x_type, y_type) for edge in EDGES]
        for method in norm_cases.METHODS:
            types = (x_type, y_type)
            made += [norm_cases.layernorm(rng, method, (3, edge), types) for edge in EDGES[1:]]
            made += [
                norm_cases.layernorm(rng, method, (3, 97), types, kind, True) for kind in norm_cases.KINDS
            ]
            made += [norm_cases.layernorm(rng, method, (2, 32767), types, k) for k in ("random", "mixed")]
            made += [norm_cases.layernorm(rng, method, (edge, 24), types) for edge in EDGES]
    return made


def softmax_cases() -> list[Case]:
    rng = np.random.default_rng(7)
    made = []
    for method in ("table16", "table8", *cases.SOFTMAX_METHODS):
        for x_type, y_type in all_types():
            made += [cases.softmax(rng, 3, n, x_type, y_type, method) for n in (1, 15, 65)]
        made += [cases.softmax(rng, 40, 197, "int16", "int16", method, kind) for kind in (*ENDS, "near")]
    for x_type, y_type in all_types():
        made += [cases.softmax(rng, 5, edge, x_type, y_type) for edge in EDGES]
        made += [cases.softmax(rng, edge, 21, x_type, y_type, "index") for edge in EDGES]
        made += [cases.softmax(rng, 2, 20_000, x_type, y_type, method) for method in ("table16", "sole")]
    return made


def elementwise_cases() -> list[Case]:
    rng = np.random.default_rng(3)
    sizes = (*EDGES, 100_003)
    made = [cases.table(rng, n) for n in sizes]
    for x_type, y_type in all_types():
        made += [cases.requantize(rng, n, x_type, y_type) for n in sizes]
        made += [
            cases.requantize(rng, 201, x_type, y_type, kind, s)
            for kind in ENDS
            for s in (1, 2, 30, 31, 32, 61, 62)
        ]
        for other in cases.TYPE_RANGE:
            made += [cases.add(rng, n, n, (x_type, other, y_type)) for n in sizes[1:]]
            made += [cases.add(rng, 5 * p, p, (x_type, other, y_type)) for p in (1, 3, 16, 33, 384)]
            made += [
                cases.add(rng, 99, 99, (x_type, other, y_type), kind, s)
                for kind in ENDS
                for s in (1, 31, 33, 62)
            ]
        made += [cases.mean(rng, (2, 5, edge), x_type, y_type) for edge in EDGES]
        made += [cases.mean(rng, (2, edge, 13), x_type, y_type) for edge in EDGES[1:]]
        made += [cases.mean(rng, (edge, 5, 3), x_type, y_type) for edge in EDGES]
        made += [cases.mean(rng, (1, 32767, 3), x_type, y_type, kind) for kind in ENDS]
    return made


def online_cases() -> list[Case]:
    """Around one block of 64 keys and more, a long row, and more rows than are kept at once."""
    rng = np.random.default_rng(6)
    made = [cases.attention(rng, (1, 2, 1, 3, edge, 16)) for edge in (*EDGES, 128, 129, 192)]
    made += [cases.attention(rng, (1, 1, 1, edge, 70, 16)) for edge in EDGES]
    made += [cases.attention(rng, (1, 1, 1, 3, 70, edge)) for edge in EDGES]
    made += [cases.attention(rng, (1, 2, 2, 9, 130, 32), kind=kind) for kind in ENDS]
    for causal in (False, True):
        for mask in ("keep", "add", "both"):
            made += [cases.attention(rng, (2, 4, 2, 67, 133, 24), mask=mask, causal=causal)]
    made += [cases.attention(rng, (1, 1, 1, 5, 16_384, 8)), cases.attention(rng, (1, 2, 1, 200, 600, 33))]
    return [cases.online(case) for case in made]


MADE = {
    "gemm": gemm_cases,
    "gemm_s8s4": gemm_s8s4_cases,
    "attention": attention_cases,
    "attention_online64": online_cases,
    "layernorm": layernorm_cases,
    "softmax": softmax_cases,
    "elementwise": elementwise_cases,
}


def compare(case: Case, got: Any, want: Any, how: str) -> None:
    if not np.array_equal(got, want):
        differing = np.argwhere(got != want)
        at = tuple(differing[0].tolist())
        pytest.fail(
            f"{case.op} {case.name} {how}: {len(differing)} differ, first at {at}: {got[at]} for {want[at]}"
        )


@pytest.fixture(scope="module", params=MADE)
def family(request: pytest.FixtureRequest) -> list[tuple[Case, Any]]:
    """Cases with the reference's results on one thread."""
    with limited_to("ref"):
        return [(case, actual(case, 1)) for case in MADE[request.param]()]


@pytest.mark.parametrize("isa", eligible_isas())
def test_instruction_sets_and_threads(family: list[tuple[Case, Any]], isa: str) -> None:
    with limited_to(isa):
        for case, want in family:
            for threads in THREADS:
                compare(case, actual(case, threads), want, f"on {isa} with {threads} threads")


@pytest.mark.parametrize("isa", eligible_isas())
def test_trace_changes_nothing(isa: str) -> None:
    for case in attention_cases()[-12:]:
        with limited_to(isa):
            y = actual(case)
        compare(case, traced(case)["y"], y, f"traced, against {isa}")


@pytest.mark.parametrize("isa", eligible_isas())
def test_splitting_a_batch_changes_nothing(isa: str) -> None:
    """A result belongs to its row: gemm by rows, attention by batch and head."""
    rng = np.random.default_rng(4)
    with limited_to(isa):
        case = cases.gemm(rng, 65, 70, 96, "int8")
        whole = actual(case)
        for rows in (1, 2, 5, 16, 64):
            x = case.arrays["x"]
            assert x is not None
            parts = [
                Case("gemm", "part", {**case.arrays, "x": x[i : i + rows]}, case.numbers)
                for i in range(0, 65, rows)
            ]
            compare(case, np.concatenate([actual(part) for part in parts]), whole, f"in {rows} rows on {isa}")
        case = cases.attention(rng, (4, 6, 2, 33, 35, 32))
        whole = actual(case)
        pieces = []
        for b in range(4):
            arrays = {n: a[b : b + 1] if a is not None and n in "qkv" else a for n, a in case.arrays.items()}
            pieces.append(actual(Case("attention", "part", arrays, case.numbers)))
        compare(case, np.concatenate(pieces), whole, f"sample by sample on {isa}")


@pytest.mark.parametrize("isa", eligible_isas())
def test_strided_rows_and_heads(isa: str) -> None:
    """Operands inside larger arrays, as q, k and v are inside a fused projection."""
    rng = np.random.default_rng(5)
    fused = rng.integers(-128, 128, (2, 1, 37, 3, 4, 16)).astype(np.int8)
    q, k, v = (fused[:, :, :, i].transpose(0, 1, 3, 2, 4) for i in range(3))
    case = cases.attention(rng, (2, 4, 4, 37, 37, 16))
    dense = {"q": q[:, 0], "k": k[:, 0], "v": v[:, 0]}
    with limited_to("ref"):
        want = actual(
            Case(
                "attention", "dense", {**case.arrays, **{n: a.copy() for n, a in dense.items()}}, case.numbers
            )
        )
    padded = np.zeros((65, 120), np.int8)
    padded[:, 7:103] = rng.integers(-128, 128, (65, 96))
    gemm = cases.gemm(rng, 65, 70, 96, "int8")
    rows = Case("gemm", "strided rows", {**gemm.arrays, "x": padded[:, 7:103]}, gemm.numbers)
    with limited_to("ref"):
        want_rows = actual(Case("gemm", "dense", {**gemm.arrays, "x": padded[:, 7:103].copy()}, gemm.numbers))
    with limited_to(isa):
        for threads in THREADS:
            strided = Case("attention", "strided", {**case.arrays, **dense}, case.numbers)
            compare(strided, actual(strided, threads), want, f"on {isa} with {threads} threads")
            compare(rows, actual(rows, threads), want_rows, f"on {isa} with {threads} threads")


def floats(rng: np.random.Generator, n: int) -> Any:
    """Ties, both zeros, subnormals and infinities among random values."""
    x = (rng.normal(size=n) * 30).astype(np.float32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, 1e-45, 3.4e38, 0.185, -0.555], np.float32)
    chosen = rng.random(n) < 0.2
    x[chosen] = rng.choice(special, int(chosen.sum()))
    return x


@pytest.mark.parametrize("isa", eligible_isas())
@pytest.mark.parametrize("dtype", cases.TYPE_RANGE)
def test_quantize(dtype: str, isa: str) -> None:
    rng = np.random.default_rng(6)
    low, high = cases.TYPE_RANGE[dtype]
    out = {"zero_point": 3, "quant_min": low, "quant_max": high}
    for n in (*EDGES, 100_003):
        x, scale = floats(rng, n), np.array([0.37], np.float32)
        with limited_to("ref"):
            want = _C.quantize(x, scale, **out, dtype=dtype, threads=1)
            back = _C.dequantize(want, scale, zero_point=3, threads=1)
        with limited_to(isa):
            for threads in THREADS:
                np.testing.assert_array_equal(
                    _C.quantize(x, scale, **out, dtype=dtype, threads=threads), want
                )
                np.testing.assert_array_equal(_C.dequantize(want, scale, zero_point=3, threads=threads), back)
                np.testing.assert_array_equal(_C.fake_quantize(x, scale, **out, threads=threads), back)
    for shape, axis in (((5, 7, 9), 1), ((3, 64), 1), ((64, 33), 0), ((2, 3, 257), 1)):
        x = floats(rng, int(np.prod(shape))).reshape(shape)
        scale = rng.uniform(0.05, 0.5, shape[axis]).astype(np.float32)
        with limited_to("ref"):
            want = _C.quantize(x, scale, **out, axis=axis, dtype=dtype, threads=1)
        with limited_to(isa):
            for threads in THREADS:
                got = _C.quantize(x, scale, **out, axis=axis, dtype=dtype, threads=threads)
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("isa", eligible_isas())
def test_observers(isa: str) -> None:
    rng = np.random.default_rng(7)
    for n in (1, 7, 8, 9, 33, 257, 300_007):
        x = (rng.normal(size=n) * 2.0 ** rng.integers(-9, 9, n)).astype(np.float32)
        states = []
        for name, threads in (("ref", 1), *((isa, t) for t in THREADS)):
            low, high = np.full(1, np.inf, np.float32), np.full(1, -np.inf, np.float32)
            counts = np.zeros(_C.HISTOGRAM_BINS, np.int64)
            meta = np.array([0, np.inf, -np.inf, _C.HISTOGRAM_EMPTY], np.float64)
            with limited_to(name):
                _C.observe_minmax(x, low, high, threads=threads)
                _C.observe_histogram(x, counts, meta, threads=threads)
            states.append(np.concatenate([low, high, counts, meta]))
        for state in states[1:]:
            np.testing.assert_array_equal(state, states[0])


@pytest.mark.parametrize("dtype", ["int8", "int16", "int64"])
def test_layout_with_threads(dtype: str) -> None:
    rng = np.random.default_rng(8)
    x = rng.integers(0, 100, (64, 197, 24)).astype(dtype)
    table, index = x.reshape(-1, 24), rng.integers(0, 64 * 197, 5000).astype(np.int32)
    for threads in THREADS:
        got = _C.copy(x.ravel(), (24, 64, 197), (1, 197 * 24, 24), 0, threads=threads)
        np.testing.assert_array_equal(got, x.transpose(2, 0, 1))
        np.testing.assert_array_equal(_C.gather(table, index, threads=threads), table[index])
        parts = [x.reshape(64, -1), table[:1], x.reshape(64, -1)[:, :5].copy()]
        want = np.concatenate([np.broadcast_to(p, (64, p.shape[1])) for p in parts], axis=1)
        np.testing.assert_array_equal(_C.concat(parts, 64, threads=threads), want)
