"""GEMM against numbers worked by hand."""

from __future__ import annotations

import pytest

from tests.spec.gemm import accumulate, gemm
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
