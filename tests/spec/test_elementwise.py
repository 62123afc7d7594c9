"""Element-wise ops and data movement against values worked by hand."""

from __future__ import annotations

import pytest

from tests.spec import elementwise, layout
from tests.spec.numbers import Clamp, Dyadic

S8 = Clamp(0, -128, 127)
HALF = (2**30, 31)


def test_table_is_indexed_from_minus_128() -> None:
    entries = [(7 * i) % 256 - 128 for i in range(256)]
    assert elementwise.table([-128, -127, 0, 127], entries) == [-128, -121, entries[128], entries[255]]


def test_requantize_subtracts_and_adds_zero_points() -> None:
    # (13 - 10) / 2 = 1.5 -> 2, + (-4)
    assert elementwise.requantize([13, 10, 7], 10, Dyadic(*HALF), Clamp(-4, -128, 127)) == [-2, -4, -5]


def test_add_rounds_once() -> None:
    """1/2 + 1/2 = 1. Rounded apart, half up, it would be 2."""
    assert elementwise.add([1], [1], (0, 0), (2**30, 2**30), 31, S8) == [1]


def test_add_with_zero_points_and_a_repeating_operand() -> None:
    # a - 1 = 3, 5, 7, 9 halved; b + 2 = 4, 8 quartered: 1.5 + 1, 2.5 + 2, 3.5 + 1, 4.5 + 2, half up, + 10
    got = elementwise.add([4, 6, 8, 10], [2, 6], (1, -2), (2**30, 2**29), 31, Clamp(10, -128, 127))
    assert got == [13, 15, 15, 17]


def test_add_at_the_ends_of_s16() -> None:
    top = 2**31 - 1
    assert elementwise.add([32767], [32767], (-32768, -32768), (top, top), 62, S8) == [0]
    assert elementwise.add([-32768], [-32768], (32767, 32767), (top, top), 1, S8) == [-128]


def test_mean_by_hand() -> None:
    # columns (1, 3, 5) and (-2, -2, -5), zero point 1: sums 6 and -12; times 1/4
    x = [[[1, -2], [3, -2], [5, -5]]]
    assert elementwise.mean(x, 1, Dyadic(2**30, 32), S8) == [[2, -3]]


def test_copy_transposes_slices_flips_and_repeats() -> None:
    x = [0, 1, 2, 3, 4, 5]  # 2 x 3
    assert layout.copy(x, [3, 2], [1, 3], 0) == [0, 3, 1, 4, 2, 5]
    assert layout.copy(x, [2], [3], 1) == [1, 4]
    assert layout.copy(x, [3], [-1], 5) == [5, 4, 3]
    assert layout.copy(x, [2, 2], [0, 1], 2) == [2, 3, 2, 3]
    assert layout.copy(x, [], [], 4) == [4]
    assert layout.copy(x, [0, 2], [1, 1], 0) == []
    with pytest.raises(AssertionError, match="outside"):
        layout.copy(x, [3], [3], 0)


def test_concat_repeats_a_single_row() -> None:
    assert layout.concat([[[9]], [[1, 2], [3, 4]]], 2) == [[9, 1, 2], [9, 3, 4]]


def test_gather_by_hand() -> None:
    assert layout.gather([[1, 2], [3, 4]], [1, 1, 0]) == [[3, 4], [3, 4], [1, 2]]
    for bad in (-1, 2):
        with pytest.raises(IndexError):
            layout.gather([[1, 2], [3, 4]], [bad])
