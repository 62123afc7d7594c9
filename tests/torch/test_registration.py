"""Every op is a citizen of torch: opcheck, compile, autocast."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pyquant.graph.marks  # noqa: F401  registers an op
from pyquant.torch_ops import new_histogram, new_minmax

from .cases import grid, op

X, Y, WIDE = grid(0.05, 3), grid(0.1, -7), grid(0.001, 0, 16)


def leaf(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).requires_grad_()


LEARNED = (torch.full((4,), 0.05).requires_grad_(), torch.full((4,), 1.0).requires_grad_(), -1, -8, 7)
WITHOUT_GRADIENT = (LEARNED[0].detach(), LEARNED[1].detach(), *LEARNED[2:])


def calls() -> dict[str, tuple[Any, ...]]:
    return {
        "quantize": (leaf(3, 4), *X),
        "requantize": (leaf(3, 4), *X, *WIDE),
        "linear": (leaf(2, 3, 5), *X, leaf(4, 5), leaf(4), None, 8, 0, *Y),
        "attention": (
            *(leaf(2, 4, 3, 8), *X, leaf(2, 2, 5, 8), *X, leaf(2, 2, 5, 8), *X),
            *(leaf(4, 3, 5), True, 0.3, "table16", *Y),
        ),
        "layer_norm": (leaf(3, 7), *WIDE, leaf(7), leaf(7), 1e-5, False, "ivit(iterations=4)", None, *WIDE),
        "softmax": (leaf(3, 7), *WIDE, "table16", *WIDE),
        "unary": (leaf(3, 4), *X, "gelu", "table", *X),
        "add": (leaf(3, 4), *X, leaf(4), *X, *WIDE),
        "mark": (leaf(3, 4).detach(), 0, [leaf(4).detach()]),
        "mean": (leaf(3, 4, 5), *X, [1], False, *WIDE),
        "fake_quantize": (leaf(3, 4), *X[:2], None, *X[2:]),
        "fake_quantize_backward": (leaf(3, 4), torch.tensor([5, 200], dtype=torch.uint8)),
        "fake_quantize_learned": (leaf(3, 4), *LEARNED, 0.1),
        "fake_quantize_learned_backward": (leaf(3, 4).detach(), leaf(3, 4).detach(), *WITHOUT_GRADIENT, 0.1),
        "fake_quantize_stochastic": (leaf(3, 4), *X[:2], None, *X[2:], 5),
        "edge_backward": (leaf(3, 4), leaf(3, 4).detach(), *X),
        "lookup_backward": (leaf(3, 4), leaf(3, 4).detach(), *X, leaf(256).detach(), leaf(256).detach()),
        "edge_backward_learned": (leaf(3, 4), *(leaf(3, 4).detach(),) * 2, *X),
        "observe_minmax": (leaf(3, 4).detach(), *new_minmax((1, 4))),
        "observe_histogram": (leaf(3, 4).detach(), *new_histogram()),
    }


@pytest.mark.parametrize("name", calls())
def test_opcheck(name: str) -> None:
    results = torch.library.opcheck(op(name), calls()[name])
    assert set(results.values()) == {"SUCCESS"}


class EveryOp(nn.Module):
    """A block with each op once, observers included."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(12, 4, generator=generator))
        self.bias = nn.Parameter(torch.randn(12, generator=generator))
        self.gamma = nn.Parameter(torch.ones(4))
        for name, value in (
            ("scale", torch.tensor(0.05)),
            ("wide_scale", torch.tensor(0.001)),
            ("zero_point", torch.tensor(3, dtype=torch.int32)),
            *zip(("minimum", "maximum"), new_minmax(), strict=True),
            *zip(("counts", "meta"), new_histogram(), strict=True),
        ):
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        ops = torch.ops.pyquant
        byte = (self.scale, self.zero_point, -128, 127)
        wide = (self.wide_scale, self.zero_point, -32768, 32767)
        x = ops.quantize(x, *wide)
        ops.observe_minmax(x.detach(), self.minimum, self.maximum)
        ops.observe_histogram(x.detach(), self.counts, self.meta)
        layer = (self.gamma, None, 1e-5, False, "exact", None)
        y = ops.requantize(ops.layer_norm(x, *wide, *layer, *wide), *wide, *byte)
        y = ops.linear(y, *byte, self.weight, self.bias, None, 8, 0, *byte)
        q = ops.unary(y, *byte, "gelu", "ibert", *byte)
        q, k, v = q.unflatten(-1, (3, 2, 2)).permute(2, 0, 3, 1, 4).unbind(0)
        y = ops.attention(q, *byte, k, *byte, v, *byte, None, True, 0.7, "table16", *byte)
        y = ops.softmax(y.transpose(1, 2).flatten(2), *byte, "index", *byte)
        return ops.mean(ops.add(x, *wide, y, *byte, *wide), *wide, [1], False, *wide)


def test_compile_equals_eager_forward_and_backward() -> None:
    # aot_eager runs the traced forward and backward graphs: what a code generator is given
    x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(2))
    eager, other = EveryOp(), EveryOp()
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [eager(inputs[0]), compiled(inputs[1])]
    assert torch.equal(*outputs)
    for y in outputs:
        y.square().sum().backward()
    assert inputs[0].grad is not None
    assert torch.equal(inputs[0].grad, inputs[1].grad)
    assert inputs[0].grad.abs().sum() > 0
    for (name, mine), theirs in zip(eager.named_parameters(), other.parameters(), strict=True):
        assert mine.grad is not None, name
        assert mine.grad.abs().sum() > 0, name
        assert torch.equal(mine.grad, theirs.grad), name
    for mine_b, theirs_b in zip(eager.buffers(), other.buffers(), strict=True):
        assert torch.equal(mine_b, theirs_b)


def test_autocast_changes_nothing() -> None:
    for name, args in calls().items():
        if not any(torch.is_tensor(a) and a.requires_grad for a in args):
            continue
        results = []
        for enabled in (False, True):
            fresh = [
                a.detach().clone().requires_grad_(a.requires_grad) if torch.is_tensor(a) else a for a in args
            ]
            leaves = [a for a in fresh if torch.is_tensor(a) and a.requires_grad]
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                result = op(name)(*fresh)
                ys = result if isinstance(result, tuple) else (result,)
                total = torch.stack([y.sum().float() for y in ys if y.requires_grad]).sum()
                results.append([*ys, *torch.autograd.grad(total, leaves)])
        for plain, cast in zip(*results, strict=True):
            assert cast.dtype == plain.dtype != torch.bfloat16, name
            assert torch.equal(plain, cast), name


def test_observers_ignore_gradients() -> None:
    x = leaf(3, 4)
    minimum, maximum = new_minmax()
    op("observe_minmax")(x, minimum, maximum)
    assert not minimum.requires_grad
    assert float(minimum) == float(x.detach().min())
    assert float(maximum) == float(x.detach().max())
