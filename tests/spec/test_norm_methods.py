"""LayerNorm's methods against numbers worked by hand, and against what their papers' code prints."""

from __future__ import annotations

import math

import pytest

from tests.spec.layernorm import inverse_root
from tests.spec.norm_methods import (
    PUBLISHED_START,
    Ptf,
    expand,
    layernorm_newton,
    layernorm_ptf,
    normalize_newton,
    root,
    root_ibert,
    root_of_shifted_squares,
    root_steps,
    start_of,
)
from tests.spec.numbers import Clamp, Dyadic

ONE = Dyadic(2**30, 30)
WIDE = Clamp(0, -32768, 32767)


def test_newton_by_hand() -> None:
    """sqrt(48): from 8, (8 + 6) / 2 = 7, (7 + 6) / 2 = 6, (6 + 8) / 2 = 7 rises: 6."""
    assert start_of(48) == 8
    assert [root_steps(48, 8, n) for n in range(5)] == [8, 7, 6, 7, 6]  # 48 + 1 is a square
    assert root_ibert(48) == 6
    assert root_steps(50, 8, 10) == 7
    assert [start_of(n) for n in (1, 2, 3, 4, 15, 16, 2**46, 2**47 - 1)] == [2, 2, 2, 4, 4, 8, 2**24, 2**24]


@pytest.mark.parametrize(("deviation", "published"), [(1, 64), (16, 65), (64, 83), (128, 132), (256, 256)])
def test_the_published_start_is_not_converged_below_256(deviation: int, published: int) -> None:
    """I-ViT's ten steps from 2^16, of n = deviation^2: sqrt(C) standard deviations, not their squares."""
    n = deviation * deviation
    assert root("ivit_published", n) == published
    assert root("ivit", n) == root("ibert", n) == deviation


def test_where_the_published_start_is_right() -> None:
    """From 2^16, ten halvings reach 64: exact from 2^16 on, and no more where n passes 2^45."""
    assert root_steps(256**2, PUBLISHED_START, 10) == 256
    assert all(root("ivit_published", n) - math.isqrt(n) in (0, 1) for n in range(2**16, 2**16 + 3000))
    assert all(root("ivit_published", 1 << b) == math.isqrt(1 << b) for b in range(16, 46))
    assert root("ivit_published", 2**46) == 2**23 + 1
    assert root("ivit_published", 2**47 - 1) == 11863572
    assert math.isqrt(2**47 - 1) == 11863283
    assert root("ivit", 2**47 - 1) == 11863283


def test_roots_of_all_small_numbers_and_of_squares() -> None:
    squares = [m * m + d for m in (1, 2, 3, 181, 4095, 65535, 65536, 11863282) for d in (-1, 0, 1, 2 * m)]
    for n in [*range(1, 5000), *(n for n in squares if n >= 1)]:
        floor = math.isqrt(n)
        assert root_ibert(n) == floor
        for steps in range(1, 6):
            assert root_steps(n, start_of(n), steps) >= floor
        for steps in (5, 6, 10, 16):  # where n + 1 is a square, steps go back and forth
            after = root_steps(n, start_of(n), steps)
            assert after == floor or (after == floor + 1 and after * after == n + 1)


def test_the_released_shift_of_ibert_loses_what_64_bits_keep() -> None:
    """401 = 200.5 * 2: where sum y^2 passes 2^32 the code halves differences with a floor."""
    for value, shifted in ((401, 400), (-401, 402)):
        y = [value] * 32767
        assert sum(v * v for v in y) >= 2**32
        assert math.isqrt(sum(v * v for v in y)) == root_ibert(sum(v * v for v in y)) == 72587
        assert abs(root_of_shifted_squares(y) / math.sqrt(32767) - shifted) < 0.01
    small = [100] * 32767
    assert root_of_shifted_squares(small) == math.isqrt(sum(v * v for v in small))


def test_normalize_by_hand() -> None:
    """Mean 2, y = -2 -2 -2 6, std 6: 2^31 / 6 = 357913941, z = y * 178956970.5."""
    assert normalize_newton([0, 0, 0, 8], "ibert") == [-357913941] * 3 + [1073741823]
    assert normalize_newton([0, 0, 0, 8], "ivit_published")[3] == 6 * (2**25 - 1) // 2  # std 64
    assert normalize_newton([1, 2], "ibert") == [-(2**30), 0]  # the mean 1.5 is rounded up to 2


def test_constant_rows_and_single_channels() -> None:
    for method in ("ibert", "ivit", "ivit_published"):
        assert normalize_newton([77] * 5, method) == [0] * 5
        assert normalize_newton([-7], method) == [0]
        assert normalize_newton([7], method, rms=True, x_zero_point=7) == [0]
    # the end of the range: |y| * 2^31 / std = 2^31 exactly
    assert normalize_newton([4], "ibert", rms=True) == [2**30]
    assert normalize_newton([-4], "ibert", rms=True) == [-(2**30)]


def test_longest_rows_with_the_largest_peak_stay_in_range() -> None:
    for rms, zero_point in ((False, 0), (True, -32768), (True, 32767)):
        for x in ([-32768] * 32766 + [32767], [-32768, 32767] * 16383 + [0], [0] * 32766 + [-32768]):
            for method in ("ibert", "ivit", "ivit_published"):
                z = normalize_newton(x, method, rms=rms, x_zero_point=zero_point)
                assert max(map(abs, z)) <= 2**30


def test_gamma_zero_gives_beta() -> None:
    """The released code divides beta by gamma; one shift for gain and offset does not."""
    y = layernorm_newton([1, 5, 3, 9], "ibert", 0, [0] * 4, [3 << 40] * 4, 40, WIDE)
    assert y == [3] * 4


# ---- powers-of-two factors ----


def ptf(alpha: list[int], gain: list[int], exponent: list[int], requant: Dyadic = ONE, zero: int = 0) -> Ptf:
    return Ptf(requant, zero, alpha, gain, exponent, [0, 7 << 32])


def test_expand_by_hand() -> None:
    """Steps of 1, 2, 4, 8 around zero point 10: clamp to [-138, 117] first, then back to steps of 1."""
    c = ptf([0, 1, 2, 3], [], [], zero=10)
    assert expand([100, 101, 102, 100], 0, c) == [100, 102, 104, 104]  # 50.5 and 12.5 up, 25.5 up
    assert expand([300, 300, 300, 300], 0, c) == [117, 234, 300, 304]
    assert expand([-300, -300, -300, -300], 0, c) == [-138, -276, -300, -296]
    assert expand([5, 5, 5, 5], 5, c) == [0] * 4


def test_ptf_by_hand() -> None:
    """X = 10 20: S1 = 30, V = 2 * 500 - 900 = 100. |gamma| C / s_y = 40: A = 4 less 2^-31 of it, hence
    N = 6 and M = 255. 15 A 2^6 = 3840: 10 * 255 - 3840 = -1290, and 1260: -20.16 and 19.69, plus 7."""
    assert inverse_root(100)[0] < 2**31 / 10 * 8  # floored
    c = ptf([0, 0], [40 << 25] * 2, [25, 25])
    assert layernorm_ptf([10, 20], c, WIDE) == [-20, 27]
    assert layernorm_ptf([10, 20], ptf([0, 0], [-(40 << 25), 40 << 25], [25, 25]), WIDE) == [20, 27]
    # RMSNorm: V = 2 * 500, A = 40 / sqrt(1000) = 1.265, N = 7, M = 161
    assert layernorm_ptf([10, 20], c, WIDE, rms=True) == [(1610 + 64) >> 7, ((3220 + 64) >> 7) + 7]


def test_ptf_without_variance_gives_the_offset() -> None:
    c = ptf([0, 1], [2**30, 0], [5, 1])
    assert layernorm_ptf([6, 6], c, WIDE) == [0, 7]
    assert layernorm_ptf([0, 0], c, WIDE, rms=True) == [0, 7]


def test_ptf_at_the_ends_of_its_constants() -> None:
    """The greatest and least multiplier, rows of the greatest and least variance: nothing leaves int64."""
    for gain in (2**31 - 1, -(2**31) + 1, 2**30, 0):
        for exponent in (1, 36):
            for zero in (-128, 127):
                for x in ([0, 1], [32767, -32768], [-32768, -32767]):
                    for requant in (Dyadic(2**31 - 1, 1), Dyadic(2**30, 59), Dyadic(2**30, 38)):
                        c = Ptf(requant, zero, [0, 3], [gain] * 2, [exponent] * 2, [2**61 - 1, -(2**61) + 1])
                        layernorm_ptf(x, c, WIDE)
                        layernorm_ptf(x, c, WIDE, rms=True, x_zero_point=77)
