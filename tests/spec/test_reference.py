"""The C kernels equal the specification bit for bit: every op, every instruction set of this machine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.spec import arrays, layout, numbers, observe
from tests.spec.cases import TYPE_RANGE, Case, integers, small_cases
from tests.spec.numbers import Affine, float32
from tests.variants.calls import _C, actual, eligible_isas, limited_to, traced

CASES = small_cases()
EXPECTED = [arrays.expected(case) for case in CASES]
OPS = sorted({case.op for case in CASES})


@pytest.fixture(params=eligible_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with limited_to(request.param):
        yield request.param


def cases_of(op: str) -> list[tuple[Case, dict[str, np.ndarray]]]:
    return [(case, y) for case, y in zip(CASES, EXPECTED, strict=True) if case.op == op]


def check(got: np.ndarray, want: np.ndarray, what: str) -> None:
    assert got.dtype == want.dtype, what
    np.testing.assert_array_equal(got, want, err_msg=what)


@pytest.mark.parametrize("op", OPS)
def test_kernel_is_the_specification(op: str, isa: str) -> None:
    for case, want in cases_of(op):
        check(actual(case), want["y"], f"{op} {case.name} on {isa}")


def test_attention_trace_is_the_specification() -> None:
    for case, want in cases_of("attention"):
        got = traced(case)
        for name, values in want.items():
            check(got[name], values, f"{name} of attention {case.name}")


def float_values(rng: np.random.Generator, scale: np.float32) -> np.ndarray:
    """Random values, exact ties of the division, both zeros, subnormals and infinities."""
    ties = (rng.integers(-600, 600, 200) / np.float32(2)).astype(np.float32) * scale
    odd = [0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45, 3.4e38, -3.4e38]
    return np.concatenate([ties, (rng.normal(size=99) * 100 * scale).astype(np.float32), odd]).astype(
        np.float32
    )


@pytest.mark.parametrize("dtype", TYPE_RANGE)
@pytest.mark.parametrize("scale", [0.1, 1 / 3, 2.0**-7, 0.37, 1.7e-20, 2.0**-100, 2.0**100])
def test_quantize_and_back_are_the_specification(dtype: str, scale: float, isa: str) -> None:
    rng = np.random.default_rng(3)
    low, high = TYPE_RANGE[dtype]
    for grid in (Affine(float32(scale), 5, low, high), Affine(float32(scale), -100, -120, 77)):
        constants = {"scale": np.array([grid.scale], np.float32), "zero_point": grid.zero_point}
        limits = {"quant_min": grid.quant_min, "quant_max": grid.quant_max}
        x = float_values(rng, np.float32(scale))
        want = np.array([numbers.quantize(v, grid) for v in x.tolist()], dtype)
        check(_C.quantize(x, **constants, **limits, dtype=dtype), want, f"quantize at {grid} on {isa}")
        back = np.array([numbers.dequantize(q, grid) for q in want.tolist()], np.float32)
        check(_C.dequantize(want, **constants), back, f"dequantize at {grid} on {isa}")
        check(_C.fake_quantize(x, **constants, **limits), back, f"fake_quantize at {grid} on {isa}")


def test_quantize_per_axis_is_the_specification(isa: str) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(3, 5, 7)).astype(np.float32)
    scale = rng.uniform(0.01, 0.1, 5).astype(np.float32)
    want = [
        numbers.quantize(v, Affine(float(scale[i // 7 % 5]), 3, -128, 127))
        for i, v in enumerate(x.ravel().tolist())
    ]
    got = _C.quantize(x, scale, zero_point=3, axis=1)
    check(got, np.array(want, np.int8).reshape(x.shape), f"per axis on {isa}")


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        _C.quantize(np.array([1.0, np.nan], np.float32), np.array([0.1], np.float32))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
def test_layout_is_the_specification(dtype: str, isa: str) -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(0, 100, 60).astype(dtype)
    for dims, strides, offset in [
        ((3, 4, 5), (20, 5, 1), 0),
        ((5, 4, 3), (1, 5, 20), 0),
        ((4, 5), (0, 1), 7),
        ((6, 10), (-10, -1), 59),
        ((2, 3, 2, 5), (30, 5, 15, 1), 0),  # im2col of two rows of patches
        ((), (), 13),
        ((0, 4), (1, 1), 0),
        ((17,), (3,), 2),
    ]:
        want = np.array(layout.copy(x.tolist(), dims, strides, offset), dtype).reshape(dims)
        check(_C.copy(x, dims, strides, offset), want, f"copy {dims} {strides} on {isa}")
    parts = [x[:10].reshape(5, 2), x[10:13].reshape(1, 3), x[13:38].reshape(5, 5)]
    want = np.array(layout.concat([p.tolist() for p in parts], 5), dtype)
    check(_C.concat(parts, 5), want, f"concat on {isa}")
    table, index = x.reshape(12, 5), rng.integers(0, 12, 9).astype(np.int32)
    want = np.array(layout.gather(table.tolist(), index.tolist()), dtype)
    check(_C.gather(table, index), want, f"gather on {isa}")


def test_gather_outside_the_table_is_an_error() -> None:
    table = np.zeros((3, 2), np.int8)
    for bad in (-1, 3):
        with pytest.raises(IndexError):
            _C.gather(table, np.array([0, bad], np.int32))


def empty_histogram() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(observe.BINS, np.int64), np.array([0, np.inf, -np.inf, observe.EMPTY], np.float64)


def state(histogram: observe.Histogram) -> tuple[np.ndarray, np.ndarray]:
    meta = [histogram.total, histogram.minimum, histogram.maximum, histogram.exponent]
    return np.array(histogram.counts, np.int64), np.array(meta, np.float64)


BATCHES = [
    [],
    [0.0, -0.0],
    [1e-45, -1e-45],
    [0.3, -0.7, 0.0],
    [1.0],
    [-2.0, 3.99, 1e-10],
    np.random.default_rng(6).normal(size=3000).tolist(),
    [3.4e38, -1e30, 0.0],
]


def test_histogram_is_the_specification(isa: str) -> None:
    counts, meta = empty_histogram()
    histogram = observe.Histogram()
    for batch in BATCHES:
        values = np.array(batch, np.float32)
        _C.observe_histogram(values, counts, meta)
        histogram.observe(values.tolist())
        want_counts, want_meta = state(histogram)
        check(counts, want_counts, f"counts after {batch[:3]} on {isa}")
        check(meta, want_meta, f"meta after {batch[:3]} on {isa}")


def test_histogram_merge_is_the_specification() -> None:
    for first in BATCHES:
        for second in BATCHES:
            parts = []
            for batch in (first, second):
                histogram = observe.Histogram()
                histogram.observe(np.array(batch, np.float32).tolist())
                parts.append(histogram)
            counts, meta = state(parts[0])
            _C.histogram_merge(counts, meta, *state(parts[1]))
            want_counts, want_meta = state(observe.merge(*parts))
            check(counts, want_counts, "counts")
            check(meta, want_meta, "meta")


def test_minmax_is_the_specification(isa: str) -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(4, 3, 37)).astype(np.float32)
    low, high = np.full(3, np.inf, np.float32), np.full(3, -np.inf, np.float32)
    _C.observe_minmax(x, low, high, axis=1)
    for channel in range(3):
        assert (low[channel], high[channel]) == observe.minmax(x[:, channel].ravel().tolist())


def test_integers_of_a_case_fill_their_type() -> None:
    """The cases do reach the ends they are named for."""
    rng = np.random.default_rng(8)
    for dtype, (low, high) in TYPE_RANGE.items():
        assert set(integers(rng, (50,), dtype, "mixed").tolist()) == {low, high}
        assert set(integers(rng, (5,), dtype, "low").tolist()) == {low}
        assert set(integers(rng, (5,), dtype, "high").tolist()) == {high}
