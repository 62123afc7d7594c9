"""What the ops promise about values, whoever computes them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from pyquant.torch_ops import HISTOGRAM_EMPTY, new_histogram
from pyquant.torch_ops.integer import bit_length, dyadic, dyadic_tensor, floor_sqrt_shifted

from .cases import BODIES, edge, grid, op

GENERATOR = torch.Generator().manual_seed(11)


@pytest.mark.parametrize("scale", [2.0**-100, 1e-20, 0.0123, 1 / 3, 1.0, 77.7, 2.0**100])
@pytest.mark.parametrize("zero_point", [-32768, -1, 0, 12345, 32767])
def test_every_16_bit_edge_value_recovers(scale: float, zero_point: int) -> None:
    to = grid(scale, zero_point, 16)
    q = torch.arange(-32768, 32768)
    x = (q - zero_point).float() * to[0]
    assert torch.equal(op("quantize")(x, *to), x)
    assert torch.equal(torch.round(x / to[0]).long() + zero_point, q)


def test_an_edge_passes_its_own_grid_unchanged() -> None:
    for to in (grid(0.037, -11), grid(0.0011, 999, 16)):
        x = edge(GENERATOR, (400,), to)
        assert torch.equal(op("requantize")(x, *to, *to), x)
        if to[3] == 127:
            assert torch.equal(op("unary")(x, *to, "identity", "table", *to), x)


def test_no_output_is_a_negative_zero() -> None:
    x = torch.tensor([-0.0, -1e-9, 0.0])
    for function in (op("quantize"), BODIES["quantize"]):
        assert not torch.signbit(function(x, *grid(0.1))).any()


def test_ties_round_to_even() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5])
    assert op("quantize")(x, *grid(1.0)).tolist() == [0.0, 2.0, 2.0, 0.0, -2.0, -2.0]


def test_requantization_ties_round_up() -> None:
    x = torch.tensor([1.0, 3.0, -1.0, -3.0])
    assert op("requantize")(x, *grid(1.0), *grid(2.0)).tolist() == [2.0, 4.0, 0.0, -2.0]


def test_outputs_stay_near_the_float_function() -> None:
    """Within half a step of the output grid, plus what the definitions lose inside (see the headers)."""
    byte, wide = grid(0.03, 4), grid(0.0005, 0, 16)
    x = edge(GENERATOR, (6, 64), byte)
    residual = edge(GENERATOR, (6, 64), wide)
    w, b = torch.randn(32, 64, generator=GENERATOR), torch.randn(32, generator=GENERATOR)
    step = w.abs().amax(1, keepdim=True) / 127
    w = torch.round(w / step) * step  # weights that are on their own grid
    y = op("linear")(x, *byte, w, b, None, 8, 0, *grid(0.01, 0, 16))
    bias_step = 0.03 * float(step.max())  # the bias is rounded to this
    assert (y - F.linear(x, w, b)).abs().max() < 0.01 / 2 + bias_step / 2 + 1e-5
    y = op("layer_norm")(residual, *wide, None, None, 1e-5, False, "exact", None, *grid(0.001, 0, 16))
    assert (y - F.layer_norm(residual, (64,))).abs().max() < 0.001 / 2 + 2.0**-15
    y = op("layer_norm")(residual, *wide, None, None, 1e-5, True, "exact", None, *grid(0.001, 0, 16))
    assert (y - F.rms_norm(residual, (64,), eps=1e-5)).abs().max() < 0.001 / 2 + 2.0**-15
    y = op("add")(x, *byte, residual, *wide, *grid(0.001, 0, 16))
    assert (y - (x + residual)).abs().max() < 0.001 / 2 + 1e-5
    y = op("mean")(residual, *wide, [0], False, *grid(0.0005, 0, 16))
    assert (y - residual.mean(0)).abs().max() < 0.0005 / 2 + 1e-5
    q, k, v = (edge(GENERATOR, (2, 3, 40, 16), byte) for _ in range(3))
    y = op("attention")(q, *byte, k, *byte, v, *byte, None, False, 0.25, "table16", *grid(0.03))
    # a table step of 2^(1/32) moves a weight by at most 1.1 %, so an average of |v| <= 4 by 0.09
    assert (y - F.scaled_dot_product_attention(q, k, v, scale=0.25)).abs().max() < 0.03 / 2 + 0.09
    y = op("softmax")(residual, *wide, "table16", *grid(1 / 32767, 0, 16))
    real = torch.softmax(residual, -1)
    # the same of the weight, and of their sum; weights have 14 bits
    assert ((y - real).abs() <= 0.023 * real + 64 * real * 2.0**-14 + 2.0**-14).all()


def test_batch_split_changes_no_bit() -> None:
    byte = grid(0.03, 4)
    q = edge(GENERATOR, (6, 2, 9, 8), byte)
    mask = torch.zeros(6, 1, 9, 9)
    mask[3:] = torch.randn(3, 1, 9, 9, generator=GENERATOR)  # one half of the batch needs no additive mask
    args = (False, 0.3, "table16", *grid(0.02))
    whole = op("attention")(q, *byte, q, *byte, q, *byte, mask, *args)
    parts = [
        op("attention")(a, *byte, a, *byte, a, *byte, m, *args)
        for a, m in zip(q.split(3), mask.split(3), strict=True)
    ]
    assert torch.equal(whole, torch.cat(parts))


def test_histogram_does_not_depend_on_order() -> None:
    chunks = [
        torch.zeros(10),
        torch.randn(300, generator=GENERATOR) * 1e-3,
        torch.randn(200, generator=GENERATOR) * 90,
    ]
    states = []
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        counts, meta = new_histogram()
        for i in order:
            op("observe_histogram")(chunks[i], counts, meta)
        states.append((counts, meta))
    for counts, meta in states[1:]:
        assert torch.equal(counts, states[0][0])
        assert torch.equal(meta, states[0][1])
    counts, meta = states[0]
    x = torch.cat(chunks).double()
    edges = 2.0 ** meta[3]
    bins = torch.floor((x + edges) * 2048 / (2 * edges)).long()
    assert torch.equal(counts, torch.bincount(bins, minlength=2048))
    assert meta.tolist()[:3] == [510.0, float(x.min()), float(x.max())]


def test_histogram_of_zeros_waits_for_a_range() -> None:
    counts, meta = new_histogram()
    op("observe_histogram")(torch.zeros(5), counts, meta)
    assert meta.tolist() == [5.0, 0.0, 0.0, float(HISTOGRAM_EMPTY)]
    assert int(counts.sum()) == 0
    op("observe_histogram")(torch.tensor([1.0]), counts, meta)
    assert int(counts.sum()) == 6
    assert int(counts[1024]) == 5


def test_square_root_of_wide_integers() -> None:
    values = [1, 2, 3, 4, 2**31, 2**52 - 1, 2**53 + 1, 2**61 - 1, 2**62 - 1, 2**62, 2**63 - 1]
    values += [n * n + d for n in (3, 65535, 2**31 - 1, 3037000499) for d in (-1, 0, 1)]
    values += torch.randint(1, 2**62, (500,), generator=GENERATOR).tolist()
    shifts = [(64 - v.bit_length()) & ~1 for v in values]
    got = floor_sqrt_shifted(torch.tensor(values), torch.tensor(shifts))
    assert got.tolist() == [math.isqrt(v << k) for v, k in zip(values, shifts, strict=True)]


def test_bit_length_and_dyadic() -> None:
    values = [0, 1, 2, 3, 255, 256, 2**40 - 1, 2**62, 2**63 - 1]
    assert bit_length(torch.tensor(values)).tolist() == [v.bit_length() for v in values]
    reals = [2.0**-70, 2.0**-31, 1 - 2.0**-53, 0.3, 1.0, 2.0**29, 1e-9]
    multiplier, shift = dyadic_tensor("test", torch.tensor(reals, dtype=torch.float64))
    assert list(zip(multiplier.tolist(), shift.tolist(), strict=True)) == [
        tuple(dyadic("test", r)) for r in reals
    ]
    assert dyadic("test", 1 - 2.0**-53) == (2**30, 30)
    assert dyadic("test", 2.0**-70) == (2**30, 62)
    assert dyadic("test", 0.75) == (3 * 2**29, 31)
