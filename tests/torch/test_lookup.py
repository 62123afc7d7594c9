"""Gradients behind a table: shim and body agree to the bit, and both with the definition in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pyquant.torch_ops import lookup, shim_loaded

from .cases import op

GRIDS = [(0.05, 3, -128, 127), (0.37, 0, 0, 15), (2.0**-100, 0, -1, 1), (1.7, -128, -128, 127)]
SHAPES = [(), (1,), (0, 3), (17,), (5, 103), (2, 3, 171), (40_007,)]


def operands(
    shape: tuple[int, ...], values: tuple[float, int, int, int], seed: int
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, int, int], Tensor, Tensor]:
    """grad, x (on and off the grid, and beyond it), its grid, slope and step."""
    scale, zero_point, low, high = values
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(low - 9, high + 10, shape, generator=generator).float() - zero_point
    x = torch.where(torch.rand(shape, generator=generator) < 0.2, x + 0.3, x) * scale
    grid = (torch.tensor(scale), torch.tensor(zero_point, dtype=torch.int32), low, high)
    slope, step = torch.randn((2, 256), generator=generator)
    return torch.randn(shape, generator=generator), x, grid, slope, step


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.int32 if x.dtype == torch.float32 else torch.int64)


@pytest.mark.skipif(not shim_loaded(), reason="the shim is not loaded")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("values", GRIDS)
def test_shim_equals_pure_torch(shape: tuple[int, ...], values: tuple[float, int, int, int]) -> None:
    before = torch.get_num_threads()
    for seed in range(3):
        grad, x, grid, slope, step = operands(shape, values, seed)
        for second in (None, step):
            want = lookup.body(grad, x, *grid, slope, second)
            try:
                for threads in (1, 2, 3):
                    torch.set_num_threads(threads)
                    got = op("lookup_backward")(grad, x, *grid, slope, second)
                    assert all(torch.equal(bits(a), bits(b)) for a, b in zip(got, want, strict=True))
            finally:
                torch.set_num_threads(before)


@pytest.mark.parametrize("values", GRIDS)
def test_definition(values: tuple[float, int, int, int]) -> None:
    scale, zero_point, low, high = values
    grad, x, grid, slope, step = operands((40_007,), values, 5)
    codes = (torch.round(x.double() / torch.tensor(scale).double()) + zero_point).clamp(
        low, high
    ).long() + 128
    dx, total = op("lookup_backward")(grad, x, *grid, slope, step)
    assert torch.equal(dx, grad * slope[codes])
    terms = grad.double() * step.double()[codes]
    assert abs(float(total - terms.sum())) <= 34 * 2.0**-24 * float(terms.abs().sum())


def test_strides_and_nan() -> None:
    grad, x, grid, slope, step = operands((6, 35), GRIDS[0], 1)
    want = op("lookup_backward")(grad, x, *grid, slope, step)
    got = op("lookup_backward")(grad.T.contiguous().T, x.T.contiguous().T, *grid, slope, step)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    x[0, 0], grad[1, 1] = math.nan, math.nan
    for run in (lookup.body, op("lookup_backward")):
        dx, total = run(grad, x, *grid, slope, step)
        assert dx[0, 0] == grad[0, 0] * slope[0]
        assert dx.isnan().nonzero().tolist() == [[1, 1]]
        assert total.isnan()


def test_second_derivative_in_grad() -> None:
    grad, x, grid, slope, step = operands((200,), GRIDS[0], 2)
    grad.requires_grad_()
    up = torch.randn(200, generator=torch.Generator().manual_seed(3))
    dx, total = op("lookup_backward")(grad, x, *grid, slope, step)
    (got,) = torch.autograd.grad((dx * up).sum() + 3 * total, grad)
    basis = torch.eye(200)[17]
    alone = op("lookup_backward")(basis, x, *grid, slope, step)
    want = up[17] * alone[0][17] + 3 * alone[1]
    torch.testing.assert_close(got[17].double(), want.double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["body", "op"])
def test_errors(kind: str) -> None:
    run = lookup.body if kind == "body" else op("lookup_backward")
    grad, x, grid, slope, step = operands((4,), GRIDS[0], 0)
    with pytest.raises(RuntimeError, match=r"lookup_backward: expected x of the shape of grad, \(4,\)"):
        run(grad, x[:3], *grid, slope, step)
    with pytest.raises(RuntimeError, match=r"lookup_backward: expected slope of 256 entries"):
        run(grad, x, *grid, slope[:5], step)
    with pytest.raises(RuntimeError, match=r"lookup_backward: expected step of 256 entries"):
        run(grad, x, *grid, slope, step.reshape(16, 16))
    with pytest.raises(RuntimeError, match=r"lookup_backward: .*half precision"):
        run(grad.half(), x, *grid, slope, step)
    with pytest.raises(RuntimeError, match=r"lookup_backward: expected the range of x inside int8"):
        run(grad, x, *grid[:2], -129, 127, slope, step)
