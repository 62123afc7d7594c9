"""pq.metrics: the kernels equal the definition on every instruction set, streams, and one error a mistake."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyquant import _C, metrics
from tests.spec import metrics as spec
from tests.variants.calls import eligible_isas, limited_to

SIZES = (1, 15, 16, 17, 33, 2047, 2048, 2049, 4100)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def states(x: Any, y: Any, shape: tuple[int, int, int, int], threads: int = 1, **grid: Any) -> Any:
    made = np.zeros((shape[2], _C.METRICS_STATE))
    _C.metrics_update(x, y, made, *shape, **grid, threads=threads)
    return made


def draw(rng: np.random.Generator, n: int, size: float, error: float) -> tuple[Any, Any]:
    x = (rng.standard_normal(n) * size).astype(np.float32)
    return x, (x + rng.standard_normal(n) * error).astype(np.float32)


@pytest.mark.parametrize("isa", eligible_isas())
def test_equals_the_definition(isa: str) -> None:
    rng = np.random.default_rng(1)
    for n in SIZES:
        for size, error in ((1.0, 0.01), (1e25, 1e20), (1e-30, 1e-33), (0.0, 1.0), (1.0, 0.0)):
            x, y = draw(rng, n, size, error)
            with limited_to(isa):
                got = states(x, y, (1, 1, 1, n))[0, :5].tolist()
            assert tuple(got) == spec.row(x.tolist(), y.tolist())


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("isa", eligible_isas())
def test_integers_equal_the_definition(isa: str, dtype: Any) -> None:
    rng = np.random.default_rng(2)
    info = np.iinfo(dtype)
    for n in SIZES:
        x = rng.standard_normal(n).astype(np.float32)
        q = rng.integers(info.min, info.max + 1, n).astype(dtype)
        y = [spec.dequantized(v, -3, 0.037) for v in q.tolist()]
        with limited_to(isa):
            got = states(x, q, (1, 1, 1, n), scale=0.037, zero_point=-3)[0, :5].tolist()
        assert tuple(got) == spec.row(x.tolist(), y)


@pytest.mark.parametrize("isa", eligible_isas())
def test_threads(isa: str) -> None:
    rng = np.random.default_rng(3)
    x, y = draw(rng, 1_600_000, 1.0, 0.01)
    for shape in ((1, 1, 1, 1_600_000), (8, 200, 4, 250), (2, 800_000, 1, 1), (1, 400_000, 4, 1)):
        with limited_to("ref"):
            want = states(x, y, shape)
        for threads in (1, 2, 3, 7):
            with limited_to(isa):
                np.testing.assert_array_equal(states(x, y, shape, threads), want)
    logits, others = x.reshape(-1, 100), y.reshape(-1, 100)
    want = _C.metrics_kl(logits, others, threads=1)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(_C.metrics_kl(logits, others, threads=threads), want)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_streams_and_merges(data: st.DataObject) -> None:
    shape = (data.draw(st.integers(1, 6)), 3, 5)
    x, y = (data.draw(hnp.arrays(np.float32, shape, elements=FLOATS)) for _ in range(2))
    cut = data.draw(st.integers(0, shape[0]))
    for axis in (None, 1, -1):
        whole, parts, first, second = (metrics.ErrorMetrics(axis) for _ in range(4))
        whole.update(x, y)
        for batch, alone in ((slice(cut), first), (slice(cut, None), second)):
            parts.update(x[batch], y[batch])
            alone.update(x[batch], y[batch])
        assert parts.state() == whole.state()
        resumed = metrics.ErrorMetrics.from_state(json.loads(json.dumps(first.state())))
        resumed.merge(second)
        second.merge(first)
        assert resumed.state() == second.state()
        np.testing.assert_allclose(resumed.state()["sums"], whole.state()["sums"], rtol=1e-13, atol=1e-300)


def test_figures_are_the_exact_ones() -> None:
    rng = np.random.default_rng(4)
    x, y = (a.reshape(6, 700) for a in draw(rng, 4200, 3.0, 0.02))
    y[2] = x[2]
    samples = list(zip(x.tolist(), y.tolist(), strict=True))
    assert metrics.sqnr(x, y) == pytest.approx(spec.sqnr(samples), abs=1e-4)
    flat = [(x.ravel().tolist(), y.ravel().tolist())]
    assert metrics.sqnr(x, y, sample_axis=None) == pytest.approx(spec.sqnr(flat), abs=1e-4)
    a, b = x.astype(np.float64), y.astype(np.float64)
    assert metrics.mse(x, y) == pytest.approx(((a - b) ** 2).mean(), rel=8e-6)
    assert metrics.max_error(x, y) == pytest.approx(np.abs(a - b).max(), rel=1e-7)
    want = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    assert metrics.cosine(x, y) == pytest.approx(want, rel=2e-5)
    rows = [spec.kl(p, q) for p, q in samples]
    assert metrics.kl_divergence(x, y) == pytest.approx(math.fsum(rows) / 6, abs=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("sample_axis", [None, 0, 2, -1])
def test_axes(axis: int, sample_axis: int | None) -> None:
    """Each index of the axis has the bits of the slice by itself."""
    rng = np.random.default_rng(5)
    x, y = (a.reshape(3, 4, 5, 6) for a in draw(rng, 360, 1.0, 0.1))
    if sample_axis is not None and axis == sample_axis % 4:
        with pytest.raises(ValueError, match="axis and sample_axis to differ"):
            metrics.sqnr(x, y, axis=axis, sample_axis=sample_axis)
        return
    got = metrics.ErrorMetrics(axis, sample_axis=sample_axis)
    got.update(x, y)
    for i, sums in enumerate(got.state()["sums"]):
        alone = metrics.ErrorMetrics(sample_axis=sample_axis)
        alone.update(np.take(x, [i], axis), np.take(y, [i], axis))
        assert alone.state()["sums"][0] == sums


def test_what_is_empty_or_zero() -> None:
    none = metrics.ErrorMetrics().compute()
    assert (none.samples, none.exact, none.max_error) == (0, 0, 0.0)
    assert all(map(math.isnan, (none.sqnr, none.mse, none.cosine)))
    empty = metrics.ErrorMetrics()
    empty.update(np.zeros((4, 0), np.float32), np.zeros((4, 0), np.float32))
    assert empty.compute().samples == 0
    zero, one = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    assert (metrics.sqnr(zero, one), metrics.cosine(zero, one)) == (-math.inf, 0.0)
    assert (metrics.sqnr(zero, zero), metrics.cosine(zero, zero)) == (math.inf, 1.0)
    assert math.isnan(metrics.kl_divergence(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)))


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor([[3.0, 4.0], [6.0, 8.0]], requires_grad=True)
    y = torch.tensor([[3.0, 6.0], [3.5, 7.0]]).T  # strided
    assert metrics.sqnr(x, y) == pytest.approx(20.0)
    q = torch.tensor([[6, 7], [12, 14]], dtype=torch.int8)
    assert metrics.sqnr(x, q, scale=0.5) == pytest.approx(20.0)


X = np.ones((2, 3), np.float32)
NAN, INF = X.copy(), X.copy()
NAN[1, 1], INF[0, 2] = np.nan, np.inf
MISTAKES: list[tuple[type[Exception], str, Any]] = [
    (
        ValueError,
        r"sqnr: expected x and y of one shape, got \(2, 3\) and \(3, 2\)",
        lambda: metrics.sqnr(X, X.T),
    ),
    (TypeError, "mse: expected x of dtype float32", lambda: metrics.mse(X.astype(np.float64), X)),
    (TypeError, "mse: expected int8 or int16 y with a scale", lambda: metrics.mse(X, X, scale=1.0)),
    (TypeError, "mse: expected a scale for integers", lambda: metrics.mse(X, X.astype(np.int8))),
    (TypeError, "expected y of dtype", lambda: metrics.mse(X, X.astype(np.int32), scale=1.0)),
    (ValueError, "mse: expected 2.-100 <= scale", lambda: metrics.mse(X, X.astype(np.int8), scale=0.0)),
    (ValueError, "cosine: expected -2 <= axis < 2, got 2", lambda: metrics.cosine(X, X, axis=2)),
    (ValueError, "one sample is sample_axis=None", lambda: metrics.sqnr(X[0], X[0])),
    (ValueError, r"max_error: y\[4\] is NaN", lambda: metrics.max_error(X, NAN)),
    (ValueError, r"sqnr: expected finite x, got infinity at \[2\]", lambda: metrics.sqnr(INF, X)),
    (ValueError, r"kl_divergence: x\[4\] is NaN", lambda: metrics.kl_divergence(NAN, X)),
    (ValueError, "last axis of at least 1", lambda: metrics.kl_divergence(X[:, :0], X[:, :0])),
    (ValueError, "expected axis, sample_axis and sums", lambda: metrics.ErrorMetrics.from_state({})),
]


@pytest.mark.parametrize(("error", "text", "call"), MISTAKES, ids=[text for _, text, _ in MISTAKES])
def test_mistakes(error: type[Exception], text: str, call: Any) -> None:
    with pytest.raises(error, match=text):
        call()


def test_a_failed_update_changes_nothing() -> None:
    errors = metrics.ErrorMetrics(1)
    errors.update(X, X)
    before = errors.state()
    for x, y in ((NAN, X), (X[:, :2], X[:, :2])):
        with pytest.raises(ValueError, match=r"ErrorMetrics\.update"):
            errors.update(x, y)
    with pytest.raises(ValueError, match="merge: expected"):
        errors.merge(metrics.ErrorMetrics())
    broken = {**before, "sums": [[math.nan] * _C.METRICS_STATE]}
    with pytest.raises(ValueError, match="state 0"):
        metrics.ErrorMetrics.from_state(broken)
    assert errors.state() == before
