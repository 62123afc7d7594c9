"""QParams, ranges, and derived constants, on numbers worked by hand."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest

from pyquant import QParams, numerics, qparams_from_range


def test_qparams_keeps_the_float32_scale():
    grid = QParams(0.1, np.int64(3), -128, 127)
    assert grid.scale == float(np.float32(0.1)) != 0.1
    assert tuple(grid) == (grid.scale, 3, -128, 127)
    assert type(grid.zero_point) is int
    assert QParams(1, 0, -129, 5).dtype == "int16"
    assert pickle.loads(pickle.dumps(grid)) == grid
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.scale = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "exception", "words"),
    [
        ((0.0, 0, -128, 127), ValueError, "scale"),
        ((math.nan, 0, -128, 127), ValueError, "scale"),
        ((2.0**101, 0, -128, 127), ValueError, "scale"),
        (("1", 0, -128, 127), TypeError, "scale"),
        ((1.0, 0.5, -128, 127), TypeError, "zero_point"),
        ((1.0, 128, -128, 127), ValueError, "zero_point"),
        ((1.0, 0, 0, 0), ValueError, "quant_min"),
        ((1.0, 0, -128, 40000), ValueError, "quant_max"),
    ],
)
def test_qparams_refuses(fields, exception, words):
    with pytest.raises(exception, match=words):
        QParams(*fields)


def test_range_to_qparams():
    # 255 steps of 1/255; -0.2 is 51 steps below 0
    affine = qparams_from_range(-0.2, 0.8, 8, False)
    assert affine == QParams(1 / 255, -77, -128, 127)
    assert qparams_from_range(0.5, 2.55, 8, False) == QParams(0.01, -128, -128, 127)
    assert qparams_from_range(-3.0, -1.0, 8, False).zero_point == 127
    assert qparams_from_range(-1.0, 0.5, 8, True) == QParams(1 / 127, 0, -127, 127)
    assert qparams_from_range(0.0, 0.0, 8, False) == QParams(1.0, -128, -128, 127)
    assert qparams_from_range(0.0, 0.0, 16, True) == QParams(1.0, 0, -32767, 32767)
    assert qparams_from_range(0.0, 1e-38, 8, True).scale == 2.0**-100
    assert qparams_from_range(-1e38, 1e38, 8, True).scale == 2.0**100


@pytest.mark.parametrize("arguments", [(1.0, 0.0, 8), (0.0, math.inf, 8), (math.nan, 1.0, 8), (0.0, 1.0, 1)])
def test_range_refuses(arguments):
    with pytest.raises(ValueError, match="expected"):
        qparams_from_range(*arguments, False)


def test_dyadic():
    assert numerics.derive_dyadic(1.0) == numerics.Dyadic(2**30, 30)
    assert numerics.derive_dyadic(1 / 3) == numerics.Dyadic(round(2**32 / 3), 32)
    # rounds up to a power of two
    assert numerics.derive_dyadic(1 - 2.0**-40) == numerics.Dyadic(2**30, 30)
    assert numerics.derive_dyadic(2.0**-80) == numerics.Dyadic(2**30, 62)


def test_gemm_constants():
    w = np.array([[0.5, -1.27], [0.0, 0.0]], np.float32)
    scale = numerics.derive_weight_scale(w, None, 1.0)
    assert scale.tolist() == [np.float32(1.27 / 127), 1.0]
    # a bias of 3 at x_scale 2^-10 needs w_scale >= 3 * 2^10 / 2^30
    assert numerics.derive_weight_scale(w[1:], [3.0], 2.0**-10).tolist() == [3 * 2.0**-20]
    c = numerics.derive_gemm(w, [0.02, -3.0], scale, 0.5, 0.25)
    assert c.w.tolist() == [[50, -127], [0, 0]]
    assert c.bias.tolist() == [4, -6]
    # 0.5 * 1 / 0.25 = 2
    assert (c.multiplier[1], c.shift[1]) == (2**30, 29)
    assert set(c.keywords()) == {"w", "bias", "multiplier", "shift"}


def test_attention_constants():
    grid = QParams(0.1, 0, -128, 127)
    c = numerics.derive_attention("table16", grid, grid, grid, QParams(0.2, 0, -128, 127), 0.125, 64, 197)
    assert c.pmax == 16383
    assert c.table[0] == 2 * 16383
    assert c.table[16] == round(2 * 16383 * 2**-0.5)
    assert (c.multiplier, c.shift) == (2**30, 31)
    # one octave of the softmax is ln 2 of the score: 32 index steps
    octave = math.log(2) / (float(np.float32(0.1)) ** 2 * 0.125)
    assert abs(octave * c.softmax_multiplier / 2**c.softmax_shift - 32) < 1e-4
    assert numerics.derive_attention("table8", grid, grid, grid, grid, 0.125, 64, 197).pmax == 255


def test_mask_constants():
    mask = np.array([[0.0, -np.inf, 0.5]], np.float32)
    c = numerics.derive_mask(mask, 0.5, 0.5, 0.5)
    assert c.keep.tolist() == [[1, 0, 1]]
    assert c.mask_add.tolist() == [[0, 0, 4]]
    nothing = numerics.derive_mask(np.zeros(3), 0.5, 0.5, 0.5)
    assert nothing == numerics.MaskConstants(None, None) or (
        nothing.keep is None and nothing.mask_add is None
    )


def test_layernorm_and_add_constants():
    c = numerics.derive_layernorm(3, [1.0, 2.0, 0.0], None, 1e-2, 0.1, 0.5)
    assert c.epsilon == round(9 * 1e-2 / float(np.float32(0.1)) ** 2)
    assert c.gain[1] == 2 * c.gain[0] > 0
    assert c.gain[2] == 0
    assert c.offset.tolist() == [0, 0, 0]
    assert c.gain[0] == 2 * 2 ** (c.shift - 16)
    assert numerics.derive_add(1.0, 0.25, 1.0) == numerics.AddConstants(2**30, 2**28, 30)


def test_tables():
    grid = QParams(0.5, 0, -128, 127)
    relu = numerics.derive_table("relu", grid, grid)
    assert relu.tolist() == [max(q, 0) for q in range(-128, 128)]
    values = np.arange(-128, 128) * 0.5
    assert np.array_equal(numerics.derive_table_values(np.maximum(values, 0), grid), relu)
    assert numerics.unary_value("square", -3.0) == 9.0
    assert {"gelu", "silu", "tanh"} < set(numerics.UNARY_NAMES)
