"""The online form of attention: its factor, numbers worked by hand, and the exact form inside one block."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from tests.spec import derive
from tests.spec.attention import Softmax, attention_row
from tests.spec.attention_online import (
    BLOCK,
    FACTORS,
    ONE,
    Sums,
    add_block,
    attention_online,
    attention_online_row,
    move_factor,
)
from tests.spec.numbers import Clamp, dyadic

S8 = Clamp(0, -128, 127)


def softmax(pmax: int = 16383, step: float = 1.0) -> Softmax:
    """One unit of score is `step` steps of the index, of which 32 make an octave."""
    table = tuple(derive.exp2_entry(pmax, j) for j in range(32))
    return Softmax(*derive.softmax_slope(step, 2**23), pmax, table)


def test_factors_are_powers_of_two() -> None:
    assert (FACTORS[0], FACTORS[16], FACTORS[32]) == (32768, 23170, 16384)  # 32768 / sqrt(2) = 23170.5


def test_a_maximum_that_stays_is_the_factor_one() -> None:
    one = move_factor(0, softmax())
    assert (one.multiplier, one.shift) == (ONE, 15)
    sums = Sums(5, 16383, (2**31 - 1 - 16383, -(2**31) + 1 + 16383))
    after = add_block(sums, [5 - 32], [[1, -1]], 0, softmax(), [True])
    assert after == Sums(5, 16383 + 8192, (sums.weighted[0] + 8192, sums.weighted[1] - 8192))


def test_a_block_without_keys_changes_nothing() -> None:
    sums = Sums(5, 16383, (7, -7))
    assert add_block(sums, [10**6], [[1, 1]], 0, softmax(), [False]) is sums


def test_half_a_step_lies_between_two_entries() -> None:
    """Delta = 3 at half a step a unit: 1.5 steps, 32066 - rnu(687 / 2) = 31722; 2^(-1.5/32) is 31720.6."""
    factor = move_factor(3, softmax(step=0.5))
    assert (factor.multiplier, factor.shift) == (31722, 15)
    sums = add_block(Sums(0, 16383, (163830,)), [3], [[-20]], 0, softmax(step=0.5), [True])
    assert sums == Sums(3, 15860 + 16383, (158600 - 20 * 16383,))


@pytest.mark.parametrize("step", [0.013, 0.5, 1.0, 7.3])
def test_factor_is_within_a_twelve_thousandth(step: float) -> None:
    """The chord lies at most (ln 2 / 32)^2 / 8 = 5.9e-5 above the curve; entries and the result are rounded,
    2^-15 of at least 1/2; the slope m / 2^s is off by 2^-22 of 480 steps of ln 2 / 32 at most."""
    constants = softmax(step=step)
    slope = constants.multiplier / 2**constants.shift
    previous = Fraction(2)
    for delta in range(0, int(480 / step) + 3, max(1, int(1 / step / 5))):
        factor = move_factor(delta, constants).value()
        assert factor <= previous
        previous = factor
        if delta * slope < 479.5:
            error = float(factor) / 2 ** (-delta * slope / 32) - 1
            assert -(2.0**-14) < error < 5.9e-5 + 2.0**-14
        elif delta * slope > 479.6:
            assert factor == 0


def numbers(source: random.Random, rows: int, d: int) -> list[list[int]]:
    return [[source.randint(-128, 127) for _ in range(d)] for _ in range(rows)]


@pytest.mark.parametrize("keys", [0, 1, 2, 63, BLOCK])
def test_one_block_is_the_exact_form(keys: int) -> None:
    source = random.Random(keys)
    for _ in range(20):
        q, k, v = numbers(source, 1, 3)[0], numbers(source, keys, 3), numbers(source, keys, 3)
        keep = [source.random() < 0.8 for _ in range(keys)]
        arguments = ((3, -9, 17), softmax(step=0.01), dyadic(1.3), S8, keep)
        assert attention_online_row(q, k, v, *arguments) == attention_row(q, k, v, *arguments).y


def test_blocks_are_places_and_not_counts_of_kept_keys() -> None:
    """Two keys in two blocks are rescaled, whatever is masked between them; in one block they are not."""
    q, out = [1], dyadic(16.0)
    for places, y in (((0, 64), -84), ((0, 63), -85), ((64, 127), -85), ((63, 64), -84)):
        k, v, keep = [[0]] * 128, [[99]] * 128, [False] * 128
        for place, score, value in zip(places, (0, 3), (10, -20), strict=True):
            k[place], v[place], keep[place] = [score], [value], True
        assert attention_online_row(q, k, v, (0, 0, 0), softmax(step=0.5), out, S8, keep) == [y]


def test_equal_scores_give_the_mean_over_many_blocks() -> None:
    v = [[x] for x in range(-100, 100)]
    assert attention_online_row([1], [[7]] * 200, v, (0, 0, 3), softmax(), dyadic(1.0), S8) == [-3]  # -3.5


def test_a_row_without_keys_is_the_zero_point() -> None:
    out = Clamp(-5, -128, 127)
    k = [[1]] * 70
    assert attention_online_row([1], k, k, (0, 0, 77), softmax(), dyadic(1.0), out, [False] * 70) == [-5]


def test_causal_aligns_the_last_query_with_the_last_key() -> None:
    k, v = [[0]] * 70, [[0]] * 68 + [[69], [70]]
    rows = attention_online([[0]] * 72, k, v, (0, 0, 0), softmax(), dyadic(1.0), S8, causal=True)
    assert rows[:2] == [[0], [0]]
    assert [rows[70], rows[71]] == [[1], [2]]  # 69 / 69, 139 / 70


def test_rescaling_never_grows_a_sum() -> None:
    """rnu of a factor <= 1 is monotonic and fixes integers; half up, the sum -1/2 goes to 0."""
    source = random.Random(1)
    for _ in range(2000):
        o, delta = source.randint(-(2**31), 2**31 - 1), source.randint(0, 500)
        after = add_block(Sums(0, 16383, (o,)), [delta], [[0]], 0, softmax(), [True])
        assert abs(after.weighted[0]) <= abs(o)
        assert 16383 <= after.total <= 2 * 16383
