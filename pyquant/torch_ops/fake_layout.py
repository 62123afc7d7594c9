"""Where the channel of a dense tensor lies in memory."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

__all__ = ["Layout", "find_layout", "memory_order"]


class Layout(NamedTuple):
    """Axes in the order of memory, and a tensor in that order as [outer, channels, inner]."""

    order: tuple[int, ...]
    axis: int
    sizes: tuple[int, ...]  # of the ordered axes
    outer: int
    channels: int
    inner: int

    def to_memory(self, x: Tensor) -> Tensor:
        """[outer, channels, inner]; a view where `x` lies in this order."""
        return x.permute(self.order).reshape(self.outer, self.channels, self.inner)

    def from_memory(self, x: Tensor) -> Tensor:
        """The way back: the axes of the original, in this order in memory."""
        return self._restore(x.contiguous().reshape(self.sizes))

    def empty_like(self, x: Tensor) -> Tensor:
        """An empty tensor of the shape of `x` in this order."""
        return self._restore(x.new_empty(self.sizes))

    def _restore(self, ordered: Tensor) -> Tensor:
        back = [0] * len(self.order)
        for place, axis in enumerate(self.order):
            back[axis] = place
        return ordered.permute(back)


def memory_order(x: Tensor) -> tuple[int, ...]:
    """The axes of `x` from the outermost in memory, where it is dense in that order; else as they are."""
    axes = tuple(range(x.dim()))
    if x.is_contiguous():
        return axes
    strides = x.stride()
    order = tuple(sorted(axes, key=lambda d: -strides[d]))
    return order if x.permute(order).is_contiguous() else axes


def find_layout(op: str, x: Tensor, axis: int | None) -> Layout:
    """The order of memory of a dense `x`, or the order of its axes where it has gaps or overlaps."""
    dims = x.dim()
    if axis is not None and not -dims <= axis < dims:
        raise RuntimeError(f"{op}: expected axis in [{-dims}, {dims - 1}], got {axis}")
    order = memory_order(x)
    sizes = tuple(x.shape[d] for d in order)
    if axis is None:
        return Layout(order, 0, sizes, 1, 1, x.numel())
    axis %= dims
    place = order.index(axis)
    outer, inner = math.prod(sizes[:place]), math.prod(sizes[place + 1 :])
    return Layout(order, axis, sizes, outer, sizes[place], inner)
