"""Derived constants against numbers worked by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import special

from tests.spec import derive, functions
from tests.spec.numbers import INT32_MAX, Affine, Dyadic, dyadic, float32

S8 = (-128, 127)
UNIT = Affine(1.0, 0, *S8)


def test_weight_scale_by_absmax_and_by_bias() -> None:
    w = [[127.0, -3.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.25, -1.0]]
    bias = [0.0, 2.0**40, 0.0, 2.0**31, 0.0]
    # absmax / 127; 2^40 / (1/2 * 2^30); nothing; 2^31 / 2^29; 1 / 127 in float32
    assert derive.weight_scale(w, bias, 0.5, 8) == [1.0, 2048.0, 1.0, 4.0, float32(1 / 127)]
    assert derive.weight_scale([[7.0]], None, 0.5, 4) == [1.0]
    assert derive.weight_scale([[2.0**-140]], None, 0.5, 8) == [2.0**-100]


def test_gemm_by_hand() -> None:
    got = derive.gemm([[127.0, -3.5, 2.5]], [10.25], [1.0], 8, 0.5, 0.25)
    assert got.w == [[127, -4, 2]]  # ties to even
    assert got.bias == [20]  # 10.25 / 0.5 = 20.5, to even
    assert got.requant == [Dyadic(2**30, 29)]  # 0.5 / 0.25 = 2


def test_gemm_multiplier_is_computed_in_float64() -> None:
    """(s_x s_w) / s_y in float32 would give another integer nearly always."""
    s_x, s_w, s_y = float32(0.1), float32(0.003), float32(0.07)
    in_float32 = float(np.float32(s_x) * np.float32(s_w) / np.float32(s_y))
    exact = derive.gemm([[0.0]], None, [s_w], 8, s_x, s_y).requant[0]
    assert exact != dyadic(in_float32)
    assert math.isclose(exact.value(), s_x * s_w / s_y, rel_tol=2**-31)


def test_gemm_refuses_a_column_that_may_overflow() -> None:
    with pytest.raises(OverflowError, match="column 0"):
        derive.gemm([[1.0]], [2.0**31 - 100], [1.0], 8, 1.0, 1.0)


def test_weights_are_narrow_range() -> None:
    assert derive.gemm([[-200.0, 200.0]], None, [1.0], 8, 1.0, 1.0).w == [[-127, 127]]
    assert derive.gemm([[-200.0, 200.0]], None, [1.0], 2, 1.0, 1.0).w == [[-1, 1]]


def test_group_scales_by_hand() -> None:
    # absmax / 7 = 255, 1, 0: the column's scale is 255 / 255, the factors 255, 1 and at least 1
    w = [[1785.0, 3.0, 0.0, 0.0, -7.0, 0.0, 0.0, 0.0, 0.0]]
    got = derive.group_scale(w, None, None, 4, 0.5, 4)
    assert got == derive.GroupScale([1.0], [[255, 1, 1]])
    # on the scales 255, 1, 1; 127.5 is half a step of the first and goes to the even 0
    quantized = derive.gemm_s8s4([[1785.0, 127.5, 0, 0, -7.0, 2.5, 0, 0, 1.0]], None, got, 4, 4, 0.5, 1.0)
    assert quantized.w == [[7, 0, 0, 0, -7, 2, 0, 0, 1]]
    assert quantized.requant == [dyadic(0.5)]
    # 2 / 7 * 255 = 72.86; a bias of 2^40 asks for 2048 and leaves every factor at 1
    assert derive.group_scale([[7.0, 0, 0, 0, 2.0]], None, None, 4, 0.5, 4).factor == [[255, 73]]
    assert derive.group_scale([[7.0, 0, 0, 0, 2.0]], [2.0**40], None, 4, 0.5, 4) == derive.GroupScale(
        [2048.0], [[1, 1]]
    )
    assert derive.group_scale([[7.0, 0, 0, 0, 2.0]], None, [[510.0, 3.0]], 4, 0.5, 4) == derive.GroupScale(
        [2.0], [[255, 2]]
    )  # 1.5 to the even 2
    assert derive.group_scale([[]], None, None, 4, 0.5, 4) == derive.GroupScale([1.0], [[]])


def test_the_group_factor_leaves_room_for_the_bias() -> None:
    """255 * 7 * factor * k and |bias| <= 2^30 together fit int32, whatever the weights."""
    for k, want in ((1, 255), (2358, 255), (2359, 254), (4096, 146), (601_539, 1), (10**6, 1)):
        factor = derive.group_factor_max(7, k)
        assert factor == want
        assert 255 * 7 * factor * k + 2**30 <= INT32_MAX or factor == 1
    assert derive.group_factor_max(1, 4096) == 255


def test_gemm_s8s4_refuses_a_column_that_may_overflow() -> None:
    scales = derive.GroupScale([1.0], [[255, 255]])
    with pytest.raises(OverflowError, match="column 0"):
        derive.gemm_s8s4([[255.0] * 8], [2.0**31 - 1000], scales, 4, 4, 1.0, 1.0)


def test_exp2_entries() -> None:
    assert derive.exp2_entry(16383, 0) == 32766
    assert derive.exp2_entry(255, 16) == 361  # 510 / sqrt(2) = 360.62
    assert derive.exp2_entry(255, 31) == 261  # 510 * 2^(-31/32) = 260.58
    assert derive.exp2_entry(1, 16) == 1  # 2 / sqrt(2) = 1.414


def test_float64_decides_every_exp2_entry() -> None:
    """No 2 pmax 2^(-j/32) lies within 1e-9 of a tie: a float64 exp2, good to 1e-11, rounds each rightly."""
    x = 2.0 * np.arange(1, 16384)[:, None] * np.exp2(-np.arange(32) / 32)
    assert np.abs(x - np.floor(x) - 0.5).min() > 1e-9
    for pmax in (1, 100, 255, 4095, 10923, 16383):
        assert [derive.exp2_entry(pmax, j) for j in range(32)] == np.rint(x[pmax - 1]).astype(int).tolist()


def test_softmax_slope_by_hand() -> None:
    # 480.5 * 2^s < 2^32 holds up to s = 23
    assert derive.softmax_slope(1.0, 2**23) == (480, 2**23, 23)
    # The distance bounds it instead: 100 * 2^s + 2^(s-1) < 2^32 up to s = 25
    assert derive.softmax_slope(1.0, 100) == (100, 2**25, 25)
    # So flat that no distance reaches half a step
    assert derive.softmax_slope(2.0**-33, 2**23) == (0, 0, 31)
    # m = 1 at s = 31: ceil(480 * 2^31) is far beyond the distance
    assert derive.softmax_slope(2.0**-31, 2**23) == (2**23, 1, 31)
    with pytest.raises(OverflowError):
        derive.softmax_slope(2.0**32, 2**23)


def test_softmax_slope_reaches_the_end() -> None:
    """At delta_max the index is 480: what lies beyond needs no more than the clamp."""
    for real in np.exp(np.random.default_rng(0).uniform(-12, 18, 300)).tolist():
        delta_max, m, s = derive.softmax_slope(real, 2**31)
        assert delta_max * m + 2 ** (s - 1) < 2**32
        assert (delta_max * m + 2 ** (s - 1)) >> s >= 480 or delta_max == 2**31


def test_softmax_slope_is_the_largest_that_fits() -> None:
    _, m, s = derive.softmax_slope(0.3, 2**23)
    assert s == 23
    assert m == round(0.3 * 2**23)


def test_attention_uses_the_slope_of_base_2() -> None:
    """s_q s_k / sqrt(d) * log2(e) * 32: a score distance of ln 2 is one octave."""
    q = Affine(2.0**-5, 0, *S8)
    softmax, requant = derive.attention("table16", q, q, UNIT, Affine(0.5, 0, *S8), 0.125, 64, 197, False)
    assert requant == Dyadic(2**30, 29)
    assert softmax.pmax == 16383
    real = 2.0**-13 * 32 / math.log(2)
    assert math.isclose(softmax.multiplier / 2**softmax.shift, real, rel_tol=2**-16)
    assert softmax.delta_max == math.ceil(480 * 2**softmax.shift / softmax.multiplier)


def test_long_rows_lower_the_weights_of_table16_and_end_table8() -> None:
    assert derive.softmax_pmax("table8", 128, 65793) == 255  # 255 * 128 * 65793 <= 2^31 - 1
    assert derive.softmax_pmax("table16", 128, 65793) == 255
    with pytest.raises(OverflowError):
        derive.softmax_pmax("table8", 128, 65794)
    assert derive.softmax_pmax("table16", 128, 100_000) == 167
    assert derive.softmax_pmax("table16", 128, 0) == 16383
    with pytest.raises(OverflowError):
        derive.softmax_pmax("table16", 128, 2**24)


def test_attention_refuses_a_normalisation_beyond_shift_62() -> None:
    small = Affine(2.0**-40, 0, *S8)
    with pytest.raises(OverflowError, match="too small"):
        derive.attention("table16", UNIT, UNIT, small, UNIT, 1.0, 4, 1000, False)


def test_mask_by_hand() -> None:
    values = [0.0, -1.0, 0.75, -math.inf, -3.4e38, 1e25, -1e29]
    add, keep = derive.mask(values, 0.5, 1.0, 1.0)
    assert add == [0, -2, 2, 0, 0, 2**24, -(2**24)]  # 0.75 / 0.5 = 1.5, to even
    assert keep == [True, True, True, False, False, True, True]


def test_layernorm_by_hand() -> None:
    # gamma / s_y = 2^7: 2^7 * 2^(s-16) < 2^31 up to s = 39
    got = derive.layernorm([1.0, -0.5], [1.0, 0.0], 2.0**-4, 0.5, 2.0**-7)
    assert (got.shift, got.gain, got.offset) == (39, [2**30, -(2**29)], [2**46, 0])
    assert got.epsilon == 1  # 4 * 2^-4 / 2^-2
    assert derive.layernorm([1.0], [0.0], 0.5, 1.0, 1.0).epsilon == 0  # a tie, to even
    # An offset can be what limits the shift: 2^40 * 2^s < 2^61
    assert derive.layernorm([0.0], [2.0**40], 0.0, 1.0, 1.0).shift == 20


def test_layernorm_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(OverflowError):
        derive.layernorm([1.0], [2.0**61], 0.0, 1.0, 1.0)
    with pytest.raises(OverflowError):
        derive.layernorm([1.0], [0.0], 1.0, 2.0**-31, 1.0)  # eps / s_x^2 = 2^62


def test_add_by_hand() -> None:
    assert derive.add(0.5, 0.25, 1.0) == derive.Add(2**30, 2**29, 31)
    assert derive.add(0.25, 0.5, 1.0) == derive.Add(2**29, 2**30, 31)
    assert derive.add(1.0, 2.0**-40, 1.0) == derive.Add(2**30, 0, 30)  # 2^-10: nothing


def test_tables_by_hand() -> None:
    x, y = Affine(0.5, 0, *S8), Affine(0.25, 3, *S8)
    assert derive.table("identity", x, y)[128 + 5] == 13  # 2.5 / 0.25 + 3
    assert derive.table("relu", x, y)[:129] == [3] * 129
    gelu = derive.table("gelu", x, y)
    assert gelu[128 + 2] == 6  # gelu(1) = 0.8413447: 3.365 steps
    assert gelu[128 - 2] == 2  # gelu(-1) = -0.1586553: -0.63 steps
    assert derive.table("exp", Affine(100.0, 0, *S8), y)[255] == 127


def test_table_of_given_values() -> None:
    values = [math.inf, -math.inf, 1e300] + [0.625] * 253
    got = derive.table_values(values, Affine(0.25, 0, *S8))
    assert got[:4] == [127, -128, 127, 2]  # 2.5, to even
    with pytest.raises(ValueError, match="NaN"):
        derive.table_values([math.nan] * 256, UNIT)


REFERENCE = {
    "gelu": lambda x: x / 2 * (1 + special.erf(x / np.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "quick_gelu": lambda x: x * special.expit(1.702 * x),
    "silu": lambda x: x * special.expit(x),
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "exp": np.exp,
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "abs": np.abs,
    "square": np.square,
}


@pytest.mark.parametrize("name", functions.NAMES)
def test_the_50_digit_functions_are_scipys(name: str) -> None:
    """SciPy's float64 functions are good to a few units in the last place; 1 + erf cancels for x < 0."""
    x = np.concatenate([np.linspace(-12, 12, 97), [1e-6, -1e-6, 30.0, -30.0]])
    got = [float(value) for v in x.tolist() if (value := functions.value(name, Fraction(v))) is not None]
    np.testing.assert_allclose(got, REFERENCE[name](x), rtol=4e-15, atol=1e-14)
