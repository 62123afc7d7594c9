"""``pyquant::lookup_backward``: the gradient behind a function of 256 codes, as one pass (``fake.h``)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .edge import ends
from .grid import Edge, check_edge, check_float, read_grids, require_int8
from .lanes import round_to_integer, sum_runs
from .library import define

__all__: list[str] = []

_ENTRIES = 256


def _check(grad: Tensor, x: Tensor, edge: Edge, **tables: Tensor | None) -> None:
    op = "lookup_backward"
    check_float(op, "grad", grad)
    check_float(op, "x", x, grad)
    if x.shape != grad.shape:
        raise RuntimeError(
            f"{op}: expected x of the shape of grad, {tuple(grad.shape)}, got {tuple(x.shape)}"
        )
    for name, table in tables.items():
        if table is not None:
            check_float(op, name, table, grad)
            if tuple(table.shape) != (_ENTRIES,):
                raise RuntimeError(f"{op}: expected {name} of {_ENTRIES} entries, got {tuple(table.shape)}")
    check_edge(op, "x", edge, grad)
    require_int8(op, "x", edge)


def _codes(x: Tensor, edge: Edge) -> Tensor:
    """q + 128 of each element."""
    low, high = ends(edge)
    k = round_to_integer(torch.clamp(x * (torch.ones_like(edge.scale) / edge.scale), low, high))
    return torch.where(torch.isnan(k), low, k).long() + (edge.zero_point + 128).long()


def body(
    grad: Tensor,
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    x_quant_min: int,
    x_quant_max: int,
    slope: Tensor,
    step: Tensor | None,
) -> tuple[Tensor, Tensor]:
    edge = Edge(x_scale, x_zero_point, x_quant_min, x_quant_max)
    _check(grad, x, edge, slope=slope, step=step)
    if grad.device.type == "cpu":
        read_grids("lookup_backward", edge)
    codes = _codes(x, edge)
    dx = (grad * slope[codes]).contiguous()
    if step is None:
        return dx, grad.new_zeros((), dtype=torch.float64)
    return dx, sum_runs((grad * step[codes]).reshape(-1))


def _fake(grad: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    _check(grad, x, Edge(*rest[:4]), slope=rest[4], step=rest[5])
    return grad.new_empty(grad.shape), grad.new_empty((), dtype=torch.float64)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, x, scale, zero_point, ctx.quant_min, ctx.quant_max, slope, step = inputs
    ctx.save_for_backward(x, scale, zero_point, slope, step)


def _backward(ctx: Any, grad: Tensor, grad_sum: Tensor) -> tuple[Tensor | None, ...]:
    """Linear in `grad`; the tables and the codes are constants."""
    x, scale, zero_point, slope, step = ctx.saved_tensors
    codes = _codes(x, Edge(scale, zero_point, ctx.quant_min, ctx.quant_max))
    total = grad * slope[codes]
    if step is not None:
        total = total + step[codes] * grad_sum.to(torch.float32)
    return (total, *(None,) * 7)


define(
    "lookup_backward(Tensor grad, Tensor x, Tensor x_scale, Tensor x_zero_point, int x_quant_min, "
    "int x_quant_max, Tensor slope, Tensor? step) -> (Tensor, Tensor)",
    body,
    _fake,
    _setup_context,
    _backward,
)
