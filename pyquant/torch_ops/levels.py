"""``pyquant::fake_levels`` and its kin: floats onto a codebook of unequal steps (``levels.h``).

    fake_levels(x, scale, levels, thresholds, axis) -> (y, mask)                   straight-through
    fake_levels_learned(x, scale, levels, thresholds, axis, grad_factor) -> y       learned scale

`scale` has one element, or with `axis` one for each entry of that axis. A tensor that is dense in
another order of its axes is taken as it lies in memory, and `y` lies likewise; another layout is
copied once. `mask` is uint8 ``[(n + 7) // 8]``: bit ``i % 8`` of byte ``i // 8`` says whether element
i, counted as `y` lies in memory, is between the first and the last level.

The learned scale's sum has its order of additions in the header, and the body repeats it, so that
a gradient has the same bits from the shim and from any device.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .fake import pack, straight_backward, straight_setup
from .fake_layout import Layout, find_layout, memory_order
from .grid import check_float
from .library import autocast_off, define

__all__: list[str] = []

_LANES, _BLOCK, _PIECE, _ROWS, _MOST = 16, 2048, 65536, 128, 256


def _check(op: str, x: Tensor, scale: Tensor, levels: Tensor, thresholds: Tensor, axis: int | None) -> None:
    check_float(op, "x", x)
    for name, part in (("scale", scale), ("levels", levels), ("thresholds", thresholds)):
        check_float(op, name, part, x)
    count = levels.numel()
    if levels.dim() != 1 or tuple(thresholds.shape) != (count - 1,) or not 1 <= count <= _MOST:
        raise RuntimeError(
            f"{op}: expected levels (m,) and thresholds (m - 1,) with 1 <= m <= {_MOST}, "
            f"got {tuple(levels.shape)} and {tuple(thresholds.shape)}"
        )
    if axis is None:
        if scale.numel() != 1:
            raise RuntimeError(
                f"{op}: expected a scale of 1 element without an axis, got {tuple(scale.shape)}"
            )
    elif not -x.dim() <= axis < x.dim():
        raise RuntimeError(f"{op}: expected an axis of {tuple(x.shape)}, got {axis}")
    elif tuple(scale.shape) != (x.shape[axis],):
        raise RuntimeError(f"{op}: expected scale {(x.shape[axis],)}, got {tuple(scale.shape)}")


def _check_values(op: str, x: Tensor, scale: Tensor, levels: Tensor, thresholds: Tensor) -> None:
    """What a fake tensor cannot tell; messages as the C entry has them."""
    for c, value in enumerate(scale.reshape(-1).tolist()):
        if not 2.0**-100 <= value <= 2.0**100:
            raise RuntimeError(f"{op}: channel {c}: expected a scale in [2^-100, 2^100], got {value:g}")
    for name, part in (("levels", levels), ("thresholds", thresholds)):
        values = part.tolist()
        for i, value in enumerate(values):
            if not abs(value) <= 2.0**24:
                raise RuntimeError(f"{op}: expected |{name}[{i}]| <= 2^24, got {value:g}")
            if i > 0 and not value > values[i - 1]:
                raise RuntimeError(
                    f"{op}: expected {name} in ascending order, got {values[i - 1]:.9g} "
                    f"and {value:.9g} at [{i}]"
                )
    if x.numel() > 0 and bool(torch.isnan(x).any()):
        flat = x.permute(memory_order(x)).reshape(-1)
        raise RuntimeError(f"{op}: x[{int(torch.isnan(flat).nonzero()[0, 0])}] is NaN")


class _Placed(NamedTuple):
    """What the formulas work on: everything ``[outer, channels, inner]``."""

    layout: Layout
    v: Tensor
    scale: Tensor
    code: Tensor
    inside: Tensor


def _place(x: Tensor, scale: Tensor, levels: Tensor, thresholds: Tensor, axis: int | None) -> _Placed:
    layout = find_layout("levels", x, axis)
    s = scale.reshape(1, -1, 1)
    v = (layout.to_memory(x) / s).contiguous()
    code = torch.bucketize(v, thresholds, right=True)  # how many thresholds are <= v
    return _Placed(layout, v, s, code, torch.logical_and(v >= levels[0], v <= levels[-1]))


# ---- fake_levels: straight-through ----


def fake_levels_body(
    x: Tensor, scale: Tensor, levels: Tensor, thresholds: Tensor, axis: int | None
) -> tuple[Tensor, Tensor]:
    _check("fake_levels", x, scale, levels, thresholds, axis)
    _check_values("fake_levels", x, scale, levels, thresholds)
    p = _place(x, scale, levels, thresholds, axis)
    return p.layout.from_memory(levels[p.code] * p.scale), pack(p.inside)


def _fake_levels_fake(
    x: Tensor, scale: Tensor, levels: Tensor, thresholds: Tensor, axis: int | None
) -> tuple[Tensor, Tensor]:
    _check("fake_levels", x, scale, levels, thresholds, axis)
    layout = find_layout("levels", x, None)
    return layout.empty_like(x), x.new_empty(((x.numel() + 7) // 8,), dtype=torch.uint8)


define(
    "fake_levels(Tensor x, Tensor scale, Tensor levels, Tensor thresholds, int? axis) -> (Tensor, Tensor)",
    fake_levels_body,
    _fake_levels_fake,
    straight_setup,
    straight_backward,
)


# ---- fake_levels_learned: the scale learns too ----


def fake_levels_learned_body(
    x: Tensor, scale: Tensor, levels: Tensor, thresholds: Tensor, axis: int | None, grad_factor: float
) -> Tensor:
    op = "fake_levels_learned"
    _check_factor(op, grad_factor)
    _check(op, x, scale, levels, thresholds, axis)
    _check_values(op, x, scale, levels, thresholds)
    p = _place(x, scale, levels, thresholds, axis)
    return p.layout.from_memory(levels[p.code] * p.scale)


def _check_factor(op: str, grad_factor: float) -> None:
    if not math.isfinite(grad_factor):
        raise RuntimeError(f"{op}: expected a finite grad_factor, got {grad_factor!r}")


def _fake_levels_learned_fake(
    x: Tensor, scale: Tensor, levels: Tensor, thresholds: Tensor, axis: int | None, grad_factor: float
) -> Tensor:
    _check_factor("fake_levels_learned", grad_factor)
    _check("fake_levels_learned", x, scale, levels, thresholds, axis)
    return find_layout("levels", x, None).empty_like(x)


def _learned_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, scale, levels, thresholds, ctx.axis, ctx.grad_factor = inputs
    ctx.save_for_backward(x, scale, levels, thresholds)


def _learned_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    with autocast_off(grad):
        dx, dscale = torch.ops.pyquant.fake_levels_learned_backward(
            grad, *ctx.saved_tensors, ctx.axis, ctx.grad_factor
        )
    return dx, dscale, None, None, None, None


define(
    "fake_levels_learned(Tensor x, Tensor scale, Tensor levels, Tensor thresholds, int? axis, "
    "float grad_factor) -> Tensor",
    fake_levels_learned_body,
    _fake_levels_learned_fake,
    _learned_setup,
    _learned_backward,
)


def _in_order(terms: Tensor) -> Tensor:
    """Sum over the first axis, one addition after the other."""
    total = torch.zeros_like(terms[0]) if len(terms) == 0 else terms[0].clone()
    for term in terms[1:]:
        total += term
    return total


def _split(terms: Tensor, size: int) -> Tensor:
    """The last axis in pieces of `size`, zeros behind the last: they change no sum."""
    padded = torch.nn.functional.pad(terms, (0, -terms.shape[-1] % size))
    return padded.reshape(*terms.shape[:-1], -1, size)


def _sum_runs(terms: Tensor) -> Tensor:
    """float32 ``[outer, channels, inner]`` to float64 ``[channels]``: lanes, blocks, pieces (levels.h)."""
    outer, channels, inner = terms.shape
    blocks = _split(_split(terms, _PIECE if inner > _PIECE else max(inner, 1)), _BLOCK)
    lanes = blocks.reshape(*blocks.shape[:-1], _BLOCK // _LANES, _LANES)
    lane_sums = _in_order(lanes.movedim(-2, 0)).double()
    while lane_sums.shape[-1] > 1:
        half = lane_sums.shape[-1] // 2
        lane_sums = lane_sums[..., :half] + lane_sums[..., half:]
    sums = lane_sums[..., 0]  # outer, channels, pieces of a run, blocks of a piece
    group = max(1, _PIECE // max(inner, 1))
    total = terms.new_zeros(channels, dtype=torch.float64)
    for first in range(0, outer, group):
        runs = sums[first : first + group]  # 0 + b = b, so that a sum may begin with the first
        pieces = _in_order(runs.permute(0, 3, 1, 2).reshape(-1, channels, sums.shape[2]))
        for piece in pieces.unbind(-1):
            total = total + piece
    return total


def _sum_columns(terms: Tensor) -> Tensor:
    """The same where a channel is a column."""
    total = terms.new_zeros(terms.shape[1], dtype=torch.float64)
    for first in range(0, terms.shape[0], _ROWS):
        total = total + _in_order(terms[first : first + _ROWS, :, 0]).double()
    return total


def fake_levels_learned_backward_body(
    grad: Tensor,
    x: Tensor,
    scale: Tensor,
    levels: Tensor,
    thresholds: Tensor,
    axis: int | None,
    grad_factor: float,
) -> tuple[Tensor, Tensor]:
    op = "fake_levels_learned_backward"
    _check_learned(op, grad, x, scale, levels, thresholds, axis, grad_factor)
    _check_values(op, x, scale, levels, thresholds)
    p = _place(x, scale, levels, thresholds, axis)
    g = p.layout.to_memory(grad)
    end = torch.where(p.v < levels[0], levels[0], levels[-1])
    terms = g * torch.where(p.inside, levels[p.code] - p.v, end)
    columns = p.layout.channels > 1 and p.layout.inner == 1
    total = torch.zeros(scale.numel(), dtype=torch.float64, device=x.device)
    if x.numel() > 0:
        total = _sum_columns(terms) if columns else _sum_runs(terms)
    dscale = (grad_factor * total).to(torch.float32).reshape(scale.shape)
    return p.layout.from_memory(torch.where(p.inside, g, 0.0)), dscale


def _check_learned(
    op: str,
    grad: Tensor,
    x: Tensor,
    scale: Tensor,
    levels: Tensor,
    thresholds: Tensor,
    axis: int | None,
    grad_factor: float,
) -> None:
    _check_factor(op, grad_factor)
    _check(op, x, scale, levels, thresholds, axis)
    check_float(op, "grad", grad, x)
    if grad.shape != x.shape:
        raise RuntimeError(f"{op}: expected grad {tuple(x.shape)}, got {tuple(grad.shape)}")


def _fake_levels_learned_backward_fake(
    grad: Tensor,
    x: Tensor,
    scale: Tensor,
    levels: Tensor,
    thresholds: Tensor,
    axis: int | None,
    grad_factor: float,
) -> tuple[Tensor, Tensor]:
    op = "fake_levels_learned_backward"
    _check_learned(op, grad, x, scale, levels, thresholds, axis, grad_factor)
    return find_layout("levels", x, None).empty_like(x), x.new_empty(scale.shape)


define(
    "fake_levels_learned_backward(Tensor grad, Tensor x, Tensor scale, Tensor levels, Tensor thresholds, "
    "int? axis, float grad_factor) -> (Tensor, Tensor)",
    fake_levels_learned_backward_body,
    _fake_levels_learned_backward_fake,
)
