"""4-bit weights on NumPy arrays: packing, products, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from pyquant import numerics, ops

X = np.array([[3, 0, 1, 2, 6]], np.int8)
W = np.array([[7, -1, 5, 0, -8], [1, 1, 1, 1, 1]])
FACTORS = np.array([[3, 2], [1, 255]], np.uint8)


def test_packing_and_back() -> None:
    rng = np.random.default_rng(0)
    for n, k in ((0, 0), (1, 1), (3, 0), (2, 7), (5, 64)):
        w = rng.integers(-8, 8, (n, k))
        packed = ops.pack_s4(w)
        assert (packed.dtype, packed.shape) == (np.uint8, (n, (k + 1) // 2))
        assert np.array_equal(ops.unpack_s4(packed, k), w)
        assert ops.unpack_s4(packed, k).dtype == np.int8
    assert ops.pack_s4(W).tolist() == [[0xF7, 0x05, 0x08], [0x11, 0x11, 0x01]]


def test_by_hand() -> None:
    # x - 1 = (2, -1, 0, 1 | 5): 3 * (14 + 1) + 2 * -40 + 10 and 1 * (2 - 1 + 1) + 255 * 5 - 1
    bias = np.array([10, -1], np.int32)
    packed = ops.pack_s4(W)
    acc = ops.gemm_s8s4(
        X, packed, bias, group_size=4, group_multiplier=FACTORS, x_zero_point=1, dtype="int32"
    )
    assert acc.tolist() == [[-25, 1276]]
    multiplier, shift = np.array([2**30, 2**30], np.int32), np.array([31, 36], np.uint8)
    weights = ops.pack_gemm_s8s4(
        packed, 5, bias, multiplier, shift,
        group_size=4, group_multiplier=FACTORS, x_zero_point=1, zero_point=1,
    )  # fmt: skip
    assert weights.shape == (2, 5)
    for gemm in (ops.gemm_s8s4, ops.gemm):  # packed weights know their type
        assert gemm(X, weights).tolist() == [[-11, 21]]


def test_without_groups_it_is_gemm() -> None:
    rng = np.random.default_rng(1)
    x, w = rng.integers(-128, 128, (3, 4, 50)).astype(np.int8), rng.integers(-8, 8, (9, 50)).astype(np.int8)
    out = np.empty((3, 4, 9), np.int32)
    y = ops.gemm_s8s4(x, ops.pack_s4(w), x_zero_point=-5, dtype="int32", out=out)
    assert y is out
    assert np.array_equal(y, ops.gemm(x, w, x_zero_point=-5, dtype="int32"))


def test_threads_change_nothing() -> None:
    rng = np.random.default_rng(2)
    x = rng.integers(-128, 128, (70, 300)).astype(np.int8)
    w, factors = ops.pack_s4(rng.integers(-7, 8, (90, 300))), rng.integers(1, 90, (90, 10)).astype(np.uint8)
    results = [
        ops.gemm_s8s4(x, w, group_size=32, group_multiplier=factors, dtype="int32", threads=n)
        for n in (None, 1, 2, 3)
    ]
    assert all(np.array_equal(result, results[0]) for result in results)


def test_derived_constants_are_arguments() -> None:
    rng = np.random.default_rng(3)
    w, bias = rng.normal(size=(6, 40)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    x = rng.integers(-128, 128, (5, 40)).astype(np.int8)
    scale = numerics.derive_group_scale(w, bias, 0.02, 16)
    constants = numerics.derive_gemm_s8s4(w, bias, scale, 0.02, 0.5, group_size=16)
    y = ops.gemm_s8s4(x, **constants.keywords())
    want = (x * 0.02) @ w.T + bias
    # Half a step of a weight for each product, at its worst, and half a step of the output.
    steps = np.repeat(scale.group_multiplier, 16, axis=1)[:, :40] * scale.w_scale[:, None].astype(np.float64)
    bound = (np.abs(x) * 0.02) @ (0.52 * steps.T) + 0.25 + 0.02
    assert (np.abs(np.clip(want, -64, 63.5) - y * 0.5) <= bound).all()
    plain = numerics.derive_gemm_s8s4(w, bias, numerics.derive_weight_scale(w, bias, 0.02, 4), 0.02, 0.5)
    assert plain.group_multiplier is None
    assert ops.gemm_s8s4(x, **plain.keywords()).shape == (5, 6)


B = ops.pack_s4(W)
M, S = np.array([2**30, 2**30], np.int32), np.array([31, 36], np.uint8)
BAD = {
    "weight beyond 4 bits": (lambda: ops.pack_s4([[8]]), ValueError, ["[-8, 7]", "got [8, 8]"]),
    "weights of floats": (lambda: ops.pack_s4([[0.5]]), TypeError, ["integers", "float64"]),
    "weights 1-D": (lambda: ops.pack_s4([1, 2]), ValueError, ["2 axes", "got 1"]),
    "unpack other k": (lambda: ops.unpack_s4(B, 7), ValueError, ["(n, 4) for k = 7", "(2, 3)"]),
    "unpack int8": (lambda: ops.unpack_s4(B.view(np.int8), 5), ValueError, ["uint8", "int8"]),
    "w int8": (lambda: ops.gemm_s8s4(X, W.astype(np.int8), dtype="int32"), TypeError, ["w", "uint8", "int8"]),
    "other k": (lambda: ops.gemm_s8s4(X[:, :4], B, dtype="int32"), ValueError, ["2 bytes", "k = 4", "got 3"]),
    "x scalar": (lambda: ops.gemm_s8s4(np.int8(3), B, dtype="int32"), ValueError, ["x", "1 axis"]),
    "no multiplier": (lambda: ops.gemm_s8s4(X, B), TypeError, ["multiplier", "None"]),
    "half byte behind": (
        lambda: ops.gemm_s8s4(X, B | 16, dtype="int32"),
        ValueError,
        ["gemm_s8s4", "column 0", "half byte"],
    ),
    "group size": (
        lambda: ops.gemm_s8s4(X, B, group_size=3, group_multiplier=FACTORS, dtype="int32"),
        ValueError,
        ["group_size", "multiple of 4", "got 3"],
    ),
    "multipliers without groups": (
        lambda: ops.gemm_s8s4(X, B, group_multiplier=FACTORS, dtype="int32"),
        ValueError,
        ["group_multiplier", "0 elements", "got 4"],
    ),
    "groups without multipliers": (
        lambda: ops.gemm_s8s4(X, B, group_size=4, dtype="int32"),
        ValueError,
        ["group_multiplier goes with a group_size"],
    ),
    "too few multipliers": (
        lambda: ops.gemm_s8s4(X, B, group_size=4, group_multiplier=FACTORS[:, :1], dtype="int32"),
        ValueError,
        ["group_multiplier", "4 elements", "got 2"],
    ),
    "multiplier 0": (
        lambda: ops.gemm_s8s4(X, B, group_size=4, group_multiplier=FACTORS * 0, dtype="int32"),
        ValueError,
        ["column 0", "[1, 255]", "got 0"],
    ),
    "accumulator": (
        lambda: ops.gemm_s8s4(X, B, np.full(2, 2**31 - 1, np.int32), dtype="int32"),
        OverflowError,
        ["gemm_s8s4", "column 0", "2^31 - 1"],
    ),
    "shift 0": (lambda: ops.gemm_s8s4(X, B, None, M, S * 0), ValueError, ["shift"]),
    "derive 8 bits": (
        lambda: numerics.derive_gemm_s8s4(np.ones((1, 4)), None, [1.0], 1.0, 1.0, bits=8),
        ValueError,
        ["derive_gemm_s8s4", "[2, 4]", "got 8"],
    ),
    "derive groups without multipliers": (
        lambda: numerics.derive_gemm_s8s4(np.ones((1, 4)), None, [1.0], 1.0, 1.0, group_size=4),
        ValueError,
        ["group_multiplier exactly with a group_size"],
    ),
    "group scale of nothing": (
        lambda: numerics.derive_group_scale(np.ones((1, 4)), None, 1.0, 0),
        ValueError,
        ["derive_group_scale", "multiple of 4", "got 0"],
    ),
    "wanted of another shape": (
        lambda: numerics.derive_group_scale(np.ones((1, 8)), None, 1.0, 4, wanted=np.ones((1, 3))),
        ValueError,
        ["wanted", "2 elements", "got 3"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name: str) -> None:
    call, error, parts = BAD[name]
    with pytest.raises(error) as caught:
        call()
    for part in parts:
        assert part in str(caught.value), f"{part!r} not in {caught.value}"
