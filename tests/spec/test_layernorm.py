"""LayerNorm against numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from tests.spec.layernorm import inverse_root, layernorm, normalize, rnu_affine
from tests.spec.numbers import Clamp

ONE = 2**16  # 1.0 in Q16


def test_two_values_are_one_deviation_apart() -> None:
    assert normalize([0, 1], 0) == [-ONE, ONE]
    assert normalize([-128, 127], 0) == [-ONE, ONE]
    assert normalize([-32768, 32767], 0) == [-ONE, ONE]


def test_a_small_variance_is_not_lost() -> None:
    """V = 4 * 1 - 1 = 3. A floor of sqrt(3) is 1 and would give 3.0 instead of sqrt(3)."""
    z = normalize([0, 0, 0, 1], 0)
    assert math.isqrt(3) == 1
    assert z[3] == 113512 == round(3 / math.sqrt(3) * ONE)
    assert z[:3] == [-37837] * 3  # -1 / sqrt(3) * 2^16 = -37837.2


def test_zero_variance_gives_the_offset() -> None:
    assert normalize([77] * 5, 0) == [0] * 5
    # offset 3 * 2^4 on shift 4, then zero point 1
    assert layernorm([77] * 5, 0, [1000] * 5, [48] * 5, 4, Clamp(1, -128, 127)) == [4] * 5


def test_epsilon_is_in_units_of_c_squared_x_squared() -> None:
    """x = (0, 1): V = 1; with E = 3 the deviation is 2."""
    assert normalize([0, 1], 3) == [-ONE // 2, ONE // 2]


def test_rms_sees_the_zero_point_and_keeps_the_mean() -> None:
    # x - z = (3, 4): rms = sqrt(25 / 2) = 3.5355; 3 / rms = 0.848528, 4 / rms = 1.131371
    assert normalize([13, 14], 0, rms=True, x_zero_point=10) == [55609, 74146]
    assert normalize([13, 14], 0) == [-ONE, ONE]


def test_a_single_channel() -> None:
    assert normalize([5], 0) == [0]
    assert normalize([5], 0, rms=True) == [ONE]


@pytest.mark.parametrize("w", [1, 2, 3, 4, 2**31, 2**62 - 1, 2**62, 2**63 - 1])
def test_inverse_root_has_31_bits(w: int) -> None:
    m, shift = inverse_root(w)
    assert 2**30 <= m < 2**31
    assert 15 <= shift <= 46
    assert math.isclose(m / 2**shift, ONE / math.sqrt(w), rel_tol=2**-29)


def test_the_longest_row_with_the_largest_peak_stays_in_range() -> None:
    """|z| <= sqrt(C - 1) < 181.02 in Q16: below 2^24."""
    z = normalize([-32768] * 32766 + [32767], 0)
    assert abs(z[-1] - math.sqrt(32766) * ONE) <= 1 + math.sqrt(32766) * ONE * 2**-29


def test_rnu_affine_rounds_half_up() -> None:
    assert [rnu_affine(z, 1, 0, 1) for z in (-3, -1, 1, 3)] == [-1, 0, 1, 2]
    assert rnu_affine(3, -5, 7, 2) == -2  # (-15 + 7) / 4


def test_gain_may_be_negative_per_channel() -> None:
    # gain = +-1 in units of y: z * 2^14 >> 30 = z / 2^16
    assert layernorm([0, 1], 0, [2**14, -(2**14)], [0, 0], 30, Clamp(0, -128, 127)) == [-1, -1]
