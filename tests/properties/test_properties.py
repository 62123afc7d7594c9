"""What must hold for all inputs, by mathematics: no expected numbers here."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from pyquant import _C
from pyquant.methods import methods
from pyquant.numerics import derive_attention, softmax_method_code
from tests.spec.cases import TYPE_RANGE

# The profile (tests/conftest.py) says how examples are drawn; here, how many at most.
EXAMPLES = settings(max_examples=min(settings().max_examples, 100))

SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from(list(TYPE_RANGE))
SCALES = st.floats(2.0**-100, 2.0**100, width=32)
USUAL_SCALES = st.floats(2.0**-12, 2.0**4, width=32)
SMALL_SHAPES = arrays_of.array_shapes(min_dims=1, max_dims=4, max_side=5)


def integers(seed: int, shape: tuple[int, ...], dtype: str) -> Any:
    low, high = TYPE_RANGE[dtype]
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(dtype)


def limits(dtype: str) -> dict[str, Any]:
    low, high = TYPE_RANGE[dtype]
    return {"quant_min": low, "quant_max": high, "dtype": dtype}


@EXAMPLES
@given(SCALES, DTYPES, st.data())
def test_quantize_recovers_what_dequantize_gave(scale: float, dtype: str, data: st.DataObject) -> None:
    """|q - z| < 2^17 here, and the proof in quantize.h holds below 2^22: at every scale, every integer."""
    low, high = TYPE_RANGE[dtype]
    zero_point = data.draw(st.integers(low, high))
    s = np.array([scale], np.float32)
    q = np.arange(low, high + 1, 1 if dtype == "int8" else 37).astype(dtype)
    x = _C.dequantize(q, s, zero_point=zero_point)
    np.testing.assert_array_equal(_C.quantize(x, s, zero_point=zero_point, **limits(dtype)), q)
    out = {"quant_min": low, "quant_max": high}
    np.testing.assert_array_equal(_C.fake_quantize(x, s, zero_point=zero_point, **out), x)


@EXAMPLES
@given(SCALES, SEEDS)
def test_quantize_is_monotone(scale: float, seed: int) -> None:
    x = np.sort(np.random.default_rng(seed).normal(size=300) * 60 * scale).astype(np.float32)
    q = _C.quantize(x, np.array([scale], np.float32))
    assert (np.diff(q.astype(int)) >= 0).all()


@EXAMPLES
@given(st.floats(2.0**-40, 2.0**20), DTYPES, DTYPES, st.integers(-100, 100), st.integers(-100, 100))
def test_requantize_is_monotone(real: float, x_type: str, y_type: str, x_zero: int, y_zero: int) -> None:
    low, high = TYPE_RANGE[x_type]
    x = np.arange(low, high + 1).astype(x_type)
    multiplier, shift = _C.derive_dyadic(real)
    y = _C.requantize(x, multiplier, shift, x_zero_point=x_zero, zero_point=y_zero, **limits(y_type))
    assert (np.diff(y.astype(int)) >= 0).all()


@EXAMPLES
@given(DTYPES, st.integers(-100, 100))
def test_requantize_by_one_is_the_identity(dtype: str, zero_point: int) -> None:
    low, high = TYPE_RANGE[dtype]
    x = np.arange(low, high + 1).astype(dtype)
    one = _C.derive_dyadic(1.0)
    y = _C.requantize(x, *one, x_zero_point=zero_point, zero_point=zero_point, **limits(dtype))
    np.testing.assert_array_equal(y, x)


@EXAMPLES
@given(SEEDS, SMALL_SHAPES, DTYPES, DTYPES, USUAL_SCALES, USUAL_SCALES, st.integers(-99, 99))
def test_add_commutes(
    seed: int, shape: tuple[int, ...], x_type: str, y_type: str, scale: float, y_scale: float, zero: int
) -> None:
    a, b = integers(seed, shape, x_type), integers(seed + 1, shape, x_type)
    m_a, m_b, s = _C.derive_add(scale, scale, y_scale)
    assert m_a == m_b
    zeros = {"a_zero_point": zero, "b_zero_point": zero, "zero_point": 3}
    there, back = (_C.add(u, v, m_a, m_b, s, **zeros, **limits(y_type)) for u, v in ((a, b), (b, a)))
    np.testing.assert_array_equal(there, back)


@EXAMPLES
@given(SEEDS, SMALL_SHAPES, USUAL_SCALES, USUAL_SCALES)
def test_adding_zero_is_a_requantization(
    seed: int, shape: tuple[int, ...], scale: float, y_scale: float
) -> None:
    """b = z_b adds nothing: one term and one rounding are left."""
    a = integers(seed, shape, "int16")
    m_a, m_b, s = _C.derive_add(scale, scale, y_scale)
    y = _C.add(a, np.full(shape, 9, np.int8), m_a, m_b, s, b_zero_point=9)
    multiplier, shift = _C.derive_dyadic(scale / y_scale)
    np.testing.assert_array_equal(y, _C.requantize(a, multiplier, shift, **limits("int16")))


def attention_constants(keys: int, head_dim: int, method: str, slope: float) -> dict[str, Any]:
    grids = [(0.03, z, -128, 127) for z in (5, -6, 7, -8)]
    constants = derive_attention(method, *grids, slope, head_dim, keys).keywords()
    zeros = {"q_zero_point": 5, "k_zero_point": -6, "v_zero_point": 7, "zero_point": -8}
    return {**constants, "method": softmax_method_code(method), **zeros}


LENGTHS = st.integers(1, 40)
SLOPES = st.floats(0.001, 2.0)
METHODS = st.sampled_from(list(methods("softmax")))
WEIGHTS_ARE_EXPONENTIALS = ("table16", "table8", "iptq", "qflash")  # the largest is pmax, and L their sum


@EXAMPLES
@given(SEEDS, LENGTHS, LENGTHS, st.integers(1, 20), METHODS, SLOPES)
def test_attention_does_not_know_the_order_of_the_keys(
    seed: int, q_len: int, k_len: int, d: int, method: str, slope: float
) -> None:
    rng = np.random.default_rng(seed)
    q, k, v = (integers(seed + i, (1, 1, 2, n, d), "int8") for i, n in enumerate((q_len, k_len, k_len)))
    keep = rng.integers(0, 2, (1, 1, 2, q_len, k_len)).astype(np.uint8)
    add = rng.integers(-5000, 5000, keep.shape).astype(np.int32)
    constants = attention_constants(k_len, d, method, slope)
    constants["delta_max"] = min(constants["delta_max"], 2 * 255 * 128 * d)
    order = rng.permutation(k_len)
    y = _C.attention(q, k, v, **constants, keep=keep, mask_add=add)
    shuffled = [np.ascontiguousarray(np.take(a, order, axis=3)) for a in (k, v)]
    masks = {"keep": keep[..., order], "mask_add": add[..., order]}
    np.testing.assert_array_equal(_C.attention(q, *shuffled, **constants, **masks), y)
    # Queries are independent: in another order, the same rows.
    rows = rng.permutation(q_len)
    masks = {"keep": keep[..., rows, :], "mask_add": add[..., rows, :]}
    np.testing.assert_array_equal(_C.attention(q[..., rows, :], k, v, **constants, **masks), y[..., rows, :])


@EXAMPLES
@given(SEEDS, LENGTHS, LENGTHS, METHODS, SLOPES)
def test_an_excluded_key_does_not_matter(
    seed: int, q_len: int, k_len: int, method: str, slope: float
) -> None:
    q, k, v = (integers(seed + i, (1, 1, 1, n, 8), "int8") for i, n in enumerate((q_len, k_len, k_len)))
    constants = attention_constants(k_len + 1, 8, method, slope)
    longer = [np.concatenate([a, integers(seed + 9, (1, 1, 1, 1, 8), "int8")], axis=3) for a in (k, v)]
    keep = np.ones((1, 1, 1, 1, k_len + 1), np.uint8)
    keep[..., -1] = 0
    y = _C.attention(q, k, v, **constants)
    np.testing.assert_array_equal(_C.attention(q, *longer, **constants, keep=keep), y)


@EXAMPLES
@given(SEEDS, LENGTHS, METHODS, SLOPES)
def test_weights_fall_with_the_distance(seed: int, k_len: int, method: str, slope: float) -> None:
    q, k, v = (integers(seed + i, (1, 1, 1, n, 4), "int8") for i, n in enumerate((1, k_len, k_len)))
    constants = attention_constants(k_len, 4, method, slope)
    _, score, p, total = (a.ravel() for a in _C.attention_trace(q, k, v, **constants))
    order = np.argsort(score, kind="stable")
    assert (np.diff(p[order].astype(int)) >= 0).all()
    if method in WEIGHTS_ARE_EXPONENTIALS:
        assert p.max() == constants["pmax"]
        assert total[0] == p.sum()


def norm_constants(seed: int, channels: int) -> tuple[Any, Any, int, int]:
    rng = np.random.default_rng(seed)
    gamma, beta = (rng.normal(size=channels).astype(np.float32) for _ in range(2))
    e, gain, offset, s = _C.derive_layernorm(channels, gamma, beta, 1e-5, 0.02, 0.03)
    return gain, offset, e, s


@EXAMPLES
@given(SEEDS, st.integers(1, 5), st.integers(1, 300), st.integers(-20000, 20000))
def test_layernorm_does_not_see_a_shift(seed: int, rows: int, channels: int, shift: int) -> None:
    x = np.random.default_rng(seed).integers(-12000, 12000, (rows, channels)).astype(np.int16)
    constants = norm_constants(seed, channels)
    moved = (x.astype(int) + shift).astype(np.int16)
    np.testing.assert_array_equal(_C.layernorm(moved, *constants), _C.layernorm(x, *constants))


@EXAMPLES
@given(SEEDS, st.integers(1, 5), st.integers(1, 300), st.integers(-128, 127))
def test_rms_norm_sees_only_the_distance_to_its_zero_point(
    seed: int, rows: int, channels: int, zero: int
) -> None:
    x = np.random.default_rng(seed).integers(-12000, 12000, (rows, channels)).astype(np.int16)
    constants = norm_constants(seed, channels)
    moved = (x.astype(int) + zero).astype(np.int16)
    y = _C.layernorm(moved, *constants, rms=True, x_zero_point=zero)
    np.testing.assert_array_equal(y, _C.layernorm(x, *constants, rms=True))


@EXAMPLES
@given(SEEDS, st.integers(1, 60), DTYPES)
def test_normalisation_does_not_depend_on_the_width_of_the_input(
    seed: int, channels: int, y_type: str
) -> None:
    x = integers(seed, (3, channels), "int8")
    constants = norm_constants(seed, channels)
    narrow, wide = (_C.layernorm(v, *constants, **limits(y_type)) for v in (x, x.astype(np.int16)))
    np.testing.assert_array_equal(narrow, wide)


@EXAMPLES
@given(SEEDS, SMALL_SHAPES)
def test_tables_compose_like_functions(seed: int, shape: tuple[int, ...]) -> None:
    x, f, g = (
        integers(seed, shape, "int8"),
        integers(seed + 1, (256,), "int8"),
        integers(seed + 2, (256,), "int8"),
    )
    both = _C.table(f, g)  # (g after f) as a table
    np.testing.assert_array_equal(_C.table(_C.table(x, f), g), _C.table(x, both))


@EXAMPLES
@given(SEEDS, st.integers(0, 40), st.integers(0, 40), st.integers(0, 70), st.integers(-128, 127))
def test_gemm_is_additive_in_the_rows_of_k(seed: int, m: int, n: int, k: int, zero: int) -> None:
    """Splitting k splits the sum; splitting m and n splits the result."""
    rng = np.random.default_rng(seed)
    x, w = integers(seed, (m, k), "int8"), np.maximum(integers(seed + 1, (n, k), "int8"), -127)
    cut, row, column = (int(rng.integers(0, size + 1)) for size in (k, m, n))

    def product(a: Any, b: Any) -> Any:
        weights = _C.GemmWeights(np.ascontiguousarray(b), x_zero_point=zero, dtype="int32")
        return _C.gemm(np.ascontiguousarray(a), weights)

    whole = product(x, w)
    np.testing.assert_array_equal(product(x[:, :cut], w[:, :cut]) + product(x[:, cut:], w[:, cut:]), whole)
    np.testing.assert_array_equal(np.concatenate([product(x[:row], w), product(x[row:], w)]), whole)
    np.testing.assert_array_equal(
        np.concatenate([product(x, w[:column]), product(x, w[column:])], axis=1), whole
    )


@EXAMPLES
@given(SEEDS, st.integers(1, 4), st.integers(1, 50), st.integers(1, 20), DTYPES)
def test_the_mean_of_equal_values_is_that_value(
    seed: int, outer: int, reduce: int, inner: int, dtype: str
) -> None:
    row = integers(seed, (outer, 1, inner), dtype)
    x = np.repeat(row, reduce, axis=1)
    multiplier, shift = _C.derive_dyadic(1 / reduce)
    y = _C.mean(np.ascontiguousarray(x), multiplier, shift, **limits(dtype))
    np.testing.assert_array_equal(y, row[:, 0])
