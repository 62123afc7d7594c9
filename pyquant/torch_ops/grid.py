"""Float edges on integer grids: checks, recovery of the integers, the way back, and the gradient's mask.

An edge carries float32 values ``(q - zero_point) * scale``. Bodies recover ``q - zero_point``, the
*centred* integer, work on it, and return to float32 by one multiplication (``quantize.h``).

Every error is a ``RuntimeError`` that begins with the name of the op, as torch's own ops (and the
shim) raise it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from pyquant.qparams import SCALE_MAX, SCALE_MIN

__all__ = [
    "Edge",
    "Grid",
    "check_edge",
    "check_float",
    "dequantize",
    "new_edge_like",
    "output_gradient",
    "read_grids",
    "recover",
    "reject_nan",
    "reject_nonfinite",
    "require_int8",
    "saturate",
    "scale_gradient",
]


class Edge(NamedTuple):
    """A grid as an op receives it: two scalar tensors and two integers."""

    scale: Tensor
    zero_point: Tensor
    quant_min: int
    quant_max: int


class Grid(NamedTuple):
    """The same on the host, validated."""

    scale: float
    zero_point: int
    quant_min: int
    quant_max: int

    @property
    def low(self) -> int:
        """Smallest centred integer."""
        return self.quant_min - self.zero_point

    @property
    def high(self) -> int:
        """Largest centred integer."""
        return self.quant_max - self.zero_point


def check_float(op: str, name: str, x: Tensor, like: Tensor | None = None) -> None:
    """`x` is strided float32, on the device of `like`."""
    if x.dtype != torch.float32:
        hint = ""
        if x.dtype in (torch.float16, torch.bfloat16):
            hint = " (a quantized edge cannot pass through half precision)"
        raise RuntimeError(f"{op}: expected {name} of dtype torch.float32, got {x.dtype}{hint}")
    if x.layout != torch.strided:
        raise RuntimeError(f"{op}: expected a strided {name}, got {x.layout}")
    _check_device(op, name, x, like)


def check_edge(op: str, name: str, edge: Edge, like: Tensor) -> None:
    """The grid tensors of operand `name`: scalars, float32 and int32, on the device of `like`."""
    prefix = f"{name}_" if name else ""
    for part, tensor, dtype in (
        ("scale", edge.scale, torch.float32),
        ("zero_point", edge.zero_point, torch.int32),
    ):
        if tensor.dtype != dtype or tensor.dim() != 0:
            raise RuntimeError(
                f"{op}: expected {prefix}{part} as a scalar tensor of dtype {dtype}, "
                f"got shape {tuple(tensor.shape)} of {tensor.dtype}"
            )
        _check_device(op, prefix + part, tensor, like)
    low, high = edge.quant_min, edge.quant_max
    if not -32768 <= low <= high <= 32767:
        raise RuntimeError(
            f"{op}: expected -32768 <= {prefix}quant_min <= {prefix}quant_max <= 32767, got {low} and {high}"
        )


def require_int8(op: str, name: str, edge: Edge) -> None:
    """Ops whose kernels take bytes."""
    if edge.quant_min < -128 or edge.quant_max > 127:
        raise RuntimeError(
            f"{op}: expected the range of {name} inside int8, got [{edge.quant_min}, {edge.quant_max}]"
        )


def _check_device(op: str, name: str, x: Tensor, like: Tensor | None) -> None:
    if like is not None and x.device != like.device:
        raise RuntimeError(f"{op}: expected {name} on {like.device}, got {x.device}")


def read_grids(op: str, *edges: Edge) -> tuple[Grid, ...]:
    """The grids on the host, validated; one transfer for all of them."""
    parts = [part for edge in edges for part in (edge.scale.double(), edge.zero_point.double())]
    values: list[float] = torch.stack(parts).tolist()
    grids = []
    for index, edge in enumerate(edges):
        scale, zero_point = values[2 * index], int(values[2 * index + 1])
        if not (math.isfinite(scale) and SCALE_MIN <= scale <= SCALE_MAX):
            raise RuntimeError(f"{op}: expected a scale in [2^-100, 2^100], got {scale!r}")
        if not edge.quant_min <= zero_point <= edge.quant_max:
            raise RuntimeError(
                f"{op}: expected a zero point in [{edge.quant_min}, {edge.quant_max}], got {zero_point}"
            )
        grids.append(Grid(scale, zero_point, edge.quant_min, edge.quant_max))
    return tuple(grids)


def reject_nan(op: str, **tensors: Tensor | None) -> None:
    """One error that names the op and the first operand with a NaN."""
    present = [(name, x) for name, x in tensors.items() if x is not None and x.numel() > 0]
    if not present:
        return
    found: list[bool] = torch.stack([torch.isnan(x).any() for _, x in present]).tolist()
    for (name, _), bad in zip(present, found, strict=True):
        if bad:
            raise RuntimeError(f"{op}: expected no NaN in {name}")


def reject_nonfinite(op: str, **parameters: Tensor | None) -> None:
    """The same for parameters, which may not be infinite either: they decide a scale."""
    reject_nan(op, **parameters)
    for name, x in parameters.items():
        if x is not None and bool(torch.isinf(x).any()):
            raise RuntimeError(f"{op}: expected finite {name}, got infinity")


def recover(x: Tensor, edge: Edge, grid: Grid) -> Tensor:
    """Centred integers ``q - zero_point`` of an edge, as int64; values off the grid are quantized.

    The divisor is a tensor on purpose: divided by a Python number, CUDA multiplies by its reciprocal.
    """
    return torch.round(x / edge.scale).clamp(grid.low, grid.high).long()


def saturate(centred: Tensor, grid: Grid) -> Tensor:
    """``clamp(v + zero_point, quant_min, quant_max) - zero_point``."""
    return centred.clamp(grid.low, grid.high)


def dequantize(centred: Tensor, edge: Edge) -> Tensor:
    """Centred integers to float32 values, contiguous."""
    return (centred.to(torch.float32) * edge.scale).contiguous()


def new_edge_like(x: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """What every fake implementation returns: a contiguous float32 tensor."""
    return x.new_empty(shape)


GridGradients: TypeAlias = "tuple[Tensor | None, None, None, None]"


def output_gradient(
    grad: Tensor, y: Tensor, edge: Edge, learn: bool, real: Callable[[], Tensor]
) -> tuple[Tensor, GridGradients]:
    """Gradient behind an output grid, and the gradients of the four grid arguments in schema order.

    With a fixed scale: straight-through where `y` lies strictly inside the range, zero where it sits at
    quant_min or quant_max, and no gradient for the grid.

    With a learned scale (LSQ [1]_, eq. 2 and 3): with v = real / scale, the float function of the op's
    operands (of linear, the product of its integers) in steps, and low, high the centred ends of the range,

        d y / d scale = q - v   where low < v < high,   low where v <= low,   high where v >= high

    summed over the elements with `grad` (``fake.h`` has the order), and multiplied by
    1 / sqrt(count * max(-low, high)). `count` is the number of elements of one sample (of index 0), so that
    neither the batch nor how it is split over processes changes the step of a scale.

    Parameters
    ----------
    grad, y : Tensor
        float32, of the op's result.
    edge : Edge
        The output grid.
    learn : bool
        Whether the scale wants a gradient.
    real : callable
        Gives what is quantized, in float; called only for a learned scale.

    References
    ----------
    .. [1] Esser et al., Learned Step Size Quantization, arXiv 1902.08153.
    """
    if not learn:
        return torch.ops.pyquant.edge_backward(grad, y, *edge), (None, None, None, None)
    masked, total = torch.ops.pyquant.edge_backward_learned(grad, real(), y, *edge)
    return masked, scale_gradient(total, y, edge)


def scale_gradient(total: Tensor, y: Tensor, edge: Edge) -> GridGradients:
    """The gradients of the four grid arguments, from the sum that `output_gradient` defines."""
    per_sample = y.numel() / max(y.shape[0], 1) if y.dim() > 0 else 1
    largest = torch.maximum(edge.zero_point - edge.quant_min, edge.quant_max - edge.zero_point)
    # Not read to the host: a compiler cannot trace that, and a device would have to be waited for.
    factor = 1.0 / (largest.double() * max(per_sample, 1.0)).sqrt()
    return (total * factor).to(torch.float32), None, None, None
