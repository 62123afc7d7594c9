"""pyquant.ops' fake-quantization: against the equations in float64, and its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyquant import ops

SHAPES: list[tuple[tuple[int, ...], int | None]] = [
    ((5,), None),
    ((3, 70), 0),
    ((40, 9), 1),
    ((2, 3, 40), -2),
    ((0, 3), 1),
    ((3, 0), 0),
]


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_equations(shape: tuple[int, ...], axis: int | None) -> None:
    rng = np.random.default_rng(1)
    channels = 1 if axis is None else shape[axis]
    scale = rng.uniform(0.1, 1.0, channels).astype(np.float32)
    zero = rng.integers(-8, 8, channels)
    x = (rng.standard_normal(shape) * 4).astype(np.float32)
    g = rng.standard_normal(shape).astype(np.float32)
    by = [1] * x.ndim
    if axis is not None:
        by[axis] = -1
    s, z = scale.reshape(by if axis is not None else -1), zero.reshape(by if axis is not None else -1)
    low, high = -8 - z, 7 - z
    v = (x / s).astype(np.float64)
    k = np.rint(v)
    y, mask = ops.fake_quantize(x, scale, zero, -8, 7, axis=axis, mask=True, threads=2)
    np.testing.assert_array_equal(y, np.clip(k, low, high).astype(np.float32) * s)
    np.testing.assert_array_equal(ops.fake_quantize(x, scale, zero, -8, 7, axis=axis), y)
    kept = (k >= low) & (k <= high)
    np.testing.assert_array_equal(np.unpackbits(mask, count=x.size, bitorder="little"), kept.reshape(-1))
    np.testing.assert_array_equal(ops.fake_quantize_backward(g, mask), np.where(kept, g, 0))
    dx, ds, dz = ops.fake_quantize_learned_backward(x, g, scale, zero, -8, 7, axis=axis, threads=2)
    inside = (v > low) & (v < high)
    others = tuple(d for d in range(x.ndim) if axis is None or d != axis % x.ndim)
    np.testing.assert_array_equal(dx, np.where(inside, g, 0))
    slopes = g * np.where(inside, k - v, np.clip(v, low, high))
    np.testing.assert_allclose(ds, np.atleast_1d(slopes.sum(axis=others)), atol=1e-4)
    outside = np.where(inside, 0.0, -s.astype(np.float64) * g)
    np.testing.assert_allclose(dz, np.atleast_1d(outside.sum(axis=others)), atol=1e-4)


def test_errors() -> None:
    x = np.ones((2, 3), np.float32)
    calls: list[tuple[type[Exception], str, tuple[Any, ...], dict[str, Any]]] = [
        (ValueError, "one scale without an axis", (x, [1.0, 2.0]), {}),
        (ValueError, "scale", (x, [1.0, 2.0]), {"axis": 1, "mask": True}),
        (TypeError, "integer type", (x, 1.0, 0.5), {"mask": True}),
        (ValueError, "int16's range", (x, 1.0, 70_000), {"mask": True}),
        (ValueError, "1 zero point or one for each of 3", (x, [1.0] * 3, [0, 0]), {"axis": 1}),
        (ValueError, "NaN", (np.full(3, np.nan, np.float32), 1.0), {"mask": True}),
        (ValueError, "no out with a mask", (x, 1.0), {"mask": True, "out": x}),
        (TypeError, "x", (x.astype(np.float64), 1.0), {"mask": True}),
        (ValueError, "quant_min <= quant_max", (x, 1.0, 0, 5, 4), {"mask": True}),
    ]
    for error, match, args, options in calls:
        with pytest.raises(error, match=match):
            ops.fake_quantize(*args, **options)
    with pytest.raises(ValueError, match="mask"):
        ops.fake_quantize_backward(x, np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match="shape of x"):
        ops.fake_quantize_learned_backward(x, x.reshape(3, 2), 1.0)
