"""Fake-quantization in torch, per element: a pass over memory beside torch's own ops."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.workload import Peer, Row, Settings, rows_by_size
from pyquant.quantizers import codebooks
from pyquant.torch_ops import edge, fake, levels

__all__ = ["TITLE", "rows"]

TITLE = "Fake-quantization to 8 bits in torch, forward and backward (named channels x elements)"

CHANNELS = 512
SIZES = (256, 16_384)  # 0.5 MB, in cache, and 32 MB
TINY = (40,)
SCALE, ZERO_POINT, LOW, HIGH = 4 / 127, 3, -128, 127

_pyquant: Any = torch.ops.pyquant  # ops have no annotations


def rows(settings: Settings) -> dict[str, Callable[[], Row]]:
    """Forward, straight-through and learned passes, and the gradient behind an edge."""
    return rows_by_size(settings, OPS, CHANNELS, TINY if settings.tiny else SIZES)


def normal(size: int, seed: int) -> Tensor:
    """Of one standard deviation: a few elements in ten thousand are clipped."""
    return torch.randn((CHANNELS, size), generator=torch.Generator().manual_seed(seed))


def grid(axis: int | None) -> tuple[Any, ...]:
    """scale, zero point, axis and range."""
    shape = () if axis is None else (CHANNELS,)
    scale, zero = torch.full(shape, SCALE), torch.full(shape, ZERO_POINT, dtype=torch.int32)
    return scale, zero, axis, LOW, HIGH


def start(
    settings: Settings,
    name: str,
    run: Callable[[], tuple[Tensor, ...]],
    definition: Callable[[], tuple[Tensor, ...]],
    operands: int,
) -> Row:
    """A row whose results are those of the pure-torch bodies, which define them."""
    got, want = run(), definition()
    expected = want[0].detach().numpy()
    traffic = expected.nbytes * operands
    made = Row(name, settings, expected.size, "element", traffic, "copy", expected)
    for index, (mine, theirs) in enumerate(zip(got, want, strict=True)):
        made.equal(mine.detach().numpy(), theirs.detach().numpy(), f"result {index}")
    made.ours(run, result=got[0].detach().numpy())
    return made


def peer(run: Callable[[], Tensor]) -> Peer:
    """A peer in torch."""
    last: list[Any] = [None]

    def call() -> None:
        last[0] = run()

    def result() -> NDArray[Any]:
        return np.asarray(last[0].detach().numpy())

    return Peer(call, result, "eager")


def forward(settings: Settings, name: str, size: int, axis: int | None) -> Row:
    """With the mask that the backward pass needs, as torch makes one."""
    x, args = normal(size, 0), grid(axis)
    made = start(
        settings, name, lambda: _pyquant.fake_quantize(x, *args), lambda: fake.body(x, *args), operands=2
    )

    def theirs() -> Tensor:
        if axis is None:
            return torch.fake_quantize_per_tensor_affine(x, SCALE, ZERO_POINT, LOW, HIGH)
        return torch.fake_quantize_per_channel_affine(x, args[0], args[1], axis, LOW, HIGH)

    made.peer("torch float32", lambda: peer(theirs))
    return made


def backward(settings: Settings, name: str, size: int) -> Row:
    """From the packed mask; torch keeps a byte for each element."""
    g, mask = normal(size, 1), _pyquant.fake_quantize(normal(size, 0), *grid(None))[1]
    made = start(
        settings,
        name,
        lambda: (_pyquant.fake_quantize_backward(g, mask),),
        lambda: (fake.apply_body(g, mask),),
        operands=2,
    )
    x = normal(size, 0).requires_grad_()
    with torch.enable_grad():
        y = torch.fake_quantize_per_tensor_affine(x, SCALE, ZERO_POINT, LOW, HIGH)
    made.peer("torch float32", lambda: peer(lambda: torch.autograd.grad(y, x, g, retain_graph=True)[0]))
    return made


def learned(settings: Settings, name: str, size: int, axis: int | None) -> Row:
    """Forward and backward by autograd, with gradients of x, scale and zero point."""
    g = normal(size, 1)
    x, scale, zero = (v.float().requires_grad_() for v in (normal(size, 0), *grid(axis)[:2]))

    @torch.enable_grad()
    def ours() -> tuple[Tensor, ...]:
        y = _pyquant.fake_quantize_learned(x, scale, zero, axis, LOW, HIGH, 1.0)
        return torch.autograd.grad(y, (x, scale, zero), g)

    def definition() -> tuple[Tensor, ...]:
        operands = (x.detach(), scale.detach(), zero.detach())
        return fake.learned_backward_body(g, *operands, axis, LOW, HIGH, 1.0)

    made = start(settings, name, ours, definition, operands=5)
    shape = (1,) if axis is None else (CHANNELS,)
    s, z = (v.detach().reshape(shape).requires_grad_() for v in (scale, zero))

    @torch.enable_grad()
    def theirs() -> Tensor:
        if axis is None:
            y = torch._fake_quantize_learnable_per_tensor_affine(x, s, z, LOW, HIGH, 1.0)
        else:
            y = torch._fake_quantize_learnable_per_channel_affine(x, s, z, axis, LOW, HIGH, 1.0)
        return torch.autograd.grad(y, (x, s, z), g)[0]

    made.peer("torch float32", lambda: peer(theirs))
    return made


def behind_edge(settings: Settings, name: str, size: int) -> Row:
    """The gradient of an op of a learned grid; the peer is the same formula in torch."""
    g, real = normal(size, 1), normal(size, 0)
    scale, zero, _, *ends = grid(None)
    args = (scale, zero, *ends)
    y = _pyquant.quantize(real, *args)
    made = start(
        settings,
        name,
        lambda: _pyquant.edge_backward_learned(g, real, y, *args),
        lambda: edge.learned_body(g, real, y, *args),
        operands=4,
    )

    def theirs() -> Tensor:
        low, high = (LOW - zero).float(), (HIGH - zero).float()
        v = real / scale
        inside = (v > low) & (v < high)
        steps = torch.where(inside, y / scale - v, torch.clamp(v, low, high))
        torch.sum(g * steps, dtype=torch.float64)
        return torch.where(inside, g, 0.0)

    made.peer("torch float32", lambda: peer(theirs))
    return made


def onto_levels(settings: Settings, name: str, size: int, bits: int) -> Row:
    """A codebook of powers of sqrt 2, searched in registers or by a table; torch has bucketize."""
    codebook = codebooks.log_sqrt2(bits)
    table, thresholds = map(torch.from_numpy, (codebook.levels, codebook.thresholds))
    x, scale = torch.softmax(normal(size, 0), dim=1), torch.tensor(0.05)
    args = (x, scale, table, thresholds, None)
    made = start(
        settings,
        name,
        lambda: _pyquant.fake_levels(*args),
        lambda: levels.fake_levels_body(*args),
        operands=2,
    )

    def theirs() -> Tensor:
        return table[torch.bucketize(x / scale, thresholds, right=True)] * scale

    made.peer("torch float32", lambda: peer(theirs))
    return made


OPS: dict[str, Callable[[Settings, str, int], Row]] = {
    "forward": partial(forward, axis=None),
    "forward per channel": partial(forward, axis=0),
    "straight-through backward": backward,
    "learned, both ways": partial(learned, axis=None),
    "learned per channel, both ways": partial(learned, axis=0),
    "behind a learned edge": behind_edge,
    "onto 16 levels, log sqrt 2": partial(onto_levels, bits=4),
    "onto 64 levels, log sqrt 2": partial(onto_levels, bits=6),
}
