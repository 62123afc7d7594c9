"""`fake_uniform` is quantize.h's grid, and ranges come from the data."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from pyquant import ops
from pyquant.quantizers import make_quantizer
from pyquant.quantizers.uniform import fake_uniform, power_of_two_above


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_fake_uniform_is_the_op(axis: int | None) -> None:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(5, 70, generator=g) * 3
    channels = 1 if axis is None else x.shape[axis]
    scale = torch.rand(channels, generator=g) + 0.02
    x.view(-1)[:4] = torch.tensor([0.0, -0.0, 1e30, -1e30])
    y = fake_uniform(x, scale, torch.full((channels,), 3.0), axis, -8, 7)
    want = ops.fake_quantize(x.numpy(), scale.numpy(), 3, -8, 7, axis=axis)
    assert np.array_equal(y.numpy().view(np.int32), want.view(np.int32))


def test_straight_through() -> None:
    x = torch.tensor([-9.0, -4.6, -4.4, 0.2, 3.4, 3.6], requires_grad=True)
    fake_uniform(x, torch.tensor(1.0), torch.tensor(0.0), None, -4, 3).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 1, 1, 1, 0]


def test_affine_range() -> None:
    quantizer = make_quantizer("affine(bits=4)")
    quantizer.initialize(torch.tensor([-0.5, 1.0]))
    assert float(quantizer.scale) == pytest.approx(0.1)
    assert float(quantizer.zero_point) == -3.0  # -8 + 0.5 / 0.1
    assert quantizer(torch.tensor([0.0, -0.5, 1.0])).tolist() == pytest.approx([0.0, -0.5, 1.0])
    quantizer.initialize(torch.tensor([2.0, 3.0]))  # 0 belongs to the range
    assert float(quantizer.scale) == pytest.approx(0.2)
    assert float(quantizer.zero_point) == -8.0


def test_symmetric_and_pow2_ranges() -> None:
    x = torch.tensor([-0.7, 0.5])
    symmetric, pow2 = make_quantizer("symmetric(bits=4)"), make_quantizer("pow2(bits=4)")
    for quantizer in (symmetric, pow2):
        quantizer.initialize(x)
        assert (quantizer.quant_min, quantizer.quant_max) == (-7, 7)
        assert float(quantizer.zero_point) == 0
    assert float(symmetric.scale) == pytest.approx(0.1)
    assert float(pow2.scale) == 0.125


def test_power_of_two_above() -> None:
    values = [1.0, 1.0000001, 0.99999994, 0.3, 2.0**-30, 3 * 2.0**40, 5e-324 * 2**60]
    got = power_of_two_above(torch.tensor(values, dtype=torch.float64)).tolist()
    for value, power in zip(values, got, strict=True):
        assert math.frexp(power)[0] == 0.5
        assert Fraction(power) / 2 < Fraction(value) <= Fraction(power)
