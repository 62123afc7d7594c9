"""pq.ops on numbers worked by hand, and on the shapes and layouts that NumPy users bring."""

from __future__ import annotations

import numpy as np
import pytest

from pyquant import numerics, ops

HALF = {"multiplier": 2**30, "shift": 31}


def s8(*values: int) -> np.ndarray:
    return np.array(values, np.int8)


def test_gemm_accumulates_and_requantizes():
    x, w = np.array([[1, 2, 3]], np.int8), np.array([[1, 1, 1], [2, -1, 0]], np.int8)
    bias = np.array([10, -5], np.int32)
    # x - 1 = (0, 1, 2): 3 + 10 = 13 and -1 - 5 = -6
    raw = ops.gemm(x, w, bias, x_zero_point=1, dtype="int32")
    assert raw.tolist() == [[13, -6]]
    multiplier, shift = np.full(2, 2**30, np.int32), np.full(2, 31, np.uint8)
    # 6.5 rounds up to 7, -3 stays; + 4
    y = ops.gemm(x, w, bias, multiplier, shift, x_zero_point=1, zero_point=4)
    assert y.dtype == np.int8
    assert y.tolist() == [[11, 1]]
    assert ops.gemm(x, w, bias, multiplier, shift, x_zero_point=1, quant_max=5, dtype="int16").tolist() == [
        [5, -3]
    ]


def test_gemm_takes_leading_axes_and_rows_that_lie_apart():
    rng = np.random.default_rng(0)
    x, w = (
        rng.integers(-128, 128, (2, 3, 16)).astype(np.int8),
        rng.integers(-127, 128, (5, 16)).astype(np.int8),
    )
    expected = np.einsum("abk,nk->abn", x.astype(np.int32), w.astype(np.int32))
    packed = ops.pack_gemm(w, dtype="int32")
    assert (packed.shape, packed.dtype) == ((5, 16), "int32")
    assert np.array_equal(ops.gemm(x, packed), expected)
    wide = np.zeros((3, 40), np.int8)
    wide[:, 4:20] = x[0]
    assert np.array_equal(ops.gemm(wide[:, 4:20], packed), expected[0])
    assert np.array_equal(ops.gemm(np.asfortranarray(x[0]), packed), expected[0])
    assert np.array_equal(ops.gemm(x[0][::-1], packed), expected[0][::-1])
    out = np.zeros((2, 3, 5), np.int32)
    assert ops.gemm(x, packed, out=out) is out
    assert np.array_equal(out, expected)


def test_gemm_of_no_rows_columns_or_terms():
    w = np.zeros((3, 4), np.int8)
    assert ops.gemm(np.zeros((0, 4), np.int8), w, dtype="int32").shape == (0, 3)
    assert ops.gemm(np.zeros((2, 4), np.int8), w[:0], dtype="int32").shape == (2, 0)
    bias = np.array([1, 2, 3], np.int32)
    assert ops.gemm(np.zeros((2, 0), np.int8), w[:, :0], bias, dtype="int32").tolist() == [[1, 2, 3]] * 2


def test_table_requantize_mean():
    negate = np.arange(128, -128, -1).clip(-128, 127).astype(np.int8)
    assert ops.table(np.array([[5, -128], [0, 127]], np.int8), negate).tolist() == [[-5, 127], [0, -127]]
    # half up: 1.5 -> 2, -1.5 -> -1
    assert ops.requantize(s8(3, -3, 0), **HALF, zero_point=1).tolist() == [3, 0, 1]
    assert ops.requantize(np.array([300], np.int16), **HALF, x_zero_point=100, dtype="int16").tolist() == [
        100
    ]
    x = np.array([[[1, 2], [4, 8]], [[-1, -2], [-4, -9]]], np.int8)
    assert ops.mean(x, 1, **HALF).tolist() == [[3, 5], [-2, -5]]
    assert ops.mean(x, 0, **HALF, keepdims=True).tolist() == [[[0, 0], [0, 0]]]
    assert ops.mean(x, -1, **HALF).tolist() == [[2, 6], [-1, -6]]


def test_add_rounds_once_and_broadcasts():
    one = {"a_multiplier": 2**30, "b_multiplier": 2**29, "shift": 30}
    # 10 + 3/2 = 11.5 -> 12 ; -10 + 3/2 = -8.5 -> -8
    assert ops.add(s8(10, -10), s8(3, 3), **one).tolist() == [12, -8]
    a = np.arange(12, dtype=np.int16).reshape(2, 2, 3)
    both = {"a_multiplier": 2**30, "b_multiplier": 2**30, "shift": 30}
    for b in (np.array([1, 2, 3], np.int8), np.array([[[1]], [[2]]], np.int8), np.array(5, np.int8)):
        assert np.array_equal(ops.add(a, b, **both), a + b)
    assert np.array_equal(ops.add(np.array([[1], [2]], np.int8), s8(1, 2, 3), **both), [[2, 3, 4], [3, 4, 5]])
    assert ops.add(s8(), s8(1), **both).shape == (0,)


def test_layernorm_of_two_values():
    # x = (-1, 1): variance 1, normalised to (-1, 1); gain 2^16 / 2^16, scale 1 / 64
    c = numerics.derive_layernorm(2, None, None, 0.0, 1.0, 1 / 64)
    assert c.epsilon == 0
    assert ops.layernorm(s8(-1, 1), **c.keywords()).tolist() == [-64, 64]
    assert ops.layernorm(np.array([[7, 7]], np.int16), **c.keywords(), zero_point=5).tolist() == [[5, 5]]
    # RMSNorm of (3, 3) is (1, 1)
    assert ops.layernorm(s8(3, 3), **c.keywords(), rms=True).tolist() == [64, 64]


def test_softmax_of_rows():
    c = numerics.derive_softmax("table16", (np.log(2), 3, -128, 127), (1 / 256, -128, -128, 127), 3)
    y = ops.softmax(s8([3, 2, 2], [-9, -9, -128]), **c.keywords(), zero_point=-128)
    assert (y.astype(int) + 128).tolist() == [[128, 64, 64], [128, 128, 0]]
    wide = ops.softmax(np.array([[30000, 29999, 29999]], np.int16), **c.keywords(), dtype="int16")
    assert wide.tolist() == [[128, 64, 64]]
    out = np.empty((2, 3), np.int8)
    x = s8([3, 2, 2], [-9, -9, -128])
    assert ops.softmax(x, **c.keywords(), zero_point=-128, out=out) is out
    assert ops.softmax(x, **c.keywords(), zero_point=-128, out=x) is x  # over the operand
    assert np.array_equal(x, out)
    assert ops.softmax(np.zeros((0, 3), np.int8), **c.keywords()).shape == (0, 3)
    assert ops.softmax(np.zeros((3, 0), np.int8), **c.keywords()).shape == (3, 0)


def test_attention_of_equal_keys_is_the_mean_of_the_values():
    grid = (0.1, 0, -128, 127)
    c = numerics.derive_attention("table16", grid, grid, grid, grid, 1.0, 2, 4)
    q = np.ones((1, 1, 3, 2), np.int8)
    k = np.full((1, 1, 4, 2), 5, np.int8)
    v = np.array([[[[0, 8], [2, 8], [4, 8], [6, 8]]]], np.int8)
    assert ops.attention(q, k, v, **c.keywords()).tolist() == [[[[3, 8]] * 3]]
    keep = np.array([1, 1, 0, 0], bool)
    assert ops.attention(q, k, v, **c.keywords(), keep=keep).tolist() == [[[[1, 8]] * 3]]
    # the last query sees all four keys, the one before three
    causal = ops.attention(q, k, v, **c.keywords(), causal=True)
    assert causal[0, 0, :, 0].tolist() == [1, 2, 3]
    nothing = ops.attention(q, k, v, **c.keywords(), keep=np.zeros(4, np.uint8), zero_point=9)
    assert nothing.tolist() == [[[[9, 9]] * 3]]
    traced = ops.attention_trace(q, k, v, **c.keywords())
    assert traced.score.tolist() == [[[[[10] * 4] * 3]]]
    assert traced.p.tolist() == [[[[[c.pmax] * 4] * 3]]]
    assert traced.l.tolist() == [[[[4 * c.pmax] * 3]]]
    assert np.array_equal(traced.y, ops.attention(q, k, v, **c.keywords()))


def test_attention_takes_strided_heads_and_shared_keys():
    rng = np.random.default_rng(1)
    grid = (0.05, 0, -128, 127)
    c = numerics.derive_attention("table8", grid, grid, grid, grid, 0.5, 4, 6, True)
    q = rng.integers(-128, 128, (2, 5, 4, 4)).astype(np.int8).transpose(0, 2, 1, 3)
    kv = rng.integers(-128, 128, (2, 6, 2, 2, 4)).astype(np.int8)
    k, v = kv[:, :, 0].transpose(0, 2, 1, 3), kv[:, :, 1].transpose(0, 2, 1, 3)
    mask = rng.integers(-500, 500, (5, 6)).astype(np.int32)
    y = ops.attention(q, k, v, **c.keywords(), mask_add=mask)
    dense = ops.attention(q.copy(), k.copy(), v.copy(), **c.keywords(), mask_add=mask)
    assert np.array_equal(y, dense)
    assert np.array_equal(y, ops.attention(q, k.repeat(2, 1), v.repeat(2, 1), **c.keywords(), mask_add=mask))
    assert np.array_equal(y, ops.attention_trace(q, k, v, **c.keywords(), mask_add=mask).y)
    out = np.empty((2, 5, 4, 4), np.int8)
    ops.attention(q, k, v, **c.keywords(), mask_add=mask, out=out.transpose(0, 2, 1, 3))
    assert np.array_equal(out.transpose(0, 2, 1, 3), y)


def test_layout():
    x = np.arange(12, dtype=np.int16).reshape(3, 4)
    assert np.array_equal(ops.copy(x, (4, 3), (1, 4)), x.T)
    assert ops.copy(x, (2,), (-1,), 11).tolist() == [11, 10]
    assert ops.copy(x, (2, 2), (0, 1), 3).tolist() == [[3, 4], [3, 4]]
    assert ops.copy(x, (), ()).shape == ()
    assert ops.copy(x, (0, 5), (1, 1)).shape == (0, 5)
    assert np.array_equal(ops.concat([x, x[:, :1]], -1), np.concatenate([x, x[:, :1]], -1))
    assert np.array_equal(ops.concat([x, x[1:]]), np.concatenate([x, x[1:]]))
    index = np.array([[2, 0]], np.int32)
    assert np.array_equal(ops.gather(x, index), x[index])
    assert ops.gather(x, np.zeros((2, 0), np.int32)).shape == (2, 0, 4)


def test_quantize_rounds_half_to_even_and_clamps():
    x = np.array([0.25, 0.75, -0.25, 100.0, -np.inf, np.inf], np.float32)
    assert ops.quantize(x, 0.5, 1, -100, 100).tolist() == [1, 3, 1, 100, -100, 100]
    assert ops.dequantize(s8(1, 3, -5), 0.5, 1).tolist() == [0.0, 1.0, -3.0]
    assert ops.fake_quantize(x[:3], 0.5).tolist() == [0.0, 1.0, 0.0]
    per_axis = ops.quantize(np.ones((2, 3), np.float32), [0.5, 0.25], axis=0)
    assert per_axis.tolist() == [[2] * 3, [4] * 3]
    assert ops.dequantize(per_axis, [0.5, 0.25, 1.0], axis=-1).tolist() == [[1.0, 0.5, 2.0], [2.0, 1.0, 4.0]]
    assert ops.quantize(np.float32(3), 1.0, dtype="int16").shape == ()


def test_minmax_and_histogram():
    x = np.array([[1, -2], [0.5, 3]], np.float32)
    assert [a.tolist() for a in ops.minmax(x)] == [[-2.0], [3.0]]
    assert [a.tolist() for a in ops.minmax(x, axis=1)] == [[0.5, -2.0], [1.0, 3.0]]
    assert [a.tolist() for a in ops.minmax(x[:0])] == [[np.inf], [-np.inf]]
    whole, first, second = ops.Histogram(), ops.Histogram(), ops.Histogram()
    assert whole.exponent is None
    whole.update(x)
    first.update(x[1])
    second.update(x[0])
    first.merge(second)
    assert (whole.total, whole.minimum, whole.maximum, whole.exponent) == (4, -2.0, 3.0, 2)
    assert whole.counts.sum() == 4
    # bins of 2^-8: -2 + 4 = 2 is bin 512
    assert whole.counts[512] == 1
    assert np.array_equal(whole.counts, first.counts)
    assert np.array_equal(whole.meta, first.meta)


def test_in_place_where_the_header_allows_it():
    x = np.array([3, -3], np.int8)
    assert ops.requantize(x, **HALF, out=x) is x
    assert x.tolist() == [2, -1]
    f = np.array([0.3], np.float32)
    ops.fake_quantize(f, 0.5, out=f)
    assert f.tolist() == [0.5]


def test_threads_do_not_change_results():
    rng = np.random.default_rng(2)
    x = rng.integers(-128, 128, (300, 70)).astype(np.int8)
    w = rng.integers(-127, 128, (90, 70)).astype(np.int8)
    results = [ops.gemm(x, w, dtype="int32", threads=n) for n in (None, 1, 2, 3)]
    for result in results[1:]:
        assert np.array_equal(result, results[0])


def test_an_operand_is_copied_only_if_it_must_be():
    with pytest.raises(TypeError, match="native byte order"):
        ops.requantize(np.array([1], ">i2"), **HALF)
    assert ops.requantize(np.arange(6, dtype=np.int8)[::2], **HALF).tolist() == [0, 1, 2]
