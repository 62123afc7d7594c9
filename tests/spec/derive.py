"""Derive: from scales, zero points and float weights to the integer constants of an op.

Written from the prose of derive.h, not from its C code. "float64" below means Python's float, which is one.
Where a constant is a real number rounded once (the softmax table), it is computed exactly instead.

Explained in docs/numerics, with each op; contract: csrc/include/pyquant/derive.h and the headers of the ops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tests.spec import functions
from tests.spec.attention import INDEX_END, MASK_ADD_LIMIT, Softmax, normalizer
from tests.spec.norm_methods import Ptf
from tests.spec.numbers import INT32_MAX, Affine, Dyadic, dyadic, float32, quantize, rne
from tests.spec.softmax import Lookup
from tests.spec.softmax import parse as parse_softmax

SCALE_MIN, SCALE_MAX = 2.0**-100, 2.0**100
LOG2_E = 1.4426950408889634  # float64 nearest to log2(e)
PMAX = {"table16": 16383, "table8": 255}
MASK_EXCLUDES = -1e30  # an additive mask at or below this is an exclusion


@dataclass(frozen=True)
class Gemm:
    """Integer weights [n][k], bias, and one dyadic number per column."""

    w: list[list[int]]
    bias: list[int]
    requant: list[Dyadic]


@dataclass(frozen=True)
class GroupScale:
    """One scale a column, and one factor [n][groups] a group: a group's weights lie scale * factor apart."""

    scale: list[float]
    factor: list[list[int]]


@dataclass(frozen=True)
class LayerNorm:
    epsilon: int
    gain: list[int]
    offset: list[int]
    shift: int


@dataclass(frozen=True)
class Add:
    a_multiplier: int
    b_multiplier: int
    shift: int


def check_scale(scale: float) -> None:
    if not SCALE_MIN <= scale <= SCALE_MAX:
        raise ValueError(f"scale {scale} lies outside [2^-100, 2^100]")


def weight_scale(
    w: Sequence[Sequence[float]], bias: Sequence[float] | None, x_scale: float, bits: int
) -> list[float]:
    """s_w = max(absmax / quant_max, |bias| / (s_x * 2^30)), 1 if both are 0 (pq_derive_weight_scale).

    The second term keeps |bias / (s_x * s_w)| <= 2^30: a large bias on a column of tiny weights fits int32.
    """
    check_scale(x_scale)
    quant_max = 2 ** (bits - 1) - 1
    scales = []
    for column, row in enumerate(w):
        absmax = max((abs(v) for v in row), default=0.0)
        bias_size = abs(bias[column]) if bias is not None else 0.0
        scale = max(absmax / quant_max, bias_size / (x_scale * 2.0**30))
        scales.append(min(max(float32(scale), SCALE_MIN), SCALE_MAX) if scale > 0 else 1.0)
    return scales


def gemm(
    w: Sequence[Sequence[float]],
    bias: Sequence[float] | None,
    w_scale: Sequence[float],
    bits: int,
    x_scale: float,
    y_scale: float,
) -> Gemm:
    """w_q = quantize(w), bias_q = rne(bias / (s_x s_w)), M = (s_x s_w) / s_y (pq_derive_gemm)."""
    check_scale(x_scale)
    check_scale(y_scale)
    quant_max = 2 ** (bits - 1) - 1
    rows, biases, requant = [], [], []
    for column, row in enumerate(w):
        check_scale(w_scale[column])
        grid = Affine(w_scale[column], 0, -quant_max, quant_max)
        integers = [quantize(v, grid) for v in row]
        accumulator_scale = x_scale * w_scale[column]
        integer_bias = rne(bias[column] / accumulator_scale) if bias is not None else 0
        if abs(integer_bias) + 255 * sum(abs(v) for v in integers) > INT32_MAX:
            raise OverflowError(f"column {column} may overflow int32")
        rows.append(integers)
        biases.append(integer_bias)
        requant.append(dyadic(accumulator_scale / y_scale))
    return Gemm(rows, biases, requant)


def groups_of(row: Sequence[float], group_size: int) -> list[Sequence[float]]:
    """The weights of a column cut into groups; the last one may be short."""
    return [row[p : p + group_size] for p in range(0, len(row), group_size)]


def group_factor_max(quant_max: int, k: int) -> int:
    """So that k products of factor * quant_max * 255 stay below 2^30, as the bias does (derive.h)."""
    return max(1, min(255, (2**30 - 1) // (255 * quant_max * max(k, 1))))


def group_scale(
    w: Sequence[Sequence[float]],
    bias: Sequence[float] | None,
    wanted: Sequence[Sequence[float]] | None,
    group_size: int,
    x_scale: float,
    bits: int,
) -> GroupScale:
    """Each group's own scale (wanted, or absmax / quant_max) as a small multiple of its column's
    (pq_derive_group_scale).

    The column's scale is such that its widest group gets the largest factor: relative to that, the scales of
    the others are off by at most half of 1 / factor.
    """
    check_scale(x_scale)
    quant_max = 2 ** (bits - 1) - 1
    scales, factors = [], []
    for column, row in enumerate(w):
        if wanted is None:
            own = [max(abs(v) for v in group) / quant_max for group in groups_of(row, group_size)]
        else:
            own = list(wanted[column])
            for scale in own:
                check_scale(scale)
        largest = group_factor_max(quant_max, len(row))
        bias_size = abs(bias[column]) if bias is not None else 0.0
        real = max(max(own, default=0.0) / largest, bias_size / (x_scale * 2.0**30))
        scale = min(max(float32(real), SCALE_MIN), SCALE_MAX) if real > 0 else 1.0
        scales.append(scale)
        factors.append([min(max(rne(g / scale), 1), largest) for g in own])
    return GroupScale(scales, factors)


def gemm_s8s4(
    w: Sequence[Sequence[float]],
    bias: Sequence[float] | None,
    scales: GroupScale,
    group_size: int,
    bits: int,
    x_scale: float,
    y_scale: float,
) -> Gemm:
    """As `gemm`, a weight quantized on float32(s_w * factor) of its group (pq_derive_gemm_s8s4)."""
    quant_max = 2 ** (bits - 1) - 1
    plain = gemm([[] for _ in w], bias, scales.scale, bits, x_scale, y_scale)  # bias and multipliers
    rows = []
    for column, row in enumerate(w):
        integers: list[int] = []
        size = 0
        for group, factor in zip(groups_of(row, group_size), scales.factor[column], strict=True):
            grid = Affine(float32(scales.scale[column] * factor), 0, -quant_max, quant_max)
            quantized = [quantize(v, grid) for v in group]
            size += factor * sum(abs(v) for v in quantized)
            integers += quantized
        if abs(plain.bias[column]) + 255 * size > INT32_MAX:
            raise OverflowError(f"column {column} may overflow int32")
        rows.append(integers)
    return Gemm(rows, plain.bias, plain.requant)


def exp2_entry(pmax: int, j: int) -> int:
    """rne(2 * pmax * 2^(-j/32)), by comparing 32nd powers: no real number is approximated.

    With x^32 = (2 pmax)^32 / 2^j, the answer is the n with 2n - 1 < 2x < 2n + 1. x is irrational for
    0 < j < 32, so there are no ties.
    """
    if j == 0:
        return 2 * pmax
    double_power = (4 * pmax) ** 32  # (2x)^32 * 2^j
    low, high = 0, 2 * pmax
    while low < high:  # the largest n with (2n - 1)^32 * 2^j < (2x)^32 * 2^j
        middle = (low + high + 1) // 2
        if (2 * middle - 1) ** 32 * 2**j < double_power:
            low = middle
        else:
            high = middle - 1
    return low


def value_bound(v_zero_point: int) -> int:
    """vmax = max(127 - z_v, 128 + z_v) over all of int8: it bounds |v - z_v|, and |v| too (attention.h)."""
    return max(127 - v_zero_point, 128 + v_zero_point)


def softmax_pmax(method: str, vmax: int, keys: int) -> int:
    """The largest weight for which no sum of `keys` products with up to vmax leaves int32 (attention.h)."""
    limit = INT32_MAX // (vmax * max(keys, 1))
    least = PMAX["table8"] if method == "table8" else 1
    if limit < least:
        raise OverflowError(f"{method} cannot hold {keys} keys")
    return min(PMAX[method], limit)


def softmax_slope(real: float, distance: int, end: int = INDEX_END) -> tuple[int, int, int]:
    """(delta_max, m, s) for M = `real` steps of the index a unit of score (pq_derive_attention).

    The largest s for which m is 32 bits and delta_max * m + 2^(s-1) < 2^32.
    """
    for s in range(31, 0, -1):
        m = rne(Fraction(real) * 2**s)
        if m == 0:
            if s == 31:  # so flat that every distance is nothing
                return 0, 0, s
            break
        delta_max = min(-(-end * 2**s // m), distance)
        if m < 2**32 and delta_max * m + 2 ** (s - 1) < 2**32:
            return delta_max, m, s
    raise OverflowError(f"softmax slope {real} cannot be encoded")


def softmax_constants(
    method: str, unit: float, distance: int, keys: int, vmax: int
) -> tuple[Softmax | Lookup, int]:
    """The constants of a softmax whose unit of score is `unit` nats, and a bound on L (pq_derive_softmax)."""
    by_table = parse_softmax(method)
    keys = max(keys, 1)
    if by_table is None:
        slope = softmax_slope(unit * LOG2_E * 32, distance)
        pmax = softmax_pmax(method, vmax, keys)
        return Softmax(*slope, pmax, tuple(exp2_entry(pmax, j) for j in range(32))), pmax * keys
    table = tuple(by_table.table())
    if max(table) * keys > by_table.sum_limit or by_table.most_weights(keys) > INT32_MAX // vmax:
        raise OverflowError(f"{method} cannot hold {keys} keys")
    slope = softmax_slope(unit * by_table.per_nat, distance, len(table) - 1)
    return Lookup(*slope, by_table, table), by_table.most_divisor(keys)


def softmax_rows(method: str, x: Affine, y: Affine, n: int) -> tuple[Softmax | Lookup, Dyadic]:
    """The constants of a softmax over rows of n (pq_derive_softmax_rows)."""
    check_scale(x.scale)
    check_scale(y.scale)
    softmax, most = softmax_constants(method, x.scale, 65535, n, 1)
    requant = dyadic(1 / y.scale)
    if normalizer(requant, most).shift > 62:  # the longest row has the largest shift
        raise OverflowError("y_scale is too large for rows of this length")
    return softmax, requant


def attention(
    method: str,
    q: Affine,
    k: Affine,
    v: Affine,
    y: Affine,
    softmax_scale: float,
    head_dim: int,
    keys: int,
    has_mask: bool,
) -> tuple[Softmax | Lookup, Dyadic]:
    """The softmax constants and the requantization of s_v / s_y (pq_derive_attention)."""
    for grid in (q, k, v, y):
        check_scale(grid.scale)
    unit = q.scale * k.scale * softmax_scale
    distance = 2 * 255 * 128 * head_dim + (2**25 if has_mask else 0)
    softmax, most = softmax_constants(method, unit, distance, keys, value_bound(v.zero_point))
    requant = dyadic(v.scale / y.scale)
    if normalizer(requant, most).shift > 62:  # the longest row has the largest shift
        raise OverflowError("v_scale / y_scale is too small for rows of this length")
    return softmax, requant


def mask(
    values: Sequence[float], q_scale: float, k_scale: float, softmax_scale: float
) -> tuple[list[int], list[bool]]:
    """(mask_add, keep) of an additive float mask (pq_derive_mask)."""
    score_scale = q_scale * k_scale * softmax_scale
    keep = [value > MASK_EXCLUDES for value in values]
    add = []
    for value, is_kept in zip(values, keep, strict=True):
        if math.isnan(value):
            raise ValueError("NaN in a mask")
        steps = value / score_scale if is_kept else 0.0
        add.append(rne(max(-float(MASK_ADD_LIMIT), min(steps, float(MASK_ADD_LIMIT)))))
    return add, keep


def layernorm(
    gamma: Sequence[float], beta: Sequence[float], epsilon: float, x_scale: float, y_scale: float
) -> LayerNorm:
    """E = rne(C^2 eps / s_x^2), gain = rne(gamma / s_y * 2^(s-16)), offset = rne(beta / s_y * 2^s)
    on the largest s that holds them all (pq_derive_layernorm)."""
    check_scale(x_scale)
    check_scale(y_scale)
    channels = len(gamma)
    epsilon_q = rne(channels * channels * epsilon / (x_scale * x_scale))
    if epsilon_q > 2**61:
        raise OverflowError("epsilon is too large for this input scale")
    largest_gain = max(abs(g) for g in gamma) / y_scale  # rounding is monotone: the largest decide for all
    largest_offset = max(abs(b) for b in beta) / y_scale
    for s in range(62, 0, -1):
        if rne(math.ldexp(largest_gain, s - 16)) < 2**31 and rne(math.ldexp(largest_offset, s)) < 2**61:
            gain = [rne(math.ldexp(g / y_scale, s - 16)) for g in gamma]
            offset = [rne(math.ldexp(b / y_scale, s)) for b in beta]
            return LayerNorm(epsilon_q, gain, offset, s)
    raise OverflowError("gain or offset too large for this output scale")


def norm_newton(gamma: Sequence[float], beta: Sequence[float], y_scale: float) -> LayerNorm:
    """gain = rne(gamma sqrt(C) / s_y * 2^(s-30)), offset = rne(beta / s_y * 2^s), no epsilon
    (pq_derive_norm)."""
    check_scale(y_scale)
    root = math.sqrt(len(gamma))
    gains = [g * root / y_scale for g in gamma]
    offsets = [b / y_scale for b in beta]
    for s in range(62, 0, -1):
        gain = [rne(math.ldexp(g, s - 30)) for g in gains]
        offset = [rne(math.ldexp(b, s)) for b in offsets]
        if all(abs(g) < 2**31 for g in gain) and all(abs(b) < 2**61 for b in offset):
            return LayerNorm(0, gain, offset, s)
    raise OverflowError("gain or offset too large for this output scale")


def norm_ptf(
    gamma: Sequence[float],
    beta: Sequence[float],
    x_scale: float,
    y_scale: float,
    x_range: Sequence[Sequence[float]],
) -> Ptf:
    """The 8-bit grid, alpha and constants of powers-of-two factors (pq_derive_norm)."""
    check_scale(x_scale)
    check_scale(y_scale)
    if not all(math.isfinite(v) for ends in x_range for v in ends):
        raise ValueError("a channel without a range")
    low, high = min(0.0, *x_range[0]), max(0.0, *x_range[1])
    scale8 = max((high - low) / 255, math.ldexp(x_scale, -20))
    s1 = scale8 / 8
    zero_point = max(-128, min(-128 - rne(low / scale8), 127))
    requant = dyadic(x_scale / s1)
    if requant.shift > 59:
        requant = Dyadic(2**30, 59)
    alphas, gains, exponents = [], [], []
    for g, least, greatest in zip(gamma, *x_range, strict=True):
        fits = [
            least >= (-128.5 - zero_point) * (s1 * 2**a) and greatest <= (127.5 - zero_point) * (s1 * 2**a)
            for a in (0, 1, 2)
        ]
        alphas.append(fits.index(True) if any(fits) else 3)
        size = abs(g) * len(gamma) / y_scale
        if size >= 2**30:
            raise OverflowError("gamma is too large for this output scale")
        number = dyadic(size) if size >= 2.0**-6 else Dyadic(0, 36)
        gains.append(-number.multiplier if g < 0 else number.multiplier)
        exponents.append(number.shift)
    offsets = [rne(math.ldexp(b / y_scale, 32)) for b in beta]
    if any(abs(b) >= 2**61 for b in offsets):
        raise OverflowError("beta is too large for this output scale")
    return Ptf(requant, zero_point, alphas, gains, exponents, offsets)


def add(a_scale: float, b_scale: float, y_scale: float) -> Add:
    """s_a / s_y and s_b / s_y on the shift of the larger (pq_derive_add)."""
    for scale in (a_scale, b_scale, y_scale):
        check_scale(scale)
    real_a, real_b = a_scale / y_scale, b_scale / y_scale
    larger = dyadic(max(real_a, real_b))
    smaller = rne(Fraction(min(real_a, real_b)) * 2**larger.shift)
    if real_a >= real_b:
        return Add(larger.multiplier, smaller, larger.shift)
    return Add(smaller, larger.multiplier, larger.shift)


def table(function: str, x: Affine, y: Affine) -> list[int]:
    """table[q + 128] = clamp(rne(f((q - z_x) s_x) / s_y) + z_y) (pq_derive_table)."""
    entries = []
    for q in range(-128, 128):
        real = functions.value(function, (q - x.zero_point) * Fraction(x.scale))
        entries.append(y.quant_max if real is None else y.out.apply(rne(real / Fraction(y.scale))))
    return entries


def table_values(values: Sequence[float], y: Affine) -> list[int]:
    """The same from 256 given real values, in float64 (pq_derive_table_values)."""
    assert len(values) == 256
    entries = []
    for real in values:
        if math.isnan(real):
            raise ValueError("NaN in a table")
        steps = clamp_float(real / y.scale)
        entries.append(y.out.apply(rne(steps)))
    return entries


def clamp_float(steps: float) -> float:
    """Far outside every grid, and an integer type can hold it: infinities become finite."""
    return max(-(2.0**31), min(steps, 2.0**31))
