"""Gradients behind an output grid: shim and body agree to the bit, and both with the equations in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pyquant.torch_ops import edge, shim_loaded

from .cases import op

Grid = tuple[Tensor, Tensor, int, int]

GRIDS = [(0.05, 3, -128, 127), (0.37, 0, 0, 15), (1e-3, -5, -32768, 32767), (2.0**-100, 0, -1, 1)]
SHAPES = [(), (1,), (0, 3), (17,), (5, 103), (2, 3, 171), (40_007,)]


def grid(scale: float, zero_point: int, low: int, high: int) -> Grid:
    return torch.tensor(scale), torch.tensor(zero_point, dtype=torch.int32), low, high


def operands(shape: tuple[int, ...], to: Grid, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """grad, real and y: inside, outside, at the ends and at ties of the grid."""
    scale, zero_point, low, high = to
    generator = torch.Generator().manual_seed(seed)
    half = (high - low) / 2
    centre = half + low - float(zero_point)
    real = (centre + half * 1.3 * torch.randn(shape, generator=generator)) * scale
    odd = torch.rand(shape, generator=generator)
    real = torch.where(odd < 0.1, torch.round(real / scale) * scale, real)
    real = torch.where((odd > 0.1) & (odd < 0.2), (torch.floor(real / scale) + 0.5) * scale, real)
    real = torch.where(odd > 0.98, torch.where(real > 0, math.inf, -math.inf), real)
    return torch.randn(shape, generator=generator), real, op("quantize")(real, *to)


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.int32 if x.dtype == torch.float32 else torch.int64)


@pytest.mark.skipif(not shim_loaded(), reason="the shim is not loaded")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("values", GRIDS)
def test_shim_equals_pure_torch(shape: tuple[int, ...], values: tuple[float, int, int, int]) -> None:
    to = grid(*values)
    before = torch.get_num_threads()
    for seed in range(3):
        grad, real, y = operands(shape, to, seed)
        masked = edge.fixed_body(grad, y, *to)
        learned = edge.learned_body(grad, real, y, *to)
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                assert torch.equal(bits(op("edge_backward")(grad, y, *to)), bits(masked))
                got = op("edge_backward_learned")(grad, real, y, *to)
                for a, b in zip(got, learned, strict=True):
                    assert torch.equal(bits(a), bits(b))
        finally:
            torch.set_num_threads(before)


@pytest.mark.parametrize("values", GRIDS)
def test_equations(values: tuple[float, int, int, int]) -> None:
    """Esser et al., equation 3, in float64, with the bound of the summation in fake.h."""
    to = grid(*values)
    grad, real, y = operands((40_007,), to, 5)
    low, high = values[2] - values[1], values[3] - values[1]
    v = (real / to[0]).double()
    inside = (v > low) & (v < high)
    slope = torch.where(inside, torch.round(v) - v, v.clamp(low, high)) * grad.double()
    masked, total = op("edge_backward_learned")(grad, real, y, *to)
    assert torch.equal(masked, torch.where(inside, grad, 0.0))
    assert abs(float(total - slope.sum())) <= 34 * 2.0**-24 * float(slope.abs().sum())
    at_end = (y == low * to[0]) | (y == high * to[0])
    assert at_end.any()
    assert torch.equal(op("edge_backward")(grad, y, *to), torch.where(at_end, 0.0, grad))


def test_strides() -> None:
    to = grid(*GRIDS[0])
    grad, real, y = operands((6, 35), to, 1)
    want = op("edge_backward_learned")(grad, real, y, *to)
    turned = [x.T.contiguous().T for x in (grad, real, y)]
    got = op("edge_backward_learned")(*turned, *to)
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])
    ones = torch.ones(()).expand(6, 35)
    assert torch.equal(op("edge_backward")(ones, y, *to), op("edge_backward")(ones.contiguous(), y, *to))


def test_nan() -> None:
    to = grid(*GRIDS[0])
    values = torch.tensor([0.5, math.nan, 1.0])
    for f, g in (
        (edge.fixed_body, edge.learned_body),
        (op("edge_backward"), op("edge_backward_learned")),
    ):
        assert f(torch.ones(3), values, *to).tolist() == [1.0, 0.0, 1.0]
        masked, total = g(torch.ones(3), values, values.nan_to_num(), *to)
        assert masked.tolist() == [1.0, 0.0, 1.0]
        assert total.isnan()
        masked, total = g(values, torch.zeros(3), torch.zeros(3), *to)
        assert masked.isnan().tolist() == [False, True, False]
        assert total.isnan()


def test_second_derivative_in_grad() -> None:
    """Both are linear in grad: a vector comes back through the same mask and slopes."""
    to = grid(*GRIDS[0])
    grad, real, y = operands((200,), to, 2)
    real = real.nan_to_num(posinf=50.0, neginf=-50.0)
    grad = grad.requires_grad_()
    up = torch.randn(200, generator=torch.Generator().manual_seed(3))
    (got,) = torch.autograd.grad(op("edge_backward")(grad, y, *to), grad, up)
    assert torch.equal(got, op("edge_backward")(up, y, *to))
    masked, total = op("edge_backward_learned")(grad, real, y, *to)
    (got,) = torch.autograd.grad((masked * up).sum() + 3 * total, grad)
    basis = torch.eye(200)[17]
    _, slope = op("edge_backward_learned")(basis, real, y, *to)
    want = op("edge_backward_learned")(up, real, y, *to)[0][17] + 3 * slope
    torch.testing.assert_close(got[17].double(), want.double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["body", "op"])
def test_errors(kind: str) -> None:
    fixed, learned = (
        (edge.fixed_body, edge.learned_body)
        if kind == "body"
        else (op("edge_backward"), op("edge_backward_learned"))
    )
    to, x = grid(*GRIDS[0]), torch.ones(4)
    with pytest.raises(RuntimeError, match=r"edge_backward: expected grad of dtype torch.float32, got torch"):
        fixed(x.double(), x, *to)
    with pytest.raises(RuntimeError, match=r"edge_backward: expected y of the shape of grad, \(4,\)"):
        fixed(x, torch.ones(4, 1), *to)
    with pytest.raises(RuntimeError, match=r"edge_backward_learned: .*half precision"):
        learned(x, x.half(), x, *to)
    with pytest.raises(RuntimeError, match=r"edge_backward_learned: expected real of the shape"):
        learned(x, x[:3], x, *to)
    with pytest.raises(RuntimeError, match=r"edge_backward: expected a scale|expected the scale"):
        fixed(x, x, torch.tensor(0.0), *to[1:])
    with pytest.raises(RuntimeError, match=r"quant_max <= 32767"):
        fixed(x, x, *to[:2], 0, 40_000)
