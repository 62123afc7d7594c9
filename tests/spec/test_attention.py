"""Attention against numbers worked by hand, and two choices with near misses beside them: where the softmax
index ends, and what pmax has to count."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.spec import derive
from tests.spec.attention import (
    INDEX_END,
    Softmax,
    attention,
    attention_row,
    normalizer,
    softmax_index,
    softmax_weight,
    softmax_weights,
)
from tests.spec.numbers import Clamp, Dyadic, dyadic, rne

S8 = Clamp(0, -128, 127)
ONE = dyadic(1.0)


def softmax(pmax: int = 16383, distance: int = 2**23) -> Softmax:
    """One unit of score is one step of the index, a 32nd of an octave."""
    delta_max, multiplier, shift = derive.softmax_slope(1.0, distance)
    return Softmax(delta_max, multiplier, shift, pmax, tuple(derive.exp2_entry(pmax, j) for j in range(32)))


def test_index_rounds_half_up_and_ends_at_480() -> None:
    half = Softmax(1000, 2**21, 22, 16383, (0,) * 32)  # half a step a unit
    assert [softmax_index(d, half) for d in (0, 1, 2, 3, 959, 960, 2**32 - 1)] == [0, 1, 1, 2, 480, 480, 480]


def test_weights_halve_every_octave() -> None:
    unit = softmax()
    # 16383 / 2 = 8191.5, half up; 16383 / 4 = 4095.75; ... 16383 / 2^14 = 0.99994
    assert [softmax_weight(32 * h, unit) for h in (0, 1, 2, 3, 14)] == [16383, 8192, 4096, 2048, 1]
    assert unit.table[16] == 23169  # 32766 / sqrt(2) = 23169.06
    assert softmax_weight(16, unit) == 11585  # 11584.53 from the real function; 23169 / 2 rounds up


def test_the_exact_weight_at_the_end_is_zero() -> None:
    """pmax * 2^-15 < 1/2 for every pmax <= 16383, so rounding gives 0, and so does the formula at u = 480."""
    for pmax in (1, 255, 1024, 16383):
        assert rne(Fraction(pmax, 2**15)) == 0
        assert softmax_weight(INDEX_END, softmax(pmax)) == 0
    assert softmax_weight(INDEX_END - 1, softmax()) == 1  # 0.511 of a unit, the last that rounds up


def test_a_one_hot_row_keeps_no_trace_of_the_far_keys() -> None:
    """197 keys, one of them far above the rest. Ending the index at 479 would give each far key the weight
    1 / 16383: 196 of them 1.2 % of the row, though their true share is below e^-1000."""
    score = [0] * 196 + [100_000]
    keep = [True] * 197
    assert softmax_weights(score, keep, softmax()) == [0] * 196 + [16383]

    far_at_479 = softmax_weight(479, softmax())
    share = Fraction(196 * far_at_479, 196 * far_at_479 + 16383)
    assert far_at_479 == 1
    assert Fraction(118, 10_000) < share < Fraction(119, 10_000)

    # And in the output: v = 100 at the peak, -100 elsewhere.
    q, k, v = [1], [[0]] * 196 + [[127]], [[-100]] * 196 + [[100]]
    steep = Softmax(*derive.softmax_slope(32.0, 2**16), 16383, softmax().table)
    assert attention_row(q, k, v, (0, 0, 0), steep, ONE, S8).y == [100]
    drifted = (100 * 16383 - 100 * 196) / (16383 + 196)
    assert round(drifted) == 98


def pmax_for(bound: int, keys: int) -> int:
    return min(16383, (2**31 - 1) // (bound * keys))


def test_pmax_must_count_the_value_zero_point() -> None:
    """z_v = -128: v - z_v reaches 255, and O - z_v L leaves int32 if pmax is chosen for 128."""
    keys = 4096
    q, k, v = [0], [[0]] * keys, [[127]] * keys
    zero_points = (0, 0, -128)
    by_numerics, ours = pmax_for(128, keys), pmax_for(255, keys)
    assert (by_numerics, ours) == (4095, 2056)
    assert 255 * by_numerics * keys > 2**31 - 1 >= 255 * ours * keys

    with pytest.raises(AssertionError, match="leaves int32"):
        attention_row(q, k, v, zero_points, softmax(by_numerics), ONE, Clamp(-128, -128, 127))
    row = attention_row(q, k, v, zero_points, softmax(ours), ONE, Clamp(-128, -128, 127))
    assert row.y == [127]

    assert derive.softmax_pmax("table16", 255, keys) == ours


def test_short_rows_are_not_affected_by_the_bound() -> None:
    assert derive.softmax_pmax("table16", 255, 514) == 16383  # 255 * 16383 * 514 < 2^31
    assert derive.softmax_pmax("table16", 255, 515) == 16352


def test_equal_scores_give_the_mean_of_the_values() -> None:
    row = attention_row([3, 4], [[1, 1], [1, 1]], [[10, -7], [20, -8]], (0, 0, 0), softmax(), ONE, S8)
    assert row.score == [7, 7]
    assert row.p == [16383, 16383]
    assert row.total == 32766
    assert row.y == [15, -7]  # -7.5, half up


def test_scores_use_both_zero_points_but_weights_do_not_depend_on_the_keys() -> None:
    q, k, v = [5, 9], [[2, 3], [10, -4]], [[1, 0], [0, 1]]
    # (5-1, 9-1) = (4, 8): 4*(2-7) + 8*(3-7) = -52; 4*(10-7) + 8*(-4-7) = -76
    row = attention_row(q, k, v, (1, 7, 0), softmax(), ONE, S8)
    assert row.score == [-52, -76]
    # distance 24 steps: T = rne(32766 * 2^(-24/32) = 19482.8) = 19483, and 19483 / 2, half up
    assert row.p == [16383, 9742]
    assert attention_row(q, k, v, (1, 0, 0), softmax(), ONE, S8).p == row.p


def test_a_mask_excludes_a_key_from_maximum_and_sum() -> None:
    q, k, v = [1], [[0], [127], [0]], [[10], [99], [30]]
    row = attention_row(q, k, v, (0, 0, 0), softmax(), ONE, S8, keep=[True, False, True])
    assert row.p == [16383, 0, 16383]
    assert row.y == [20]
    assert row.score == [0, 127, 0]  # trace shows what was excluded


def test_an_additive_mask_shifts_the_score() -> None:
    row = attention_row([0], [[0], [0]], [[64], [0]], (0, 0, 0), softmax(), ONE, S8, mask_add=[-32, 0])
    assert row.score == [-32, 0]
    assert row.p == [8192, 16383]
    assert row.y == [21]


def test_a_row_without_keys_is_zero_on_the_output_grid() -> None:
    out = Clamp(-5, -128, 127)
    masked = attention_row([1], [[3]], [[9]], (0, 0, 77), softmax(), ONE, out, keep=[False])
    empty = attention_row([1], [], [], (0, 0, 77), softmax(), ONE, out)
    assert masked.y == empty.y == [-5]
    assert masked.total == empty.total == 1
    assert masked.p == [0]


def test_causal_aligns_the_last_query_with_the_last_key() -> None:
    k, v = [[0]] * 3, [[3], [6], [9]]
    rows = attention([[0]] * 2, k, v, (0, 0, 0), softmax(), ONE, S8, causal=True)
    assert [[w > 0 for w in row.p] for row in rows] == [[True, True, False], [True, True, True]]
    # More queries than keys: the first query sees none.
    rows = attention([[0]] * 4, k, v, (0, 0, 0), softmax(), ONE, S8, causal=True)
    assert [sum(w > 0 for w in row.p) for row in rows] == [0, 1, 2, 3]


@pytest.mark.parametrize("total", [1, 2, 3, 255, 16383, 65537, 2**24 - 1, 16383 * 1024])
@pytest.mark.parametrize("requant", [dyadic(1.0), dyadic(0.7), Dyadic(2**31 - 1, 31)])
def test_normalizer_is_within_2_to_minus_30(requant: Dyadic, total: int) -> None:
    exact = requant.value() / total
    error = normalizer(requant, total).value() / exact - 1
    assert -Fraction(1, 2**30) < error <= 0


def test_trace_and_output_belong_together() -> None:
    """y follows from P and L by one division: the only rounding after P."""
    row = attention_row(
        [7, -3], [[5, 2], [1, 9], [-6, 0]], [[50, 1], [-20, 2], [7, 3]], (0, 0, 0), softmax(), ONE, S8
    )
    assert row.total == sum(row.p)
    for d in range(2):
        exact = Fraction(
            sum(p * v[d] for p, v in zip(row.p, [[50, 1], [-20, 2], [7, 3]], strict=True)), row.total
        )
        assert abs(row.y[d] - exact) <= Fraction(1, 2) + Fraction(128, 2**30)
