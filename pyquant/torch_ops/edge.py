"""``pyquant::edge_backward`` and ``edge_backward_learned``: gradients behind an output grid (``fake.h``).

They run in the backward pass of every op of a grid, and read each operand once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .grid import Edge, check_edge, check_float, read_grids
from .lanes import round_to_integer, sum_runs
from .library import define

__all__ = ["ends", "slopes"]


def _check(op: str, edge: Edge, **tensors: Tensor) -> None:
    grad = tensors["grad"]
    for name, x in tensors.items():
        check_float(op, name, x, grad)
        if x.shape != grad.shape:
            raise RuntimeError(
                f"{op}: expected {name} of the shape of grad, {tuple(grad.shape)}, got {tuple(x.shape)}"
            )
    check_edge(op, "", edge, grad)


def ends(edge: Edge) -> tuple[Tensor, Tensor]:
    """The centred ends of the range: float32 scalars on its device."""
    low, high = edge.quant_min - edge.zero_point, edge.quant_max - edge.zero_point
    return low.to(torch.float32), high.to(torch.float32)


def _check_grid(op: str, edge: Edge) -> None:
    """Where that is free: the op in front has made sure, and a device would have to be waited for."""
    if edge.scale.device.type == "cpu":
        read_grids(op, edge)


def fixed_body(
    grad: Tensor, y: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int
) -> Tensor:
    edge = Edge(scale, zero_point, quant_min, quant_max)
    _check("edge_backward", edge, grad=grad, y=y)
    _check_grid("edge_backward", edge)
    low, high = ends(edge)
    inside = torch.logical_and(y > low * scale, y < high * scale)
    return torch.where(inside, grad, 0.0).contiguous()


def _fixed_fake(grad: Tensor, y: Tensor, *grid: Any) -> Tensor:
    _check("edge_backward", Edge(*grid), grad=grad, y=y)
    return grad.new_empty(grad.shape)


def _fixed_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, y, scale, zero_point, ctx.quant_min, ctx.quant_max = inputs
    ctx.save_for_backward(y, scale, zero_point)


def _fixed_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Linear in `grad`, with the same mask."""
    y, scale, zero_point = ctx.saved_tensors
    masked = torch.ops.pyquant.edge_backward(grad, y, scale, zero_point, ctx.quant_min, ctx.quant_max)
    return masked, None, None, None, None, None


define(
    "edge_backward(Tensor grad, Tensor y, Tensor scale, Tensor zero_point, int quant_min, int quant_max) "
    "-> Tensor",
    fixed_body,
    _fixed_fake,
    _fixed_setup,
    _fixed_backward,
)


def slopes(real: Tensor, y: Tensor, edge: Edge) -> tuple[Tensor, Tensor]:
    """Where `real` lies inside the range, and d y / d scale, of each element."""
    low, high = ends(edge)
    v = real / edge.scale
    inside = torch.logical_and(v > low, v < high)
    k = round_to_integer(torch.clamp(y * (torch.ones_like(edge.scale) / edge.scale), low, high))
    return inside, torch.where(inside, k - v, torch.clamp(v, low, high))


def learned_body(
    grad: Tensor,
    real: Tensor,
    y: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
) -> tuple[Tensor, Tensor]:
    edge = Edge(scale, zero_point, quant_min, quant_max)
    _check("edge_backward_learned", edge, grad=grad, real=real, y=y)
    _check_grid("edge_backward_learned", edge)
    inside, steps = slopes(real, y, edge)
    return torch.where(inside, grad, 0.0).contiguous(), sum_runs((grad * steps).reshape(-1))


def _learned_fake(grad: Tensor, real: Tensor, y: Tensor, *grid: Any) -> tuple[Tensor, Tensor]:
    _check("edge_backward_learned", Edge(*grid), grad=grad, real=real, y=y)
    return grad.new_empty(grad.shape), grad.new_empty((), dtype=torch.float64)


def _learned_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, real, y, scale, zero_point, ctx.quant_min, ctx.quant_max = inputs
    ctx.save_for_backward(real, y, scale, zero_point)


def _learned_backward(ctx: Any, grad: Tensor, grad_sum: Tensor) -> tuple[Tensor | None, ...]:
    """Linear in `grad`; second derivatives in the other operands are taken as 0."""
    real, y, scale, zero_point = ctx.saved_tensors
    inside, steps = slopes(real, y, Edge(scale, zero_point, ctx.quant_min, ctx.quant_max))
    total = torch.where(inside, grad, 0.0) + steps * grad_sum.to(torch.float32)
    return total, None, None, None, None, None, None


define(
    "edge_backward_learned(Tensor grad, Tensor real, Tensor y, Tensor scale, Tensor zero_point, "
    "int quant_min, int quant_max) -> (Tensor, Tensor)",
    learned_body,
    _learned_fake,
    _learned_setup,
    _learned_backward,
)
