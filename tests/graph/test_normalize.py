"""Each pass on a small graph: the float function stays what it was, and the normal form is reached."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyquant as pq
from pyquant.graph.aten import base_of, kind_of
from pyquant.graph.capture import Captured, capture
from pyquant.graph.normalize import PASSES, normalize
from pyquant.graph.normalize.attention import fuse_attention
from pyquant.graph.normalize.batch_norm import fold_batch_norm
from pyquant.graph.normalize.causal import write_out_causal
from pyquant.graph.normalize.constants import drop_open_masks, fold_constants, fold_repeated
from pyquant.graph.normalize.einsum import einsum_to_matmul
from pyquant.graph.normalize.elementwise import unify_elementwise
from pyquant.graph.normalize.patches import patches_to_linear
from pyquant.graph.normalize.qkv import split_qkv
from pyquant.graph.normalize.repeated import repeat_last
from pyquant.graph.normalize.simplify import simplify
from tests.graph.models import INTEGER_MODELS, SDPA, batch_for, seeded

Function = Callable[..., Tensor]


class Call(nn.Module):
    """A function as a model, with parameters that it may use."""

    def __init__(self, function: Function, **tensors: Tensor) -> None:
        super().__init__()
        self.function = function
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parameters())


def run(captured: Captured, x: Tensor) -> Tensor:
    return torch.fx.GraphModule(captured.root, captured.graph)(x)[0]


def kinds(captured: Captured) -> list[str]:
    return [kind_of(n) for n in captured.graph.nodes if n.op == "call_function" and kind_of(n) != "sym_size"]


def passed(model: nn.Module, x: Tensor, *passes: Callable[[Captured], None]) -> Captured:
    """Capture, check, run passes, check again at another batch size."""
    model.eval()
    captured = capture(model, (x,))
    for each in passes:
        each(captured)
        captured.graph.eliminate_dead_code(lambda node: node.op in {"placeholder", "output"})
    captured.graph.lint()
    for batch in (x, torch.cat([x, -x, x + 1])):
        with torch.no_grad():
            torch.testing.assert_close(run(captured, batch), model(batch), rtol=1e-4, atol=1e-5)
    return captured


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x * torch.sigmoid(x), "silu"),
        (lambda x: torch.sigmoid(1.702 * x) * x, "quick_gelu"),
        (
            lambda x: (
                0.5 * x * (1.0 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))
            ),
            "gelu",
        ),
        (lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))), "gelu"),
        (lambda x: x * F.relu6(x + 3) / 6, "hardswish"),
        (lambda x: F.relu6(x + 3) / 6, "hardsigmoid"),
        (lambda x: x.clamp(min=0), "relu"),
        (lambda x: F.hardtanh(x, 0.0, 6.0), "relu6"),
        (lambda x: x * torch.tanh(F.softplus(x)), "mish"),
        (lambda x: 1 / (1 + torch.exp(-x)), "sigmoid"),
    ],
)
def test_written_out_functions(function: Function, name: str) -> None:
    assert kinds(passed(Call(function), torch.randn(2, 5) * 3, unify_elementwise)) == [name]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * torch.sigmoid(1.6 * x),
        lambda x: x.clamp(min=0.1),
        lambda x: F.hardtanh(x, -1.0, 6.0),
        lambda x: x * torch.sigmoid(x.roll(1, 1)),
    ],
)
def test_other_functions_stay(function: Function) -> None:
    x = torch.randn(2, 5)
    assert kinds(passed(Call(function), x, unify_elementwise)) == kinds(capture(Call(function), (x,)))


@pytest.mark.parametrize(
    ("equation", "left", "right"),
    [
        ("bhid,bhjd->bhij", (2, 3, 4, 5), (2, 3, 6, 5)),
        ("bihd,bjhd->bhij", (2, 4, 3, 5), (2, 6, 3, 5)),
        ("bhij,bhjd->bihd", (2, 3, 4, 5), (2, 3, 5, 6)),
        ("bij,jk->bik", (2, 3, 4), (4, 5)),
        ("bi,hdi->bhd", (2, 4), (3, 5, 4)),
        ("bhid,hde->bhie", (2, 3, 4, 5), (3, 5, 6)),
        ("...d,de->...e", (2, 3, 4), (4, 5)),
        ("bhwc,c->bhw", (2, 3, 4, 5), (5,)),
        ("bixy,bjxy->bij", (2, 3, 4, 5), (2, 6, 4, 5)),
    ],
)
def test_einsum(equation: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    if right[0] == left[0] and equation.split(",")[1].startswith("b"):
        model = Call(lambda x: torch.einsum(equation, x, other_like(x, right)))
    else:
        model = Call(lambda x, w: torch.einsum(equation, x, w), w=torch.randn(right))
    found = kinds(passed(model, torch.randn(left), einsum_to_matmul))
    assert "matmul" in found
    assert "einsum" not in found


def other_like(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A second operand of the same batch, made from the first."""
    flat = x.flatten(1).mean(1).reshape(-1, *[1] * (len(shape) - 1))
    return flat * torch.arange(math.prod(shape[1:]), dtype=torch.float32).reshape(1, *shape[1:]).sin()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.einsum("bij->b", x),
        lambda x: torch.einsum("bii->bi", x),
        lambda x: torch.einsum("bij,bij->bij", x, x),
    ],
)
def test_other_einsums_stay(function: Function) -> None:
    assert "matmul" not in kinds(passed(Call(function), torch.randn(2, 3, 3), einsum_to_matmul))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.clone().contiguous() + 0.0, []),
        (lambda x: x[:, :, :] * 1.0, []),
        (lambda x: torch.stack([x, x], 1), ["unsqueeze", "unsqueeze", "cat"]),
        (lambda x: F.adaptive_avg_pool2d(x, 1), ["mean"]),
        (lambda x: F.adaptive_avg_pool1d(x[:, 0], 1), ["select", "mean"]),
        (lambda x: F.avg_pool2d(x, 4), ["mean"]),
        (lambda x: F.avg_pool2d(x, 2), ["avg_pool2d"]),
        (lambda x, w: x @ w, ["t", "linear"]),
    ],
)
def test_simplify(function: Function, expected: list[str]) -> None:
    model = Call(function, w=torch.randn(4, 3)) if function.__code__.co_argcount == 2 else Call(function)
    assert kinds(passed(model, torch.randn(2, 3, 4, 4), simplify)) == expected


@pytest.mark.parametrize(
    "first", [nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 2, groups=1)]
)
def test_batch_norm(first: nn.Module) -> None:
    model = seeded(lambda: nn.Sequential(first, nn.BatchNorm2d(4)))
    captured = passed(model, torch.randn(2, 3, 6, 6), fold_batch_norm)
    assert "_native_batch_norm_legit_no_training" not in kinds(captured)
    assert captured.removed == [("1", "batch norm, folded into the weights")]


def test_batch_norm_after_linear_and_alone() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    assert "_native_batch_norm_legit_no_training" not in kinds(
        passed(model, torch.randn(2, 3), fold_batch_norm)
    )
    alone = seeded(lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3)))
    assert "_native_batch_norm_legit_no_training" in kinds(passed(alone, torch.randn(2, 3), fold_batch_norm))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 5, 4, 4),
        nn.Conv2d(3, 5, (2, 4), (2, 4), bias=False),
        nn.Conv2d(3, 5, 1),
    ],
)
def test_patches(layer: nn.Module) -> None:
    found = kinds(passed(layer, torch.randn(2, 3, 8, 8), patches_to_linear))
    assert "linear" in found
    assert "conv2d" not in found


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 5, 3, 3),
        nn.Conv2d(3, 5, 2, 1),
        nn.Conv2d(3, 3, 2, 2, groups=3),
        nn.Conv2d(3, 5, 2, 2, padding=1),
        nn.Conv2d(3, 5, 2, 2, dilation=2),
        nn.Conv2d(3, 5, 1, 2),
    ],
)
def test_overlapping_windows_stay(layer: nn.Module) -> None:
    assert kinds(passed(layer, torch.randn(2, 3, 8, 8), patches_to_linear)) == ["conv2d"]


def test_constants() -> None:
    """What depends on no input becomes one buffer; what depends on the batch size only, one sample of it."""
    fixed = passed(Call(lambda x: x + torch.arange(4).float().cos()), torch.randn(2, 4), fold_constants)
    assert kinds(fixed) == ["add"]
    repeated = passed(
        Call(lambda x: x + torch.arange(4).expand(x.shape[0], 4).float().cos()),
        torch.randn(2, 4),
        fold_constants,
        fold_repeated,
    )
    assert kinds(repeated) == ["expand", "add"]
    counted = passed(
        Call(lambda x: x + torch.full((x.shape[0], 4), 1.0).cumsum(0)),
        torch.randn(2, 4),
        fold_constants,
        fold_repeated,
    )
    assert "cumsum" in kinds(counted)


def attention(mask: Function | None = None) -> nn.Module:
    return Call(
        lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=None if mask is None else mask(x))
    )


@pytest.mark.parametrize(
    ("mask", "kept"),
    [
        (lambda x: torch.ones(3, 3, dtype=torch.bool), False),
        (lambda x: torch.zeros(3, 3), False),
        (lambda x: torch.ones(1, 1, 3, 3, dtype=torch.bool).expand(x.shape[0], 1, 3, 3), False),
        (lambda x: torch.ones(3, 3, dtype=torch.bool).tril(), True),
        (lambda x: torch.ones(1, 1, 3, 3).tril().expand(x.shape[0], 1, 3, 3), True),
    ],
)
def test_masks(mask: Function, kept: bool) -> None:
    captured = passed(
        attention(mask), torch.randn(2, 2, 3, 4), simplify, fold_constants, fold_repeated, drop_open_masks
    )
    (node,) = [n for n in captured.graph.nodes if kind_of(n) == "scaled_dot_product_attention"]
    assert (node.args[3] is not None) == kept
    assert not kept or base_of(node.args[3]).op == "get_attr"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.softmax(x @ x.mT, -1) @ x,
        lambda x: torch.softmax(x @ x.mT / 2, -1) @ x,
        lambda x: torch.softmax((x * 0.5) @ (x.mT * 0.5), -1) @ x,
        lambda x: torch.softmax((x @ x.mT).mT * 3, -1) @ x,
        lambda x: torch.softmax(x @ x.mT + torch.linspace(-1, 1, 9).view(3, 3), -1) @ x,
        lambda x: torch.softmax((x @ x.mT).masked_fill(torch.ones(3, 3).triu(1) > 0, float("-inf")), -1) @ x,
        lambda x: (
            torch.softmax((torch.ones(3, 3).tril() + x @ x.mT * 2).masked_fill(torch.eye(3) > 0, -1e9), -1)
            @ x
        ),
        lambda x: torch.softmax(torch.where(torch.ones(3, 3).tril() > 0, x @ x.mT, float("-inf")), -1) @ x,
    ],
)
def test_written_attention(function: Function) -> None:
    found = kinds(passed(Call(function), torch.randn(2, 2, 3, 4), simplify, fold_constants, fuse_attention))
    assert "scaled_dot_product_attention" in found
    assert "softmax" not in found


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.softmax(x @ x.mT, -2) @ x,
        lambda x: torch.softmax(x @ x.mT * -1, -1) @ x,
        lambda x: torch.softmax((x @ x.mT).masked_fill(torch.eye(3) > 0, 0.0), -1) @ x,
        lambda x: torch.softmax((x @ x.mT + torch.ones(3, 3).tril()) * 2, -1) @ x,
        lambda x: x @ torch.softmax(x.mT @ x, -1),
    ],
)
def test_what_is_no_attention_stays(function: Function) -> None:
    found = kinds(passed(Call(function), torch.randn(2, 2, 3, 4), simplify, fold_constants, fuse_attention))
    assert "softmax" in found


class Query(nn.Module):
    """A learned query for each sample, projected; tokens first if `turned`."""

    def __init__(self, turned: bool, shape: tuple[int, ...] = (1, 3, 8)) -> None:
        super().__init__()
        self.turned = turned
        self.query, self.q = nn.Parameter(torch.randn(shape)), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        query = self.query.expand(x.shape[0], 3, 8)
        query = self.q(query.transpose(0, 1)).transpose(0, 1) if self.turned else self.q(query)
        return torch.cat([query, x.reshape(-1, 5, 8)], dim=1)


@pytest.mark.parametrize("turned", [False, True])
def test_a_repeated_parameter_is_projected_once(turned: bool) -> None:
    x = torch.randn(4, 5, 8)
    captured = passed(seeded(lambda: Query(turned)), x, simplify, repeat_last)
    linear = next(n for n in captured.graph.nodes if kind_of(n) == "linear")
    assert linear.meta["val"].numel() == 3 * 8
    assert kinds(captured).index("linear") < kinds(captured).index("expand")
    prepared = pq.quantize(seeded(lambda: Query(turned)), [x], strict=True, progress=False)
    engine = pq.convert(prepared)
    for batch in (1, 3):
        assert pq.compare(prepared, engine, x[:batch]).identical


def test_what_is_repeated_within_a_sample_too_stays() -> None:
    captured = passed(seeded(lambda: Query(False, (1, 1, 8))), torch.randn(4, 5, 8), simplify, repeat_last)
    assert kinds(captured).index("expand") < kinds(captured).index("linear")


def test_split_qkv() -> None:
    model = seeded(SDPA)
    captured = passed(model, torch.randn(2, 5, 24), *PASSES[:-1], split_qkv)
    assert kinds(captured).count("linear") == 4
    assert sorted(n.meta["pq_kind"] for n in captured.graph.nodes if "pq_kind" in n.meta) == ["k", "q", "v"]


@pytest.mark.parametrize("name", ["vit", "encoder_post_sequence", "bmm", "einsum_tokens", "tied_head"])
def test_all_passes(name: str) -> None:
    """Twice the same: normal form is a fixed point."""
    model = seeded(INTEGER_MODELS[name])
    captured = normalize(capture(model, (batch_for(name, 2),)))
    x = batch_for(name, 3, seed=4)
    with torch.no_grad():
        expected = model(x)
        expected = expected if isinstance(expected, Tensor) else expected[0]
        torch.testing.assert_close(run(captured, x), expected, rtol=1e-4, atol=1e-5)
    before = kinds(captured)
    assert kinds(normalize(captured)) == before


@pytest.mark.parametrize("queries", [3, 10])
def test_causal_with_fewer_queries_than_keys(queries: int) -> None:
    """torch counts its triangle from the first key; the mask says so wherever the lengths differ."""

    def attend(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x[:, :, :queries], x, x, is_causal=True)

    x = torch.randn(2, 2, 10, 8)
    captured = passed(Call(attend), x, simplify, write_out_causal)
    node = next(n for n in captured.graph.nodes if kind_of(n) == "scaled_dot_product_attention")
    assert (len(node.args) > 3 and node.args[3] is not None) == (queries != 10)
    prepared = pq.quantize(Call(attend), [torch.cat([x] * 4)], progress=False)
    engine = pq.convert(prepared)
    with torch.no_grad():
        expected = attend(x)
        simulated = prepared(x)
    assert (engine(x) == simulated.numpy()).all()
    assert 20 * torch.log10(expected.norm() / (expected - simulated).norm()) > 30
