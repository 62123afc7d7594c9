"""The definition of the error metrics against numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from tests.spec.metrics import block, dequantized, f32, kl, row, sqnr


def test_float32_rounding() -> None:
    assert f32(1 + 2.0**-24) == 1.0
    assert f32(1 + 3 * 2.0**-24) == 1 + 2.0**-22
    assert f32(1e39) == math.inf
    assert dequantized(7, 3, 0.25) == 1.0


def test_sums_by_hand() -> None:
    assert row([3.0, 4.0], [3.0, 2.0]) == (25.0, 13.0, 17.0, 4.0, 2.0)
    assert row([], []) == (0.0, 0.0, 0.0, 0.0, 0.0)


def test_a_lane_rounds_and_its_neighbour_does_not() -> None:
    """4096^2 + 1 needs 25 bits: lost in one lane, kept in two."""
    one_lane = [4096.0] + [0.0] * 15 + [1.0]
    assert block(one_lane, one_lane)[0] == 2.0**24
    two_lanes = [4096.0, 1.0]
    assert block(two_lanes, two_lanes)[0] == 2.0**24 + 1


@pytest.mark.parametrize("size", [2.0**100, 2.0**-100, 2.0**-149])
def test_beyond_float32_squares(size: float) -> None:
    assert block([size, size], [0.0, size]) == (2 * size**2, size**2, size**2, size**2, size)


def test_sqnr_by_hand() -> None:
    """Ratios 5 / 0.5 and 10 / 1; a mean of squares would say the same, unequal ratios tell: (10 + 30) / 2."""
    halves = [([3.0, 4.0], [3.0, 3.5]), ([6.0, 8.0], [6.0, 7.0])]
    assert sqnr(halves) == pytest.approx(20.0)
    assert sqnr([halves[0], ([30.0, 0.0], [29.0, 0.0])]) == pytest.approx(20 * math.log10(20))
    assert sqnr([*halves, ([1.0], [1.0])]) == pytest.approx(20.0)
    assert sqnr([([0.0], [1.0])]) == -math.inf
    assert sqnr([([1.0], [1.0])]) == math.inf
    assert math.isnan(sqnr([]))


def test_kl_by_hand() -> None:
    """(3/4, 1/4) against (1/2, 1/2): 3/4 log 3/2 + 1/4 log 1/2."""
    want = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert kl([math.log(3), 0.0], [0.0, 0.0]) == pytest.approx(want, rel=1e-15)
    assert kl([7.0], [-3.0]) == 0.0
