"""Backward is that of the float function where the output is inside its range, zero where it is clipped."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyquant.numerics import derive_group_scale, derive_weight_scale
from pyquant.torch_ops import FUNCTIONS

from .cases import grid, op

Function = Callable[..., Tensor]


def leaf(*shape: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + len(shape))
    return (scale * torch.randn(shape, generator=generator)).requires_grad_()


def compare(
    name: str,
    args: tuple[Any, ...],
    function: Function,
    leaves: tuple[Tensor, ...],
    before: Tensor | None = None,
) -> None:
    """`args` end with the output grid, chosen so that some outputs are clipped and some are not.

    `before` is what the output's quantizer sees, if not the float function.
    """
    y = op(name)(*args)
    scale, zero_point, low, high = args[-4:]
    inside = (y > (low - zero_point) * scale) & (y < (high - zero_point) * scale)
    assert inside.any(), "the case must have outputs inside the range"
    assert not inside.all(), "and clipped ones"
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(9))
    got = torch.autograd.grad(y, leaves, upstream)
    want = torch.autograd.grad(function(*leaves), leaves, torch.where(inside, upstream, 0.0))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)
    # zero exactly where everything that an output saw was clipped
    nothing = torch.autograd.grad(op(name)(*args), leaves, torch.where(inside, 0.0, upstream))
    assert all(not g.any() for g in nothing)
    compare_learned(name, args, function, leaves, before)


def compare_learned(
    name: str,
    args: tuple[Any, ...],
    function: Function,
    leaves: tuple[Tensor, ...],
    before: Tensor | None = None,
) -> None:
    """With a scale that wants a gradient: LSQ's, by finite differences of what LSQ differentiates.

    That is the quantizer with its rounding offset r = q - v held fixed: s (v + r) with v = x / s inside,
    s low and s high outside.
    """
    *head, scale, zero_point, low, high = args
    low, high = low - int(zero_point), high - int(zero_point)
    scale = scale.clone().requires_grad_()
    y = op(name)(*head, scale, zero_point, args[-2], args[-1])
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(9))
    got_scale, *got = torch.autograd.grad(y, (scale, *leaves), upstream)
    with torch.no_grad():
        s = float(scale)
        x = function(*leaves).double() if before is None else before
        v = x / s
        inside = (v > low) & (v < high)
        offset = (y.double() / s).round() - v

        def surrogate(at: float) -> float:
            real = torch.where(inside, x + at * offset, at * v.clamp(low, high))
            return float((real * upstream.double()).sum())

        step = s * 2.0**-10
        slope = (surrogate(s + step) - surrogate(s - step)) / (2 * step)
        count = y.numel() / y.shape[0]
        factor = 1.0 / math.sqrt(count * max(-low, high))
    # An op on float operands rounds in float32 before v is compared and subtracted.
    bound = 1e-5 * float(upstream.abs().sum()) * max(-low, high) * factor
    assert abs(float(got_scale) - slope * factor) <= bound
    want = torch.autograd.grad(function(*leaves), leaves, torch.where(inside, upstream, 0.0))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)


def test_quantize() -> None:
    x = leaf(40)
    compare("quantize", (x, *grid(0.01, 5)), lambda x: x + 0, (x,))


def test_requantize() -> None:
    x = leaf(40)
    compare("requantize", (x, *grid(0.001, 5, 16), *grid(0.01, 5)), lambda x: x + 0, (x,))


def products(x: Tensor, w: Tensor, b: Tensor | None, bits: int, group_size: int, *grids: Any) -> Tensor:
    """The integers of a linear layer as real numbers in float64, rounded to 1/128 of an output step."""
    x_scale, y_scale = float(grids[0]), float(grids[4])
    bias = None if b is None else b.detach().numpy()
    scale = torch.ones(w.shape)
    if group_size:
        groups = derive_group_scale(w.detach().numpy(), bias, x_scale, group_size, bits)
        scale = torch.from_numpy(groups.group_multiplier).float().repeat_interleave(group_size, dim=1)
        scale = scale[:, : w.shape[1]]
        column = torch.from_numpy(groups.w_scale)
    else:
        column = torch.from_numpy(derive_weight_scale(w.detach().numpy(), bias, x_scale, bits))
    scale = scale * column[:, None]
    limit = 2 ** (bits - 1) - 1
    with torch.no_grad():
        weights = (w / scale).round().clamp(-limit, limit).double() * scale.double()
        values = (x / x_scale).round().clamp(grids[2], grids[3]).double() * x_scale
        total = values @ weights.T
        if b is not None:
            unit = x_scale * column.double()
            total = total + (b.double() / unit).round() * unit
        fine = y_scale / 128
        return (total / fine).round().clamp(-32768, 32767) * fine


@pytest.mark.parametrize(("with_bias", "bits", "group_size"), [(False, 8, 0), (True, 8, 0), (True, 4, 4)])
def test_linear(with_bias: bool, bits: int, group_size: int) -> None:
    x, w, b = leaf(3, 5, 8), leaf(6, 8), leaf(6)
    bias = b if with_bias else None
    args = (x, *grid(0.05), w, bias, None, bits, group_size, *grid(0.02))
    before = products(x, w, bias, bits, group_size, *grid(0.05), *grid(0.02))
    compare("linear", args, F.linear, (x, w, b) if with_bias else (x, w), before)


def test_linear_of_one_vector() -> None:
    x, w = leaf(8), leaf(16, 8)
    before = products(x, w, None, 8, 0, *grid(0.05), *grid(0.02))
    compare("linear", (x, *grid(0.05), w, None, None, 8, 0, *grid(0.02)), F.linear, (x, w), before)


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("method", ["exact", "ibert", "ptf"])
def test_layer_norm(rms: bool, affine: bool, method: str) -> None:
    """The gradient is that of the float function, whatever the method."""
    x, w, b = leaf(3, 5, 16), leaf(16), leaf(16)
    x_range = torch.tensor([[-4.0], [4.0]]).expand(2, 16)
    layer = (w if affine else None, b if affine else None, 1e-3, rms, method, x_range)
    args = (x, *grid(0.001, 0, 16), *layer, *grid(0.01))

    def function(x: Tensor, w: Tensor | None = None, b: Tensor | None = None) -> Tensor:
        if not rms:
            return F.layer_norm(x, (16,), w, b, 1e-3)
        y = F.rms_norm(x, (16,), w, 1e-3)
        return y if b is None else y + b

    compare("layer_norm", args, function, (x, w, b) if affine else (x,))


@pytest.mark.parametrize("shape", [(3, 5, 16), (64,)])
def test_softmax(shape: tuple[int, ...]) -> None:
    x = leaf(*shape)
    to = (torch.tensor(0.0002), torch.tensor(0, dtype=torch.int32), 0, 120)
    compare("softmax", (x, *grid(0.0005, 0, 16), "table16", *to), lambda x: torch.softmax(x, -1), (x,))


@pytest.mark.parametrize("rms", [False, True])
def test_layer_norm_of_one_row(rms: bool) -> None:
    x, w, b = leaf(64), leaf(64), leaf(64)
    method, x_range = "exact", None
    args = (x, *grid(0.001, 0, 16), w, b, 1e-3, rms, method, x_range, *grid(0.01))

    def norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.rms_norm(x, (64,), w, 1e-3) + b if rms else F.layer_norm(x, (64,), w, b, 1e-3)

    compare("layer_norm", args, norm, (x, w, b))


FLOAT_FUNCTIONS: dict[str, Function] = {
    "identity": lambda x: x + 0,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "exp": torch.exp,
    "abs": torch.abs,
    "square": torch.square,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_unary(function: str) -> None:
    x = leaf(200, scale=1.5)
    with torch.no_grad():
        x[:2] = 0.0  # a kink or an end of the range for most of them
        x[2:4] = 5.0
        x.copy_(op("quantize")(x, *grid(0.05)))  # the slope is that of the integer
    real = FLOAT_FUNCTIONS.get(function) or getattr(F, function)
    compare("unary", (x, *grid(0.05), function, "table", *grid(0.0035, -110)), real, (x,))


def test_add() -> None:
    for a_shape, b_shape in (((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((3, 1), (2, 3, 4))):
        a, b = leaf(*a_shape), leaf(*b_shape)
        compare("add", (a, *grid(0.05), b, *grid(0.001, 0, 16), *grid(0.01)), torch.add, (a, b))


@pytest.mark.parametrize("dim", [[1], [-1], [0, 2], []])
@pytest.mark.parametrize("keepdim", [False, True])
def test_mean(dim: list[int], keepdim: bool) -> None:
    x = leaf(6, 5, 8)
    y_grid = (torch.tensor(0.002), torch.tensor(0, dtype=torch.int32), -100, 100)
    if not dim:
        y = op("mean")(x, *grid(0.01), dim, keepdim, *y_grid)
        (g,) = torch.autograd.grad(y.sum(), x)
        torch.testing.assert_close(g, torch.full_like(x, 1 / x.numel()))
        return
    compare("mean", (x, *grid(0.01), dim, keepdim, *y_grid), lambda x: x.mean(dim, keepdim), (x,))


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    """Float attention by the book: keys at or below -1e30 excluded, causal from the bottom right."""
    repeat = q.shape[-3] // k.shape[-3]
    k, v = k.repeat_interleave(repeat, -3), v.repeat_interleave(repeat, -3)
    score = q @ k.mT * scale
    t, s = score.shape[-2:]
    kept = torch.ones(t, s, dtype=torch.bool)
    if causal:
        kept = kept.tril(s - t)
    if mask is not None:
        kept = kept & (mask if mask.dtype == torch.bool else mask > -1e30)
        score = score if mask.dtype == torch.bool else score + mask
    p = torch.softmax(score.masked_fill(~kept, -math.inf), -1)
    return torch.where(kept, p, 0.0) @ v


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["none", "keep", "additive"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention(causal: bool, kind: str, kv_heads: int) -> None:
    q, k, v = leaf(2, 4, 5, 8), leaf(2, kv_heads, 7, 8), leaf(2, kv_heads, 7, 8)
    leaves: tuple[Tensor, ...] = (q, k, v)
    mask = None
    if kind == "keep":
        mask = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(4)) > 0.3
        mask[:, :, 2] = False  # a row without keys
    if kind == "additive":
        with torch.no_grad():
            mask = leaf(4, 5, 7)
            mask[0, :, 0] = -math.inf
        mask.requires_grad_()
        leaves = (q, k, v, mask)
    args = (q, *grid(0.03), k, *grid(0.03), v, *grid(0.03), mask, causal, 0.4, "table16", *grid(0.005))

    def function(*tensors: Tensor) -> Tensor:
        return sdpa(*tensors[:3], mask, causal, 0.4)

    compare("attention", args, function, leaves)


@pytest.mark.parametrize(("bits", "group_size"), [(8, 0), (4, 0), (3, 4), (4, 8)])
def test_learned_weight_scales(bits: int, group_size: int) -> None:
    """As `compare_learned`, with the weights in the place of the output; the last group is short."""
    n, k = 5, 12
    x, w = leaf(7, k), leaf(n, k)
    limit = 2 ** (bits - 1) - 1
    size = group_size or k
    groups = -(-k // size)
    scale = torch.linspace(0.4, 0.9, n * groups).reshape(n, groups) / limit  # some weights are clipped
    learned = (scale if group_size else scale.reshape(n)).clone().requires_grad_()
    args = (x, *grid(0.05), w, None, learned, bits, group_size, *grid(0.5, bits=16))
    y = op("linear")(*args)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(9))
    got_scale, got_weight = torch.autograd.grad(y, (learned, w), upstream)

    with torch.no_grad():
        weights, grad = w.double(), upstream.double().T @ x.double()  # of w^ = s q
        s = scale.double().repeat_interleave(size, dim=1)[:, :k]
        v = weights / s
        inside = v.abs() < limit
        assert inside.any()
        assert not inside.all()
        offset = v.round() - v
        slope = torch.where(inside, offset, v.clamp(-limit, limit)) * grad
        want = torch.stack([part.sum(dim=1) for part in slope.split(size, dim=1)], dim=1)
        want = want / math.sqrt(size * limit)
    torch.testing.assert_close(got_scale.double().reshape(n, groups), want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got_weight.double(), torch.where(inside, grad, 0.0), rtol=1e-4, atol=1e-4)
