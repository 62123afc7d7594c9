"""The histogram's state against states worked by hand."""

from __future__ import annotations

import math

import pytest

from tests.spec.observe import BINS, EMPTY, Histogram, bin_of, merge, minmax

MIDDLE = BINS // 2


def test_the_range_is_the_least_power_of_two_above_every_value() -> None:
    histogram = Histogram()
    histogram.observe([0.75])
    assert histogram.exponent == 0  # 0.75 < 2^0
    assert histogram.counts[bin_of(0.75, 0)] == 1
    assert bin_of(0.75, 0) == 1792
    histogram.observe([1.0])  # 1.0 < 2^1
    assert histogram.exponent == 1
    assert histogram.counts[1408] == 1
    assert histogram.counts[1536] == 1
    histogram.observe([-2.0])  # |x| >= 2^1 grows, on the negative side as well
    assert histogram.exponent == 2
    assert {i: c for i, c in enumerate(histogram.counts) if c} == {512: 1, 1216: 1, 1280: 1}
    assert (histogram.minimum, histogram.maximum, histogram.total) == (-2.0, 1.0, 3)


def test_bins_merge_around_zero() -> None:
    """The bins beside 0 stay beside 0: a sign is never lost."""
    histogram = Histogram()
    histogram.observe([-1e-9, 1e-9, 1e9])
    assert histogram.counts[MIDDLE - 1] == 1
    assert histogram.counts[MIDDLE] == 1


def test_zeros_wait_for_a_scale() -> None:
    histogram = Histogram()
    histogram.observe([0.0, -0.0])
    assert histogram.exponent == EMPTY
    assert sum(histogram.counts) == 0
    assert histogram.total == 2
    histogram.observe([3.0])
    assert histogram.exponent == 2
    assert histogram.counts[MIDDLE] == 2
    assert histogram.counts[bin_of(3.0, 2)] == 1


def test_the_least_subnormal() -> None:
    histogram = Histogram()
    histogram.observe([2.0**-149])
    assert histogram.exponent == -148
    assert histogram.counts[MIDDLE + MIDDLE // 2] == 1


def test_merge_is_seeing_both() -> None:
    parts = [[0.0, 0.0], [0.3, -4.0], [1e-3], []]
    together, merged = Histogram(), Histogram()
    for part in parts:
        together.observe(part)
        alone = Histogram()
        alone.observe(part)
        merged = merge(alone, merged)
    assert merged == together


def test_minmax() -> None:
    assert minmax([1.0, -3.5, 2.0]) == (-3.5, 2.0)
    assert minmax([]) == (math.inf, -math.inf)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            minmax([1.0, bad])
