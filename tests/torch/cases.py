"""Random and extreme calls of every op: the arguments, in schema order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

from pyquant.methods import methods
from pyquant.numerics import unary_functions
from pyquant.torch_ops import (
    FUNCTIONS,
    add,
    attention,
    layer_norm,
    linear,
    mean,
    quantize,
    requantize,
    softmax_rows,
    unary,
)

BODIES: dict[str, Callable[..., Tensor]] = {
    "quantize": quantize.body,
    "requantize": requantize.body,
    "linear": linear.body,
    "attention": attention.body,
    "layer_norm": layer_norm.body,
    "softmax": softmax_rows.body,
    "unary": unary.body,
    "add": add.body,
    "mean": mean.body,
}

Args = tuple[Any, ...]


def grid(scale: float, zero_point: int = 0, bits: int = 8) -> tuple[Tensor, Tensor, int, int]:
    """A grid argument over the whole type."""
    limit = 2 ** (bits - 1)
    return torch.tensor(scale), torch.tensor(zero_point, dtype=torch.int32), -limit, limit - 1


def op(name: str) -> Any:
    """The registered op."""
    return getattr(torch.ops.pyquant, name).default


def edge(generator: torch.Generator, shape: tuple[int, ...], to: tuple[Any, ...]) -> Tensor:
    """Random values on a grid, its ends included."""
    scale, zero_point, low, high = to
    q = torch.randint(low, high + 1, shape, generator=generator)
    return ((q - int(zero_point)).float() * scale).float()


def wild(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """Floats off any grid: small, large, infinite, subnormal, zeros of both signs, ties."""
    x = torch.randn(shape, generator=generator) * torch.exp(4 * torch.randn(shape, generator=generator))
    special = torch.tensor(
        [0.0, -0.0, float("inf"), -float("inf"), 1e-42, -1e-42, 0.025, 0.075, -0.125, 3.4e38, -3.4e38]
    )
    flat = x.reshape(-1)
    count = min(len(special), flat.numel() // 2)
    flat[:count] = special[:count]
    return flat.reshape(shape)


def cases(name: str, seed: int = 0) -> Iterator[Args]:
    """Every shape, layout and option of one op that takes a different way through the code."""
    yield from _CASES[name](torch.Generator().manual_seed(seed))


def _elementwise_inputs(g: torch.Generator) -> Iterator[Tensor]:
    for shape in ((), (1,), (0,), (3, 0, 2), (7,), (5, 33), (2, 3, 4, 5), (4099,)):
        yield wild(g, shape)
    yield wild(g, (6, 8)).t()
    yield wild(g, (6, 8))[:, ::2]
    yield wild(g, (1, 8)).expand(3, 8)


def _quantize(g: torch.Generator) -> Iterator[Args]:
    for x in _elementwise_inputs(g):
        for to in (grid(0.05), grid(0.05, -128), grid(0.3, 127), grid(1e-4, -5, 16), grid(2.0**-100)):
            yield (x, *to)
        yield (x, *grid(0.1)[:2], -7, 7)
        yield (x, *grid(2.0**100))


def _requantize(g: torch.Generator) -> Iterator[Args]:
    for x in _elementwise_inputs(g):
        yield (x, *grid(0.05, 3), *grid(0.11, -7))
        yield (x, *grid(0.001, 0, 16), *grid(0.05, 9))
        yield (x, *grid(0.05, 9), *grid(0.0003, -1000, 16))
        yield (x, *grid(1e-4, -32768, 16), *grid(1e-4, 32767, 16))
        yield (x, *grid(2.0**-100), *grid(2.0**100))  # a multiplier too small for the encoding


def _unary(g: torch.Generator) -> Iterator[Args]:
    for function in FUNCTIONS:
        x_grid = grid(0.03, 5)
        for method in methods("unary"):
            if function in unary_functions(method):
                yield (edge(g, (3, 257), x_grid), *x_grid, function, method, *grid(0.04, -20))
    for x in _elementwise_inputs(g):
        yield (x, *grid(0.05, -3), "gelu", "table", *grid(0.02, -100))
        yield (x, *grid(0.05, -3), "gelu", "ivit(bits=16)", *grid(0.02, -100))


def _linear(g: torch.Generator) -> Iterator[Args]:
    x_grid = grid(0.05, 3)
    for shape, n in (
        ((2, 3, 20), 9),
        ((17,), 4),
        ((1, 1), 1),
        ((0, 5), 3),
        ((4, 5), 0),
        ((5, 0), 3),
        ((65, 130), 70),
    ):
        w = torch.randn(n, shape[-1], generator=g)
        b = torch.randn(n, generator=g)
        x = edge(g, shape, x_grid)
        yield (x, *x_grid, w, b, None, 8, 0, *grid(0.4, -11))
        yield (x, *x_grid, w, None, None, 4, 0, *grid(0.0005, 100, 16))
        yield (x, *x_grid, w, b, None, 4, 16, *grid(0.4, -11))
        yield (x, *x_grid, w * torch.rand(shape[-1], generator=g), None, None, 3, 8, *grid(0.4))
    x, w = edge(g, (12, 10, 6), x_grid), torch.randn(7, 6, generator=g)
    given = torch.rand(7, generator=g) * 0.02 + 0.001
    strong = torch.randn(7, generator=g) * 1e8  # biases that decide the scale of a channel
    strong[::2] = 0
    yield (x, *x_grid, w, strong, None, 8, 0, *grid(1e6, 0, 16))
    yield (x, *x_grid, w, strong, given, 3, 0, *grid(1e6, 0, 16))
    yield (x, *x_grid, w, None, given, 8, 0, *grid(0.2))
    yield (x, *x_grid, torch.zeros(7, 6), torch.zeros(7), None, 8, 0, *grid(0.2, 4))
    yield (x.transpose(0, 1), *x_grid, torch.randn(6, 7, generator=g).t(), None, None, 8, 0, *grid(0.2))
    yield (x, *x_grid, w * 1e-30, None, None, 8, 0, *grid(0.2))
    own = torch.rand(7, 2, generator=g) * 0.02 + 0.001
    yield (x, *x_grid, w, strong, own, 4, 4, *grid(1e6, 0, 16))
    yield (x, *x_grid, w, None, own, 2, 4, *grid(0.2))
    yield (x, *x_grid, torch.zeros(7, 6), torch.zeros(7), None, 4, 4, *grid(0.2, 4))
    full = torch.full((3, 64), 127 * 0.05)
    yield (full, *grid(0.05, -128), torch.ones(5, 64), None, None, 8, 0, *grid(0.1, 0, 16))


def _attention(g: torch.Generator) -> Iterator[Args]:
    q_grid, k_grid, v_grid = grid(0.06, 4), grid(0.05, -9), grid(0.04, 17)

    def call(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, method: str = "table16"
    ) -> Args:
        scale = max(q.shape[-1], 1) ** -0.5
        return (q, *q_grid, k, *k_grid, v, *v_grid, mask, causal, scale, method, *grid(0.02, -6))

    def qkv(shape: tuple[int, ...], kv_heads: int, s: int) -> tuple[Tensor, Tensor, Tensor]:
        kv = (*shape[:-3], kv_heads, s, shape[-1])
        return edge(g, shape, q_grid), edge(g, kv, k_grid), edge(g, kv, v_grid)

    for number, method in enumerate(
        [*methods("softmax"), "ivit(bits=8,step=0.19)", "index(bits=7,clip=8.5)"]
    ):
        q, k, v = qkv((1, 2, 40, 64), 1, 130)
        yield call(q, k, v, None, number % 2 == 0, method)
        keep = torch.rand((1, 2, 40, 130), generator=g) > 0.6
        keep[..., :1, :] = False
        yield call(q, k, v, keep, False, method)

    for shape, kv_heads, s in (
        ((2, 3, 5, 8), 3, 5),
        ((3, 7, 16), 3, 9),
        ((1, 4, 1, 1), 2, 1),
        ((2, 2, 6, 3, 5), 2, 33),
        ((2, 3, 0, 8), 3, 5),
        ((2, 3, 5, 8), 3, 0),
        ((0, 3, 5, 8), 3, 5),
        ((1, 2, 70, 64), 1, 130),
    ):
        q, k, v = qkv(shape, kv_heads, s)
        full = (*shape[:-1], s)
        yield call(q, k, v, None, False)
        yield call(q, k, v, None, True, "table8")
        keep = torch.rand(full, generator=g) > 0.4
        keep[..., :1, :] = False  # rows without any key
        yield call(q, k, v, keep, False)
        yield call(q, k, v, keep[..., :1, :, :], True)
        additive = 3 * torch.randn(full, generator=g)
        additive = torch.where(torch.rand(full, generator=g) > 0.8, -torch.inf, additive)
        yield call(q, k, v, additive, False)
        yield call(q, k, v, additive[..., :1, :], True)
        yield call(q, k, v, torch.full((s,), torch.finfo(torch.float32).min), False)
        yield call(q, k, v, torch.zeros(shape[-2], s), False)
        yield call(q, k, v, torch.full((1, s), 1e30), False)
    # how models lay q, k and v out: transposed views, slices of one tensor, shared keys
    fused = edge(g, (2, 6, 3, 4, 8), q_grid)
    q, k, v = (fused[:, :, i].transpose(1, 2) for i in range(3))
    yield call(q, k, v, None, False)
    q = edge(g, (2, 6, 4, 8), q_grid).transpose(1, 2)
    yield call(q, k.contiguous(), v[:1].expand(2, 4, 6, 8), None, False)
    yield call(q.transpose(-1, -2), k.mT, v.mT, None, False)
    windows = edge(g, (3, 5, 2, 4, 8), q_grid)  # a batch of windows, one mask a window
    yield call(windows, windows, windows, torch.randn(5, 1, 4, 4, generator=g), False)
    yield call(windows, windows, windows, torch.rand(5, 1, 4, 4, generator=g) > 0.3, False)
    yield call(windows, windows, windows, torch.randn(3, 1, 1, 4, 4, generator=g), False)
    extreme = torch.full((1, 2, 3, 8), -128.0) * 0.06
    yield call(extreme, -extreme, extreme, None, False)
    tiny = (extreme, *grid(2.0**-60), extreme, *grid(2.0**-60), extreme, *grid(0.1))
    yield (*tiny, None, False, 1.0, "table16", *grid(0.1))  # every score difference rounds to nothing


def _norm_inputs(g: torch.Generator) -> Iterator[Args]:
    """(x, its grid, weight, bias, eps, y's grid)"""
    for shape in ((4, 33), (2, 3, 64), (1,), (0, 5), (3, 1), (5, 384)):
        channels = shape[-1]
        w, b = torch.randn(channels, generator=g), torch.randn(channels, generator=g)
        for x_grid in (grid(0.05, 7), grid(0.0007, -300, 16), grid(1.0, -32768, 16)):
            x = edge(g, shape, x_grid)
            yield x, x_grid, w, b, 1e-5, grid(0.03, -4)
            yield x, x_grid, None, None, 1e-12, grid(0.0003, 0, 16)
            yield x, x_grid, w, None, 0.0, grid(0.03, 3)
    x_grid = grid(0.001, 0, 16)
    constant = torch.full((2, 48), 0.75)
    yield constant, x_grid, None, None, 1e-6, grid(0.001, 0, 16)
    yield torch.zeros(2, 48), x_grid, None, torch.ones(48), 0.0, grid(0.001, 0, 16)
    one_hot = torch.zeros(3, 1000)
    one_hot[:, 5] = 32.0
    yield one_hot, x_grid, None, None, 1e-6, grid(0.001, 0, 16)
    yield edge(g, (6, 4), x_grid).t(), x_grid, torch.full((6,), 1e3), None, 1e-6, grid(0.1)
    wide = torch.where(torch.rand(2, 32767, generator=g) > 0.5, 32.767, -32.768)
    yield wide, x_grid, None, None, 1e-6, grid(0.0001, 0, 16)


NORM_METHODS = ("exact", "ibert", "ivit", "ivit(iterations=1)", "ivit(iterations=4)", "ivit_published", "ptf")


def _layer_norm(g: torch.Generator) -> Iterator[Args]:
    for rms, method in product((False, True), NORM_METHODS):
        for x, x_grid, w, b, eps, y_grid in _norm_inputs(g):
            x_range = None
            if method == "ptf":
                channels = x.shape[-1]
                sizes = torch.rand(2, channels, generator=g) * torch.tensor([[-20.0], [20.0]])
                x_range = sizes / torch.randint(1, 9, (channels,), generator=g)
            yield (x, *x_grid, w, b, eps, rms, method, x_range, *y_grid)


def _softmax(g: torch.Generator) -> Iterator[Args]:
    byte, wide = grid(1 / 255, -128), grid(1 / 32767, 0, 16)
    for method in [*methods("softmax"), "ivit(bits=8,step=0.19)", "index(bits=7,clip=8.5)"]:
        for shape in ((4, 33), (2, 3, 197), (1,), (3, 1)):
            for x_grid in (grid(0.07, 7), grid(0.0003, -300, 16)):
                x = edge(g, shape, x_grid)
                yield (x, *x_grid, method, *byte)
                yield (x, *x_grid, method, *wide)
    for x in _elementwise_inputs(g):
        if x.dim() > 0:
            yield (x, *grid(0.05, -3), "table16", *grid(1 / 65535, -32768, 16))
            yield (x, *grid(0.0001, 0, 16), "table8", *grid(0.004, 5))
    alike = torch.full((2, 48), 0.75)
    yield (alike, *grid(0.001, 0, 16), "sole", *wide)
    yield (alike, *grid(2.0**-60), "table16", *byte)  # every difference rounds to nothing
    yield (edge(g, (6, 40), grid(1.0)).t(), *grid(1.0), "ibert", *grid(1.0))
    yield (edge(g, (6, 40), grid(1.0)), *grid(1.0), "index", *grid(2.0**-27, 0, 16))  # finer than any row


def _add(g: torch.Generator) -> Iterator[Args]:
    a_grid, b_grid = grid(0.05, 3), grid(0.0007, -100, 16)
    for a_shape, b_shape in (
        ((2, 3, 4), (2, 3, 4)),
        ((2, 3, 4), (4,)),
        ((2, 3, 4), (1, 3, 4)),
        ((3, 4), (2, 3, 4)),
        ((2, 1, 4), (1, 3, 1)),
        ((2, 3, 1), (4,)),
        ((), (5,)),
        ((5,), (1, 1)),
        ((0, 3), (3,)),
        ((), ()),
        ((3, 700), (700,)),
    ):
        a, b = edge(g, a_shape, a_grid), edge(g, b_shape, b_grid)
        yield (a, *a_grid, b, *b_grid, *grid(0.001, 50, 16))
        yield (b, *b_grid, a, *a_grid, *grid(0.04, -2))
        yield (a, *a_grid, b, *a_grid, *grid(0.1))
    a, b = wild(g, (8, 6)).t(), wild(g, (6, 8))
    yield (a, *grid(2.0**-100), b, *grid(1.0), *grid(1.0, 0, 16))
    yield (a, *a_grid, b[:, :1].expand(6, 8), *b_grid, *grid(0.02))


def _mean(g: torch.Generator) -> Iterator[Args]:
    x_grid = grid(0.001, 77, 16)
    for shape, dims in (
        ((2, 5, 7), ([1], [-1], [0], [0, 1], [2, 0], [0, 1, 2], [])),
        ((2, 3, 4, 5), ([2, 3], [1], [0, 2], [-1, -3])),
        ((4,), ([0],)),
        ((), ([],)),
        ((0, 3), ([1],)),
        ((2, 197, 6), ([1],)),
    ):
        x = edge(g, shape, x_grid)
        for dim in dims:
            yield (x, *x_grid, dim, False, *grid(0.0005, -9, 16))
            yield (x, *x_grid, dim, True, *grid(0.02, 5))
    yield (edge(g, (5, 4, 6), grid(0.1)).permute(2, 0, 1), *grid(0.1), [1], False, *grid(0.05))


_CASES: dict[str, Callable[[torch.Generator], Iterator[Args]]] = {
    "quantize": _quantize,
    "requantize": _requantize,
    "unary": _unary,
    "linear": _linear,
    "attention": _attention,
    "layer_norm": _layer_norm,
    "softmax": _softmax,
    "add": _add,
    "mean": _mean,
}
