"""``fake_levels`` and ``fake_levels_learned``: the shim, the bodies and float64 agree, in any layout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyquant import ops
from pyquant.torch_ops import levels as module
from pyquant.torch_ops import shim_loaded
from pyquant.torch_ops.fake_layout import memory_order

from .cases import op, wild

BODIES = {
    "fake_levels": module.fake_levels_body,
    "fake_levels_learned": module.fake_levels_learned_body,
    "fake_levels_learned_backward": module.fake_levels_learned_backward_body,
}
needs_shim = pytest.mark.skipif(not shim_loaded(), reason="the shim is not loaded")


def codebook(count: int, kind: str) -> tuple[Tensor, Tensor]:
    steps = torch.arange(count, dtype=torch.float64)
    table = {"octaves": 2.0 ** ((steps - count + 1) / 3), "even": steps - count // 2}[kind]
    if kind == "even":
        table = torch.where(table > 0, 8 * table, table)
    middles = (table[1:] + table[:-1]) / 2
    return table.float(), middles.float()


def layouts(g: torch.Generator) -> Iterator[tuple[Tensor, int | None]]:
    """Inputs of every kind of layout, and the axis of the scale."""
    yield wild(g, ()), None
    yield wild(g, (0,)), None
    yield wild(g, (3, 0, 2)), 0
    yield wild(g, (3, 0, 2)), 1
    yield wild(g, (1,)), 0
    for axis in (None, 0, 1, -1):
        yield wild(g, (5, 7, 33)), axis
    yield wild(g, (4, 6, 9)).permute(2, 0, 1), 1  # dense, in another order
    yield wild(g, (2, 5, 6, 8)).to(memory_format=torch.channels_last), 1
    yield wild(g, (40, 9)).t(), 0
    yield wild(g, (40, 9)).t(), 1
    yield wild(g, (6, 20))[:, ::2], 1  # not dense: one copy
    yield wild(g, (6, 1)).expand(6, 5), 0
    yield wild(g, (4097,)), None
    yield wild(g, (300, 5)), 1  # more rows than a block
    yield wild(g, (3, 2, 2500)), 1
    yield wild(g, (2, 140000)), 0  # more than a piece
    yield wild(g, (4000, 2, 33)), 1  # more than a piece of whole runs


def calls(seed: int) -> Iterator[tuple[Any, ...]]:
    g = torch.Generator().manual_seed(seed)
    sizes = [(16, "octaves"), (7, "even"), (40, "octaves"), (256, "even"), (2, "even"), (1, "even")]
    for number, (x, axis) in enumerate(layouts(g)):
        channels = 1 if axis is None else x.shape[axis]
        shape = () if axis is None and number % 2 == 0 else (channels,)
        scale = torch.rand(shape, generator=g) + 0.05
        yield (x, scale, *codebook(*sizes[number % len(sizes)]), axis)


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.uint8 if x.dtype == torch.uint8 else torch.int32)


def same(got: Tensor, want: Tensor) -> None:
    assert got.shape == want.shape
    assert got.stride() == want.stride()
    assert torch.equal(bits(got), bits(want))


@needs_shim
def test_shim_equals_pure_torch() -> None:
    for args in calls(1):
        x = args[0]
        y, mask = op("fake_levels")(*args)
        for got, want in zip((y, mask), BODIES["fake_levels"](*args), strict=True):
            same(got, want)
        g = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
        same(op("fake_levels_learned")(*args, 0.5), BODIES["fake_levels_learned"](*args, 0.5))
        same(op("fake_levels_learned")(*args, 0.5), y)
        finite = (g, x.clamp(-1e6, 1e6), *args[1:], 0.25)
        got = op("fake_levels_learned_backward")(*finite)
        for mine, theirs in zip(got, BODIES["fake_levels_learned_backward"](*finite), strict=True):
            same(mine, theirs)


def test_values_and_mask_against_numpy() -> None:
    for x, scale, table, thresholds, axis in calls(3):
        shape = [1] * x.dim()
        if axis is not None:
            shape[axis] = -1
        with np.errstate(over="ignore"):
            v = x.numpy() / scale.numpy().reshape(shape)
        assert v.dtype == np.float32
        code = (v[..., None] >= thresholds.numpy()).sum(-1)
        want = table.numpy()[code] * scale.numpy().reshape(shape)
        y, mask = op("fake_levels")(x, scale, table, thresholds, axis)
        assert np.array_equal(y.numpy(), want)
        inside = (v >= table[0].item()) & (v <= table[-1].item())
        order = memory_order(x)
        packed = np.packbits(inside.transpose(order).reshape(-1), bitorder="little")
        assert np.array_equal(mask.numpy(), packed)
        assert np.array_equal(ops.levels(x.numpy(), scale.reshape(-1), table, thresholds, axis=axis), want)
        codes = ops.levels(x.numpy(), scale.reshape(-1), table, thresholds, axis=axis, codes=True)
        assert codes.dtype == np.uint8
        assert np.array_equal(
            ops.levels(x.numpy(), scale.reshape(-1), table, thresholds, axis=axis, threads=3), want
        )
        assert np.array_equal(codes, code)


def test_gradients_against_float64() -> None:
    g = torch.Generator().manual_seed(4)
    for x, scale, table, thresholds, axis in calls(5):
        x = x.clamp(-100, 100)
        leaf, s = x.clone().requires_grad_(), scale.clone().requires_grad_()
        grad = torch.randn(x.shape, generator=g)
        y = torch.ops.pyquant.fake_levels_learned(leaf, s, table, thresholds, axis, 0.5)
        y.backward(grad)
        shape = [1] * x.dim()
        if axis is not None:
            shape[axis] = -1
        v = x / scale.reshape(shape)
        code = torch.bucketize(v.contiguous(), thresholds, right=True)
        inside = (v >= table[0]) & (v <= table[-1])
        end = torch.where(v < table[0], table[0], table[-1]).double()
        terms = grad.double() * torch.where(inside, (table[code] - v).double(), end)
        others = [d for d in range(x.dim()) if axis is None or d != axis % x.dim()]
        total = terms.sum(others) if others else terms
        bound = terms.abs().sum(others) if others else terms.abs()  # relative error of levels.h, to it
        assert s.grad is not None
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, torch.where(inside, grad, 0.0))
        assert (
            (s.grad - 0.5 * total.reshape(scale.shape)).abs() <= 7.8e-6 * bound.reshape(scale.shape)
        ).all()
        straight = x.clone().requires_grad_()
        torch.ops.pyquant.fake_levels(straight, scale, table, thresholds, axis)[0].backward(grad)
        assert straight.grad is not None
        assert torch.equal(straight.grad, leaf.grad)


def test_the_learned_gradient_is_a_derivative_where_no_rounding_takes_part() -> None:
    """Outside the codebook x_hat = L_end * scale, a smooth function: finite differences in float64."""
    table, thresholds = codebook(8, "even")
    x = torch.tensor([-50.0, 90.0, 300.0])
    scale = torch.tensor(0.7, requires_grad=True)
    torch.ops.pyquant.fake_levels_learned(x, scale, table, thresholds, None, 1.0).sum().backward()

    def total(s: float) -> float:
        v = x.double() / s
        return float((table[torch.bucketize(v, thresholds.double(), right=True)].double() * s).sum())

    assert scale.grad is not None
    assert float(scale.grad) == pytest.approx((total(0.7 + 1e-6) - total(0.7 - 1e-6)) / 2e-6, rel=1e-6)


@needs_shim
def test_thread_count_and_kernels_change_no_bit() -> None:
    def digest() -> list[Tensor]:
        found = []
        for args in calls(6):
            g = torch.randn(args[0].shape, generator=torch.Generator().manual_seed(7))
            x = args[0].clamp(-1e6, 1e6)
            found += [*op("fake_levels")(*args)]
            found += [*op("fake_levels_learned_backward")(g, x, *args[1:], 1.0)]
        return [bits(part) for part in found]

    before = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(digest())
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@needs_shim
def test_reference_kernels_change_no_bit() -> None:
    code = "from tests.torch.test_levels import checksum; print(checksum())"
    environment = {**os.environ, "PYQUANT_ISA": "ref"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(checksum())


def checksum() -> int:
    total = 0
    for args in calls(8):
        g = torch.randn(args[0].shape, generator=torch.Generator().manual_seed(9))
        _, dscale = op("fake_levels_learned_backward")(g, args[0].clamp(-1e6, 1e6), *args[1:], 1.0)
        for part in (*op("fake_levels")(*args), dscale):
            total = (total * 31 + int(bits(part).long().sum())) % 2**61
    return total


def leaf(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).requires_grad_()


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("permuted", [False, True])
def test_opcheck(axis: int | None, permuted: bool) -> None:
    x = leaf(3, 4, 5)
    if permuted:
        x = x.detach().permute(2, 0, 1).requires_grad_()
    channels = 1 if axis is None else x.shape[axis]
    scale = torch.full((channels,), 0.3, requires_grad=True)
    table, thresholds = codebook(8, "even")
    args = (table, thresholds, axis)
    tests = [
        (op("fake_levels"), (x, scale.detach(), *args)),
        (op("fake_levels_learned"), (x, scale, *args, 0.5)),
        (op("fake_levels_learned_backward"), (x.detach(), x.detach(), scale.detach(), *args, 0.5)),
    ]
    for function, inputs in tests:
        assert set(torch.library.opcheck(function, inputs).values()) == {"SUCCESS"}


def test_autocast_changes_nothing() -> None:
    table, thresholds = codebook(8, "even")
    results = []
    for enabled in (False, True):
        x, scale = leaf(3, 4), torch.tensor(0.3, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            y = torch.ops.pyquant.fake_levels_learned(x, scale, table, thresholds, None, 1.0)
            results.append([y, *torch.autograd.grad(y.sum(), [x, scale])])
    for plain, cast in zip(*results, strict=True):
        assert torch.equal(plain, cast)


X, S = torch.ones(3, 4), torch.tensor(1.0)
L, T = codebook(4, "even")
BAD = X.clone()
BAD[1, 2] = float("nan")
ERRORS: list[tuple[tuple[Any, ...], str]] = [
    ((BAD, S, L, T, None), r"x\[6\] is NaN"),
    ((BAD.t(), S, L, T, None), r"x\[6\] is NaN"),  # as it lies in memory
    ((X.half(), S, L, T, None), r"expected x of dtype torch\.float32"),
    ((X, S.double(), L, T, None), r"expected scale of dtype torch\.float32"),
    ((X, S * 0, L, T, None), "expected a scale in"),
    ((X, S * float("nan"), L, T, None), "expected a scale in"),
    ((X, torch.ones(2), L, T, None), "a scale of 1 element"),
    ((X, torch.ones(3), L, T, 1), r"expected scale \(4,\), got \(3,\)"),
    ((X, torch.ones(1, 4), L, T, 1), r"expected scale \(4,\)"),
    ((X, S, L, T, 2), r"expected an axis of \(3, 4\), got 2"),
    ((X, S, L, L, None), r"levels \(m,\) and thresholds \(m - 1,\)"),
    ((X, S, L[:0], T[:0], None), r"levels \(m,\)"),
    ((X, S, torch.arange(257.0), torch.arange(256.0), None), r"1 <= m <= 256"),
    ((X, S, L.flip(0), T, None), "levels in ascending order"),
    ((X, S, L, T * float("nan"), None), r"\|thresholds\[0\]\| <= 2\^24, got nan"),
    ((X, S, L, T * 1e9, None), r"\|thresholds"),
]


@pytest.mark.parametrize(("args", "rule"), ERRORS, ids=range(len(ERRORS)))
def test_rule(args: tuple[Any, ...], rule: str) -> None:
    for function in (op("fake_levels"), BODIES["fake_levels"]):
        with pytest.raises(RuntimeError, match=f"^fake_levels: .*({rule})"):
            function(*args)
    for function in (op("fake_levels_learned"), BODIES["fake_levels_learned"]):
        with pytest.raises(RuntimeError, match=f"^fake_levels_learned: .*({rule})"):
            function(*args, 1.0)


def test_rules_of_the_gradients() -> None:
    name = "fake_levels_learned_backward"
    for function in (op(name), BODIES[name]):
        with pytest.raises(RuntimeError, match=rf"^{name}: expected grad \(3, 4\), got \(4, 3\)"):
            function(X.t(), X, S, L, T, None, 1.0)
        with pytest.raises(RuntimeError, match=rf"^{name}: .*expected a finite grad_factor"):
            function(X, X, S, L, T, None, float("inf"))


def test_numpy_errors() -> None:
    with pytest.raises(ValueError, match=r"levels: x\[6\] is NaN"):
        ops.levels(BAD.numpy(), 1.0, L, T)
    with pytest.raises(ValueError, match="levels: expected levels in ascending order"):
        ops.levels(X.numpy(), 1.0, [1.0, 0.5], [0.7])
    with pytest.raises(ValueError, match="levels"):
        ops.levels(X.numpy(), 1.0, [0.0, 1.0], [0.2, 0.7])
    with pytest.raises(TypeError, match="levels"):
        ops.levels(X.double().numpy(), 1.0, L, T)
