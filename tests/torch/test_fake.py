"""Fake-quantization: shim and body to the bit; torch's own where definitions agree; LSQ by the papers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyquant.torch_ops import fake, shim_loaded

from .cases import op

needs_shim = pytest.mark.skipif(not shim_loaded(), reason="the shim is not loaded")
RANGES = [(-128, 127), (0, 15), (-32768, 32767), (-1, 1)]
# shape and axis: per tensor, channels first and last, tokens, groups, short runs, one channel, nothing
LAYOUTS: list[tuple[tuple[int, ...], int | None]] = [
    ((), None),
    ((7,), None),
    ((3, 1000), None),
    ((5, 40), 0),
    ((70, 24), 1),
    ((2, 5, 48), -1),
    ((2, 33, 50), 1),
    ((4, 6, 32), 1),
    ((3, 5, 2, 3), 1),
    ((2, 3, 700), 1),
    ((9, 1, 5), 1),
    ((0, 4), 1),
    ((4, 0), 1),
]


def operands(shape: tuple[int, ...], axis: int | None, low: int, high: int, seed: int = 0) -> tuple[Any, ...]:
    """x around the range, with ties, ends and infinities; scale and zero point."""
    generator = torch.Generator().manual_seed(seed)
    grids = () if axis is None else (shape[axis],)
    scale = 0.02 + torch.rand(grids, generator=generator)
    zero = torch.randint(low, high + 1, grids, generator=generator, dtype=torch.int32)
    s, z = spread(scale, len(shape), axis), spread(zero, len(shape), axis)
    steps = (low + high) / 2 - z + (high - low) * 0.6 * torch.randn(shape, generator=generator)
    odd = torch.rand(shape, generator=generator)
    steps = torch.where(odd < 0.1, torch.round(steps), torch.where(odd > 0.9, steps.floor() + 0.5, steps))
    x = torch.where(odd > 0.98, math.inf, torch.where(odd < 0.02, -math.inf, steps * s))
    return x, scale, zero, axis, low, high


def spread(values: Tensor, dims: int, axis: int | None) -> Tensor:
    """Broadcastable over the axis."""
    if axis is None:
        return values
    shape = [1] * dims
    shape[axis] = -1
    return values.reshape(shape)


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view({4: torch.int32, 8: torch.int64, 1: torch.uint8}[x.element_size()])


def layouts_of(x: Tensor) -> list[Tensor]:
    """The same values with other strides: permuted, and with gaps."""
    if x.dim() < 2:
        return [x]
    order = [*range(1, x.dim()), 0]
    back = [x.dim() - 1, *range(x.dim() - 1)]
    gaps = torch.stack((x, x), dim=-1)[..., 0]
    return [x, x.permute(order).contiguous().permute(back), gaps]


def oracle(x: Tensor, scale: Tensor, zero: Tensor, axis: int | None, low: int, high: int) -> tuple[Any, ...]:
    """v, low and high of each element in float64, from the float32 quotient."""
    s, z = spread(scale, x.dim(), axis), spread(zero, x.dim(), axis).double()
    return (x / s).double(), (low - z).expand(x.shape), (high - z).expand(x.shape), s


@pytest.mark.parametrize("levels", RANGES)
@pytest.mark.parametrize(("shape", "axis"), LAYOUTS)
def test_definition(shape: tuple[int, ...], axis: int | None, levels: tuple[int, int]) -> None:
    args = operands(shape, axis, *levels)
    v, low, high, s = oracle(*args)
    k = torch.round(v)
    want = torch.minimum(torch.maximum(k, low), high).float() * s
    for x in layouts_of(args[0]):
        x = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y, mask = op("fake_quantize")(x, *args[1:])
        assert torch.equal(y, want)
        assert not mask.requires_grad
        assert mask.numel() == (x.numel() + 7) // 8
        up = torch.randn(shape, generator=torch.Generator().manual_seed(2))
        (grad,) = torch.autograd.grad(y, x, up)
        assert torch.equal(grad, torch.where((k >= low) & (k <= high), up, 0.0))


@needs_shim
@pytest.mark.parametrize("levels", RANGES)
@pytest.mark.parametrize(("shape", "axis"), LAYOUTS)
def test_shim_equals_pure_torch(shape: tuple[int, ...], axis: int | None, levels: tuple[int, int]) -> None:
    args = operands(shape, axis, *levels, seed=3)
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    before = torch.get_num_threads()
    try:
        for x in layouts_of(args[0]):
            call = (x, *args[1:])
            calls = [
                ("fake_quantize", fake.body, call),
                ("fake_quantize_learned", fake.learned_body, (*call, 1.0)),
                ("fake_quantize_learned_backward", fake.learned_backward_body, (grad, *call, 0.3)),
                ("fake_quantize_stochastic", fake.stochastic_body, (*call, -77)),
            ]
            for name, function, values in calls:
                wants = function(*values)
                for threads in (1, 3):
                    torch.set_num_threads(threads)
                    gots = op(name)(*values)
                    pairs = zip(gots, wants, strict=True) if isinstance(wants, tuple) else [(gots, wants)]
                    for got, want in pairs:
                        assert got.dtype == want.dtype
                        assert got.stride() == want.stride()
                        assert torch.equal(bits(got), bits(want)), name
    finally:
        torch.set_num_threads(before)


@needs_shim
@pytest.mark.parametrize("channels", [1, 7, 64])
def test_one_learned_zero_point_for_all_channels(channels: int) -> None:
    generator = torch.Generator().manual_seed(channels)
    x, grad = (torch.randn((5, channels, 33), generator=generator) for _ in range(2))
    scale, zero = torch.rand(channels, generator=generator) + 0.05, torch.tensor(1.3)
    rest = (1, -8, 7, 0.25)
    got = op("fake_quantize_learned_backward")(grad, x, scale, zero, *rest)
    want = fake.learned_backward_body(grad, x, scale, zero, *rest)
    for mine, theirs in zip(got, want, strict=True):
        assert torch.equal(bits(mine), bits(theirs))
    each = op("fake_quantize_learned_backward")(grad, x, scale, zero.expand(channels), *rest)
    assert got[2].shape == ()
    assert torch.allclose(got[2], each[2].sum(), rtol=1e-4, atol=1e-4)
    assert torch.equal(got[1], each[1])


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_against_torch(axis: int | None) -> None:
    """torch multiplies by the reciprocal: values next to a tie are left out."""
    x, scale, zero, *grid = operands((64, 48), axis, -128, 127, 7)
    x = x.nan_to_num(posinf=9.0, neginf=-9.0)
    v = oracle(x, scale, zero, *grid)[0]
    clear = ((v - v.floor()) - 0.5).abs() > 1e-3
    if axis is None:
        want = torch.fake_quantize_per_tensor_affine(x, float(scale), int(zero), -128, 127)
    else:
        want = torch.fake_quantize_per_channel_affine(x, scale, zero, axis, -128, 127)
    got, _ = op("fake_quantize")(x, scale, zero, *grid)
    assert clear.float().mean() > 0.7
    torch.testing.assert_close(got[clear], want[clear], rtol=1e-6, atol=0)


@pytest.mark.parametrize("levels", RANGES)
@pytest.mark.parametrize(("shape", "axis"), LAYOUTS)
def test_learned_equations(shape: tuple[int, ...], axis: int | None, levels: tuple[int, int]) -> None:
    """LSQ, equations 3 and 5, and LSQ+ for the zero point, in NumPy float64; fake.h has the bound."""
    x, scale, zero, *grid = operands(shape, axis, *levels, seed=5)
    v, low, high, s = (a.numpy().astype(np.float64) for a in oracle(x, scale, zero, *grid))
    up = torch.randn(shape, generator=torch.Generator().manual_seed(6))
    leaves = [x, scale, zero.float() + 0.25]
    if levels[0] == -1:
        leaves[2] = zero.float()
    for leaf in leaves:
        leaf.requires_grad_()
    factor = 1 / 8  # a power of two: no rounding of its own
    y = op("fake_quantize_learned")(*leaves, *grid, factor)
    dx, ds, dz = torch.autograd.grad(y, leaves, up)
    g = up.numpy().astype(np.float64)
    inside = (v > low) & (v < high)
    others = tuple(d for d in range(x.dim()) if axis is None or d != axis % x.dim())
    with np.errstate(invalid="ignore"):  # inf - inf, which np.where leaves out
        slope = g * np.where(inside, np.rint(v) - v, np.where(v <= low, low, high))
    outside = np.where(inside, 0.0, -s * g)
    assert np.array_equal(dx.numpy(), np.where(inside, up.numpy(), np.float32(0)))
    for got, terms, by in ((ds, slope, factor), (dz, outside, 1.0)):
        bound = 36 * 2.0**-24 * by * np.abs(terms).sum(axis=others) + 1e-30
        error = np.abs(got.numpy() - by * terms.sum(axis=others))
        assert (error <= bound).all()


def test_learned_by_finite_differences() -> None:
    """The surrogate that LSQ differentiates: the rounding offset of each element held fixed."""
    x, scale, zero, *grid = operands((40, 12), 1, -8, 7, 8)
    x = x.nan_to_num(posinf=20.0, neginf=-20.0)
    v, low, high, _ = oracle(x, scale, zero, *grid)
    inside = (v > low) & (v < high)
    offset = torch.round(v) - v
    up = torch.randn(x.shape, generator=torch.Generator().manual_seed(9)).double()
    scale = scale.requires_grad_()
    y = op("fake_quantize_learned")(x, scale, zero, *grid, 1.0)
    (got,) = torch.autograd.grad(y, scale, up.float())

    def surrogate(s: Tensor) -> Tensor:
        value = torch.where(inside, x.double() + s * offset, s * torch.where(v <= low, low, high))
        return (value * up).sum(dim=0)

    with torch.no_grad():
        s, h = scale.double(), 2.0**-8
        slope = (surrogate(s + h) - surrogate(s - h)) / (2 * h)
    torch.testing.assert_close(got.double(), slope, rtol=1e-5, atol=1e-5)


def test_learned_zero_point_is_rounded_and_brought_inside() -> None:
    x = torch.linspace(-3, 3, 50)
    scale = torch.tensor(0.25)
    for value, used in ((2.5, 2), (3.5, 4), (-100.0, -8), (7.4, 7)):
        got = op("fake_quantize_learned")(x, scale, torch.tensor(value), None, -8, 7, 1.0)
        zero = torch.tensor(used, dtype=torch.int32)
        assert torch.equal(got, op("fake_quantize")(x, scale, zero, None, -8, 7)[0])


def test_one_zero_point_for_all_channels() -> None:
    x, scale, _, *grid = operands((6, 40), 0, -8, 7)
    alone = torch.tensor(2.0, requires_grad=True)
    each = torch.full((6,), 2.0, requires_grad=True)
    ys = [op("fake_quantize_learned")(x, scale, zero, *grid, 1.0) for zero in (alone, each)]
    assert torch.equal(*ys)
    grads = [torch.autograd.grad(y.sum(), zero)[0] for y, zero in zip(ys, (alone, each), strict=True)]
    torch.testing.assert_close(grads[0], grads[1].sum())


def test_stochastic() -> None:
    """Unbiased, one of the two neighbours, reproducible, and other bits for another seed."""
    x = torch.full((200_000,), 1.3)
    grid = (torch.tensor(0.5), torch.tensor(1, dtype=torch.int32), None, -8, 7)
    y = op("fake_quantize_stochastic")(x, *grid, 3)
    assert set(y.unique().tolist()) == {1.0, 1.5}
    deviation = 0.5 * math.sqrt(0.6 * 0.4 / x.numel())
    assert abs(float(y.double().mean()) - 1.3) < 5 * deviation
    assert torch.equal(y, op("fake_quantize_stochastic")(x, *grid, 3))
    assert not torch.equal(y, op("fake_quantize_stochastic")(x, *grid, 4))
    leaf = torch.tensor([0.3, 9.0, -0.1], requires_grad=True)
    (grad,) = torch.autograd.grad(op("fake_quantize_stochastic")(leaf, *grid, 1).sum(), leaf)
    assert grad.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("kind", ["body", "op"])
def test_errors(kind: str) -> None:
    x = torch.zeros(3, 4)
    zero, scale = torch.tensor(0, dtype=torch.int32), torch.tensor(0.1)
    run: Any = fake.body if kind == "body" else op("fake_quantize")
    channels = torch.full((4,), 0.1)
    nan = x.clone()
    nan[1, 1] = math.nan
    for match, args in (
        ("dtype torch.float32, got torch.float64", (x.double(), scale, zero, None, -8, 7)),
        ("half precision", (x.half(), scale, zero, None, -8, 7)),
        ("scale of shape", (x, channels, zero, None, -8, 7)),
        ("scale of shape", (x, channels, zero, 0, -8, 7)),
        ("scale of shape", (x, scale.double(), zero, None, -8, 7)),
        ("zero_point of shape", (x, channels, torch.zeros(3), 1, -8, 7)),
        ("zero_point of shape", (x, scale, zero.long(), None, -8, 7)),
        ("axis", (x, channels, zero, 2, -8, 7)),
        ("quant_min <= quant_max", (x, scale, zero, None, 8, 7)),
        ("scale in", (x, 0 * scale, zero, None, -8, 7)),
        ("quant_min <= zero_point", (x, scale, zero + 9, None, -8, 7)),
        ("zero_point", (x, scale, torch.tensor(math.nan), None, -8, 7)),
        ("NaN", (nan, scale, zero, None, -8, 7)),
    ):
        with pytest.raises(RuntimeError, match=f"^fake_quantize: .*{match}"):
            run(*args)
    apply: Any = fake.apply_body if kind == "body" else op("fake_quantize_backward")
    with pytest.raises(RuntimeError, match=r"^fake_quantize_backward: expected mask \(2,\)"):
        apply(x, torch.zeros(3, dtype=torch.uint8))


def test_compile_equals_eager() -> None:
    def step(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        fixed, _ = torch.ops.pyquant.fake_quantize(x, scale.detach(), zero.detach(), 1, -8, 7)
        return torch.ops.pyquant.fake_quantize_learned(fixed, scale, zero, 1, -8, 7, 0.5) * 2

    x, scale, zero, *_ = operands((6, 5, 4), 1, -8, 7)
    x = x.nan_to_num(posinf=20.0, neginf=-20.0).transpose(0, 2).contiguous().transpose(0, 2)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    results = []
    for function in (step, compiled):
        leaves = [a.clone().requires_grad_() for a in (x, scale, zero.float())]
        y = function(*leaves)
        results.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
