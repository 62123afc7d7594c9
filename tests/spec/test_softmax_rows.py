"""The softmax of a row against numbers worked by hand, and derive's constants for it."""

from __future__ import annotations

import math

import pytest

from tests.spec import derive
from tests.spec.attention import Softmax
from tests.spec.numbers import Affine, Clamp, Dyadic, dyadic, float32
from tests.spec.softmax import Lookup, parse
from tests.spec.softmax_rows import softmax_row

BYTE = Affine(2.0**-8, -128, -128, 127)


def octave(pmax: int = 16383) -> Softmax:
    """One unit of x is one octave."""
    return Softmax(15, 64, 1, pmax, tuple(derive.exp2_entry(pmax, j) for j in range(32)))


def test_weights_are_divided_by_their_sum() -> None:
    # 16383, 8192, 8192 of 32767: 127.9961 and 64.002 of 256ths
    assert softmax_row([3, 2, 2], octave(), dyadic(256.0), BYTE.out) == [0, -64, -64]
    # 255ths: 127.496, 63.75
    assert softmax_row([3, 2, 2], octave(), dyadic(255.0), BYTE.out) == [-1, -64, -64]
    assert softmax_row([-9, -10, -10], octave(), dyadic(255.0), BYTE.out) == [-1, -64, -64]


def test_one_element_and_none() -> None:
    assert softmax_row([17], octave(), dyadic(255.0), BYTE.out) == [127]
    assert softmax_row([17], octave(), dyadic(256.0), BYTE.out) == [127]  # 1 is beyond the grid: clamped
    assert softmax_row([], octave(), dyadic(256.0), BYTE.out) == []


def test_far_elements_are_nothing() -> None:
    assert softmax_row([0, -15, -14], octave(), dyadic(16384.0), Clamp(0, -32768, 32767)) == [16383, 0, 1]


def test_index_divides_before() -> None:
    """E = 255, 206, 0 (the last entry) of 461: round(255 E / 461) = 141, 114, in 255ths."""
    method = parse("index")
    assert method is not None
    softmax = Lookup(30, 2, 1, method, tuple(method.table()))
    assert softmax_row([7, 6, -93], softmax, dyadic(255.0), Clamp(0, -128, 32767)) == [141, 114, 0]


def test_constants() -> None:
    x = Affine(float32(math.log(2)), 5, -128, 127)
    softmax, requant = derive.softmax_rows("table16", x, BYTE, 131_080)
    assert isinstance(softmax, Softmax)
    assert (softmax.shift, softmax.pmax) == (23, 16383)
    assert requant == Dyadic(2**30, 22)
    longer, _ = derive.softmax_rows("table16", BYTE, BYTE, 131_081)
    assert longer.pmax == 16382
    fine, _ = derive.softmax_rows("table8", Affine(1e-6, 0, -32768, 32767), BYTE, 3)
    assert fine.delta_max == 65535  # all distances of int16 count


def test_refusals() -> None:
    with pytest.raises(OverflowError, match="table8 cannot hold"):
        derive.softmax_rows("table8", BYTE, BYTE, 8_421_505)
    with pytest.raises(OverflowError, match="y_scale is too large"):
        derive.softmax_rows("table16", BYTE, Affine(1024.0, 0, -128, 127), 65536)
    with pytest.raises(OverflowError, match="ivit cannot hold"):
        derive.softmax_rows("ivit", BYTE, BYTE, 1024)
