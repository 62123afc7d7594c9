"""GEMM against numbers worked by hand."""

from __future__ import annotations

import pytest

from tests.spec.gemm import accumulate, accumulate_s8s4, gemm, gemm_s8s4, pack_s4, unpack_s4
from tests.spec.numbers import Clamp, Dyadic


def test_by_hand() -> None:
    # (5-1, -3-1) = (4, -4): 4*2 - 4*7 + 100 = 80; 4*(-1) - 4*0 - 1 = -5
    x, w, bias = [[5, -3]], [[2, 7], [-1, 0]], [100, -1]
    assert accumulate(x, 1, w, bias) == [[80, -5]]
    # 80 / 4 = 20; -5 / 2 = -2.5, half up -2; zero point 3
    requant = [Dyadic(2**30, 32), Dyadic(2**30, 31)]
    assert gemm(x, 1, w, bias, requant, Clamp(3, -128, 127)) == [[23, 1]]
    assert gemm(x, 1, w, bias, requant, Clamp(3, 2, 22)) == [[22, 2]]


def test_no_products_gives_the_bias() -> None:
    assert accumulate([[], []], 5, [[], []], [7, -9]) == [[7, -9], [7, -9]]


def test_the_accumulator_bound_is_met_and_enforced() -> None:
    k = 66052  # 255 * 127 * 66052 = 2,139,094,020
    room = 2**31 - 1 - 255 * 127 * k
    assert accumulate([[127] * k], -128, [[127] * k], [room]) == [[2**31 - 1]]
    with pytest.raises(OverflowError, match="column 0"):
        accumulate([[127] * k], -128, [[127] * k], [room + 1])


def test_two_weights_to_a_byte() -> None:
    assert pack_s4([1, -8, 7, -1, 3]) == [0x81, 0xF7, 0x03]
    assert unpack_s4([0x81, 0xF7, 0x03], 5) == [1, -8, 7, -1, 3]
    assert unpack_s4([], 0) == pack_s4([]) == []
    with pytest.raises(ValueError, match="5 weights in 3 bytes"):
        unpack_s4([0x81, 0xF7, 0x13], 5)  # there is no sixth


def test_groups_by_hand() -> None:
    # Two groups of four k, x - z_x = (2, -1, 0, 1 | 5, 0, 0, 3):
    #   column 0: 3 * (2*7 + 1*1) + 2 * (-8*5 + 3) + 10 = 45 - 74 + 10 = -19
    #   column 1: 1 * (2*1 - 1*1 + 1) + 255 * (5 + 3) - 1 = 2 + 2040 - 1 = 2041
    x, w = [[3, 0, 1, 2, 6, 1, 1, 4]], [[7, -1, 5, 0, -8, 3, 3, 1], [1, 1, 1, 1, 1, 1, 1, 1]]
    factors = [[3, 2], [1, 255]]
    assert accumulate_s8s4(x, 1, w, [10, -1], 4, factors) == [[-19, 2041]]
    requant = [Dyadic(2**30, 31), Dyadic(2**30, 36)]  # 1/2, 1/64: -9.5 up to -9, 31.89 to 32
    assert gemm_s8s4(x, 1, w, [10, -1], 4, factors, requant, Clamp(1, -128, 127)) == [[-8, 33]]


def test_without_groups_it_is_gemm() -> None:
    x, w = [[3, -128, 127], [0, 1, 2]], [[-8, 7, 1], [0, 3, -5]]
    assert accumulate_s8s4(x, -3, w, [5, 6], 0, None) == accumulate(x, -3, w, [5, 6])


def test_a_short_last_group_and_the_bound() -> None:
    assert accumulate_s8s4([[1] * 6], 0, [[1] * 6], [0], 4, [[1, 100]]) == [[204]]
    k = 4717  # 255 * 255 * 7 * 4717 = 2,147,066,475
    room = 2**31 - 1 - 255 * 255 * 7 * k
    factors = [[255] * ((k + 7) // 8)]
    assert accumulate_s8s4([[127] * k], -128, [[7] * k], [room], 8, factors) == [[2**31 - 1]]
    with pytest.raises(OverflowError, match="column 0"):
        accumulate_s8s4([[127] * k], -128, [[7] * k], [room + 1], 8, factors)
    with pytest.raises(ValueError, match="multiple of 4"):
        accumulate_s8s4([[1] * 6], 0, [[1] * 6], [0], 2, [[1, 1, 1]])
