"""Data movement against NumPy; observers do not depend on order, split or threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from pyquant import _C
from tests.spec import observe

EXAMPLES = settings(max_examples=min(settings().max_examples, 100))
SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from(["int8", "uint8", "int16", "int32", "int64"])
SHAPES = arrays_of.array_shapes(min_dims=1, max_dims=6, min_side=0, max_side=6)


def numbered(shape: tuple[int, ...], dtype: str) -> Any:
    """Every element different, as far as the type goes."""
    return np.arange(int(np.prod(shape))).astype(dtype).reshape(shape)


def copy_of_view(base: Any, view: Any) -> Any:
    """What `copy` makes of a NumPy view: its shape, strides and offset, in elements."""
    size = base.itemsize
    offset = (view.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // size
    strides = tuple(s // size for s in view.strides)
    return _C.copy(base.ravel(), view.shape, strides, offset if view.size else 0)


@EXAMPLES
@given(SHAPES, DTYPES, st.randoms(use_true_random=False))
def test_transposes(shape: tuple[int, ...], dtype: str, random: Any) -> None:
    x = numbered(shape, dtype)
    axes = list(range(len(shape)))
    random.shuffle(axes)
    view = np.transpose(x, axes)
    np.testing.assert_array_equal(copy_of_view(x, view), view)


@EXAMPLES
@given(SHAPES, DTYPES, st.data())
def test_slices_and_flips(shape: tuple[int, ...], dtype: str, data: st.DataObject) -> None:
    x = numbered(shape, dtype)
    view = x[tuple(data.draw(st.slices(size)) for size in shape)]
    np.testing.assert_array_equal(copy_of_view(x, view), view)


@EXAMPLES
@given(SHAPES, DTYPES, st.integers(1, 4))
def test_expansion(shape: tuple[int, ...], dtype: str, times: int) -> None:
    x = numbered(shape, dtype)
    view = np.broadcast_to(x, (times, *shape))
    np.testing.assert_array_equal(copy_of_view(x, view), view)


@EXAMPLES
@given(
    st.integers(0, 6), st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=8), DTYPES
)
def test_concat(outer: int, parts: list[tuple[int, bool]], dtype: str) -> None:
    arrays = [numbered((1 if repeats else outer, inner), dtype) for inner, repeats in parts]
    want = np.concatenate([np.broadcast_to(a, (outer, a.shape[1])) for a in arrays], axis=1)
    np.testing.assert_array_equal(_C.concat(arrays, outer), want)


@EXAMPLES
@given(SEEDS, st.integers(1, 20), st.integers(0, 9), st.integers(0, 30), DTYPES)
def test_gather(seed: int, rows: int, inner: int, count: int, dtype: str) -> None:
    table = numbered((rows, inner), dtype)
    index = np.random.default_rng(seed).integers(0, rows, count).astype(np.int32)
    np.testing.assert_array_equal(_C.gather(table, index), table[index])


# ---- observers ----


def histogram() -> tuple[Any, Any]:
    return np.zeros(observe.BINS, np.int64), np.array([0, np.inf, -np.inf, observe.EMPTY], np.float64)


def observed(x: Any, threads: int | None = None) -> tuple[Any, Any]:
    state = histogram()
    _C.observe_histogram(x, *state, threads=threads)
    return state


def assert_same(a: tuple[Any, Any], b: tuple[Any, Any]) -> None:
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


def values(seed: int, size: int) -> Any:
    """Over many magnitudes, with zeros."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=size) * 2.0 ** rng.integers(-40, 40, size) * (rng.random(size) < 0.8)
    return x.astype(np.float32)


@EXAMPLES
@given(SEEDS, st.integers(0, 500), st.integers(1, 6))
def test_histograms_do_not_depend_on_the_order_or_the_split(seed: int, size: int, pieces: int) -> None:
    x = values(seed, size)
    rng = np.random.default_rng(seed)
    whole = observed(x)
    assert_same(observed(rng.permutation(x)), whole)
    cuts = np.sort(rng.integers(0, size + 1, pieces - 1))
    batches = np.split(x, cuts)
    in_turn = histogram()
    for batch in batches:
        _C.observe_histogram(np.ascontiguousarray(batch), *in_turn)
    assert_same(in_turn, whole)
    merged = histogram()
    for i in rng.permutation(len(batches)).tolist():
        _C.histogram_merge(*merged, *observed(np.ascontiguousarray(batches[i])))
    assert_same(merged, whole)


@EXAMPLES
@given(SEEDS, st.integers(0, 300), st.integers(0, 300))
def test_merging_histograms_commutes(seed: int, first: int, second: int) -> None:
    a, b = values(seed, first), values(seed + 1, second)
    there, back = observed(a), observed(b)
    _C.histogram_merge(*there, *observed(b))
    _C.histogram_merge(*back, *observed(a))
    assert_same(there, back)


@EXAMPLES
@given(SEEDS, st.integers(0, 300))
def test_a_histogram_counts_every_value_once(seed: int, size: int) -> None:
    x = values(seed, size)
    counts, (total, low, high, exponent) = observed(x)
    assert total == size
    if size:
        assert (low, high) == (x.min(), x.max())
    if (x != 0).any():
        assert counts.sum() == size
        assert 2.0 ** (exponent - 1) <= np.abs(x).max() < 2.0**exponent


@EXAMPLES
@given(SEEDS, st.integers(1, 4), st.integers(1, 6), st.integers(1, 40))
def test_minmax_merges_like_numpy(seed: int, outer: int, channels: int, inner: int) -> None:
    x = values(seed, 2 * outer * channels * inner).reshape(2 * outer, channels, inner)
    low, high = np.full(channels, np.inf, np.float32), np.full(channels, -np.inf, np.float32)
    for batch in (x[:outer], x[outer:]):
        _C.observe_minmax(np.ascontiguousarray(batch), low, high, axis=1)
    np.testing.assert_array_equal(low, x.min(axis=(0, 2)))
    np.testing.assert_array_equal(high, x.max(axis=(0, 2)))
