"""pyquant._C.derive_* equals the specification's derive, bit for bit, and refuses what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from tests.spec import derive, functions
from tests.spec.attention import Softmax
from tests.spec.cases import SOFTMAX_METHODS
from tests.spec.gemm import pack_s4
from tests.spec.numbers import Affine, Dyadic, dyadic, float32
from tests.variants.calls import _C

S8 = (-128, 127)


def scales(rng: np.random.Generator, count: int) -> list[float]:
    """Scales of real models, and now and then one from the far ends."""
    usual = np.exp(rng.uniform(-9, 2, count))
    far = 2.0 ** rng.uniform(-100, 100, count)
    return [float32(v) for v in np.where(rng.random(count) < 0.9, usual, far).tolist()]


def grid_tuple(grid: Affine) -> tuple[float, int, int, int]:
    return (grid.scale, grid.zero_point, grid.quant_min, grid.quant_max)


def test_dyadic() -> None:
    rng = np.random.default_rng(0)
    reals = [
        *np.exp(rng.uniform(-60, 20, 3000)).tolist(),
        5e-324,
        2.0**-33,
        2.0**-32,
        1.0,
        2.0**30 - 2.0**-22,
    ]
    reals += [float(np.nextafter(2.0**e, 0)) for e in range(-70, 31)]
    for real in reals:
        try:
            want = dyadic(real)
        except OverflowError:
            with pytest.raises(OverflowError):
                _C.derive_dyadic(real)
            continue
        assert _C.derive_dyadic(real) == (want.multiplier, want.shift)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf"), float("nan")])
def test_dyadic_refuses(bad: float) -> None:
    with pytest.raises(ValueError, match="derive_dyadic"):
        _C.derive_dyadic(bad)


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights(bits: int) -> None:
    rng = np.random.default_rng(bits)
    for n, k in ((1, 1), (5, 16), (7, 33), (3, 0)):
        w = (rng.normal(size=(n, k)) * np.exp(rng.normal(size=(n, 1)))).astype(np.float32)
        w[0] = 0
        bias = (rng.normal(size=n) * 10.0 ** rng.integers(-3, 6, n)).astype(np.float32)
        x_scale, y_scale = (float32(v) for v in np.exp(rng.uniform(-7, 0, 2)).tolist())
        for offset in (bias, None):
            listed = None if offset is None else offset.tolist()
            want_scale = derive.weight_scale(w.tolist(), listed, x_scale, bits)
            got_scale = _C.derive_weight_scale(w, offset, x_scale, bits)
            assert got_scale.tolist() == want_scale
            try:
                want = derive.gemm(w.tolist(), listed, want_scale, bits, x_scale, y_scale)
            except OverflowError:
                with pytest.raises(OverflowError):
                    _C.derive_gemm(w, offset, got_scale, x_scale, y_scale, bits)
                continue
            w_q, bias_q, multiplier, shift = _C.derive_gemm(w, offset, got_scale, x_scale, y_scale, bits)
            assert w_q.tolist() == want.w
            assert bias_q.tolist() == want.bias
            assert [
                Dyadic(*pair) for pair in zip(multiplier.tolist(), shift.tolist(), strict=True)
            ] == want.requant


def test_weight_ties_go_to_even() -> None:
    scale = np.float32(0.37)
    w = ((np.arange(-126, 126) + np.float32(0.5)).astype(np.float32) * scale)[None]
    want = derive.gemm(w.tolist(), None, [float(scale)], 8, 1.0, 1.0)
    assert _C.derive_gemm(w, None, np.array([scale]), 1.0, 1.0)[0].tolist() == want.w


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_weights_in_groups(bits: int) -> None:
    rng = np.random.default_rng(bits)
    refused = 0
    for n, k, group_size in ((1, 1, 4), (5, 16, 4), (7, 33, 8), (4, 130, 64), (3, 0, 4), (2, 5000, 1000)):
        w = (rng.normal(size=(n, k)) * np.exp(rng.normal(size=(n, 1)))).astype(np.float32)
        w *= np.repeat(np.exp(rng.normal(size=(n, k // 4 + 1))), 4, axis=1)[:, :k].astype(np.float32)
        w[0] = 0
        bias = (rng.normal(size=n) * 10.0 ** rng.integers(-3, 9, n)).astype(np.float32)
        x_scale, y_scale = (float32(v) for v in np.exp(rng.uniform(-7, 0, 2)).tolist())
        groups = -(-k // group_size)
        own = np.exp(rng.uniform(-6, 0, (n, groups))).astype(np.float32)
        for offset, wanted in ((bias, None), (None, None), (bias, own), (None, own)):
            listed = None if offset is None else offset.tolist()
            chosen = None if wanted is None else wanted.tolist()
            want = derive.group_scale(w.tolist(), listed, chosen, group_size, x_scale, bits)
            w_scale, factor = _C.derive_group_scale(w, offset, x_scale, group_size, bits, wanted)
            assert w_scale.tolist() == want.scale
            assert factor.tolist() == want.factor
            arguments = (w, offset, w_scale, x_scale, y_scale, bits, group_size, factor)
            try:
                made = derive.gemm_s8s4(w.tolist(), listed, want, group_size, bits, x_scale, y_scale)
            except OverflowError:
                refused += 1
                with pytest.raises(OverflowError):
                    _C.derive_gemm_s8s4(*arguments)
                continue
            w_q, bias_q, multiplier, shift = _C.derive_gemm_s8s4(*arguments)
            assert w_q.tolist() == [pack_s4(row) for row in made.w]
            assert bias_q.tolist() == made.bias
            assert list(zip(multiplier.tolist(), shift.tolist(), strict=True)) == [
                (d.multiplier, d.shift) for d in made.requant
            ]
    assert refused < 12


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_weights_without_groups_are_those_of_gemm(bits: int) -> None:
    rng = np.random.default_rng(bits)
    w, bias = rng.normal(size=(5, 17)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    scale = _C.derive_weight_scale(w, bias, 0.1, bits)
    packed, *rest = _C.derive_gemm_s8s4(w, bias, scale, 0.1, 0.2, bits)
    plain, *want = _C.derive_gemm(w, bias, scale, 0.1, 0.2, bits)
    assert packed.tolist() == [pack_s4(row) for row in plain.tolist()]
    for got, expected in zip(rest, want, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_attention() -> None:
    rng = np.random.default_rng(1)
    outcomes = set()
    for _ in range(400):
        method = ("table16", "table8")[int(rng.integers(2))]
        zeros = rng.integers(-128, 128, 4).tolist()
        q, k, v, y = (Affine(s, z, *S8) for s, z in zip(scales(rng, 4), zeros, strict=True))
        grids = [grid_tuple(grid) for grid in (q, k, v, y)]
        softmax_scale = float(np.exp(rng.uniform(-5, 1)))
        head_dim = int(rng.choice([1, 8, 64, 100, 32767]))
        keys = int(rng.choice([0, 1, 197, 1024, 1025, 4096, 65793, 65794, 100_000]))
        has_mask = bool(rng.integers(2))
        arguments = (softmax_scale, head_dim, keys, has_mask)
        try:
            softmax, requant = derive.attention(method, q, k, v, y, *arguments)
        except (OverflowError, ValueError) as error:
            with pytest.raises(type(error)):
                _C.derive_attention(method, *grids, *arguments)
            outcomes.add("refused")
            continue
        table, *rest = _C.derive_attention(method, *grids, *arguments)
        delta_max, softmax_multiplier, softmax_shift, pmax, _, multiplier, shift = rest
        assert Softmax(delta_max, softmax_multiplier, softmax_shift, pmax, tuple(table.tolist())) == softmax
        assert Dyadic(multiplier, shift) == requant
        outcomes.add("flat" if delta_max == 0 else "steep" if softmax_multiplier > 2**23 else "usual")
    assert outcomes >= {"refused", "usual", "flat", "steep"}


def test_softmax_rows() -> None:
    rng = np.random.default_rng(7)
    outcomes = set()
    texts = ("table16", "table8", *SOFTMAX_METHODS)
    for i in range(300):
        method = texts[i % len(texts)]
        x, y = (
            Affine(s, 0, *((-32768, 32767) if wide else S8))
            for s, wide in zip(scales(rng, 2), rng.integers(0, 2, 2), strict=True)
        )
        n = int(rng.choice([0, 1, 10, 197, 1000, 33_000, 131_081, 8_421_505]))
        try:
            softmax, requant = derive.softmax_rows(method, x, y, n)
        except OverflowError:
            with pytest.raises(OverflowError):
                _C.derive_softmax(method, grid_tuple(x), grid_tuple(y), n)
            outcomes.add("refused")
            continue
        table, *rest = _C.derive_softmax(method, grid_tuple(x), grid_tuple(y), n)
        bits = 0 if isinstance(softmax, Softmax) else softmax.method.bits
        assert table.tolist() == list(softmax.table)
        assert rest == [
            softmax.delta_max, softmax.multiplier, softmax.shift, softmax.pmax, bits,
            requant.multiplier, requant.shift,
        ]  # fmt: skip
        outcomes.add("flat" if softmax.delta_max == 0 else "usual")
    assert outcomes >= {"refused", "usual", "flat"}


def test_exp2_table_for_every_row_length() -> None:
    """All tables a row length can ask for: pmax from 16383 down."""
    unit = (1.0, 0, *S8)
    for keys in np.unique(np.geomspace(1, 2**23, 300).astype(int)).tolist():
        table, _, _, _, pmax, *_ = _C.derive_attention("table16", unit, unit, unit, unit, 1.0, 1, keys)
        assert pmax == derive.softmax_pmax("table16", 128, keys)
        assert table.tolist() == [derive.exp2_entry(pmax, j) for j in range(32)]


def test_mask() -> None:
    rng = np.random.default_rng(2)
    mask = np.concatenate(
        [rng.normal(size=200) * 10, [0.0, -0.0, -np.inf, -3.4e38, -1e30, -9.9e29, 1e30, np.inf]]
    ).astype(np.float32)
    q_scale, k_scale = float32(0.03), float32(0.05)
    add, keep = derive.mask(mask.tolist(), q_scale, k_scale, 0.125)
    got_add, got_keep, any_add, any_excluded = _C.derive_mask(mask, q_scale, k_scale, 0.125)
    assert got_add.tolist() == add
    assert (got_keep != 0).tolist() == keep
    assert (any_add, any_excluded) == (True, True)
    assert _C.derive_mask(np.zeros(3, np.float32), q_scale, k_scale, 0.125)[2:] == (False, False)
    with pytest.raises(ValueError, match="NaN"):
        _C.derive_mask(np.array([np.nan], np.float32), q_scale, k_scale, 0.125)


def test_layernorm() -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        channels = int(rng.choice([1, 3, 64, 384]))
        gamma = (rng.normal(size=channels) * np.exp(rng.uniform(-5, 5))).astype(np.float32)
        beta = (rng.normal(size=channels) * np.exp(rng.uniform(-5, 5))).astype(np.float32)
        x_scale, y_scale = scales(rng, 2)
        epsilon = float(10.0 ** rng.uniform(-12, -3))
        try:
            want = derive.layernorm(gamma.tolist(), beta.tolist(), epsilon, x_scale, y_scale)
        except OverflowError:
            with pytest.raises(OverflowError):
                _C.derive_layernorm(channels, gamma, beta, epsilon, x_scale, y_scale)
            continue
        e, gain, offset, shift = _C.derive_layernorm(channels, gamma, beta, epsilon, x_scale, y_scale)
        assert (e, gain.tolist(), offset.tolist(), shift) == (
            want.epsilon,
            want.gain,
            want.offset,
            want.shift,
        )


def test_layernorm_without_parameters() -> None:
    e, gain, offset, shift = _C.derive_layernorm(3, None, None, 0.0, 1.0, float32(0.01))
    want = derive.layernorm([1.0] * 3, [0.0] * 3, 0.0, 1.0, float32(0.01))
    assert (e, gain.tolist(), offset.tolist(), shift) == (want.epsilon, want.gain, want.offset, want.shift)


def test_add() -> None:
    rng = np.random.default_rng(4)
    for _ in range(500):
        arguments = scales(rng, 3)
        try:
            want = derive.add(*arguments)
        except OverflowError:
            with pytest.raises(OverflowError):
                _C.derive_add(*arguments)
            continue
        assert _C.derive_add(*arguments) == (want.a_multiplier, want.b_multiplier, want.shift)


@pytest.mark.parametrize("bad", [0.0, -1.0, 2.0**-101, 2.0**101, float("inf"), float("nan")])
def test_scales_outside_the_range_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        _C.derive_add(bad, 1.0, 1.0)
    with pytest.raises(ValueError, match="scale"):
        derive.add(bad, 1.0, 1.0)


def test_every_function_is_specified() -> None:
    assert set(_C.unary_names()) == set(functions.NAMES)


@pytest.mark.parametrize("name", functions.NAMES)
def test_table(name: str) -> None:
    rng = np.random.default_rng(5)
    grids = [(float32(2.0**-4), 0, float32(2.0**-5), 0)]  # powers of two: exact ties occur
    for _ in range(8):
        x_scale, y_scale = (float32(v) for v in np.exp(rng.uniform(-6, 0, 2)).tolist())
        grids.append((x_scale, int(rng.integers(-128, 128)), y_scale, int(rng.integers(-128, 128))))
    for x_scale, x_zero, y_scale, y_zero in grids:
        x, y = Affine(x_scale, x_zero, *S8), Affine(y_scale, y_zero, *S8)
        assert _C.derive_table(name, grid_tuple(x), grid_tuple(y)).tolist() == derive.table(name, x, y)


def test_table_of_values() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(size=256)
    values[:4] = np.inf, -np.inf, 1e300, -1e300
    values[4:40] = (np.arange(36) - 18) / 64  # ties at a scale of 1/32
    y = Affine(2.0**-5, 7, -100, 120)
    assert _C.derive_table_values(values, grid_tuple(y)).tolist() == derive.table_values(values.tolist(), y)
    values[9] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        _C.derive_table_values(values, grid_tuple(y))
