"""A convolution whose windows do not overlap is a linear layer over patches: patch embedding, and 1 x 1
convolution."""

from __future__ import annotations

from typing import Any

from pyquant.graph.aten import add_node, argument, aten, node_argument, replace, shape_of, uses
from pyquant.graph.capture import Captured

__all__ = ["patches_to_linear"]


def _pair(value: Any, default: int) -> tuple[int, int]:
    if value is None:
        return default, default
    values = [int(v) for v in value]
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def patches_to_linear(captured: Captured) -> None:
    """conv2d with kernel = stride, no padding, one group, and an image that the kernel tiles."""
    for node in list(captured.graph.nodes):
        if not uses(node, aten.conv2d.default):
            continue
        x, weight = node_argument(node, 0), node_argument(node, 1)
        bias, stride, padding, dilation, groups = (argument(node, i) for i in range(2, 7))
        out, channels, rows, columns = (int(s) for s in shape_of(weight))
        if _pair(stride, 1) != (rows, columns) or isinstance(padding, str) or _pair(padding, 0) != (0, 0):
            continue
        if _pair(dilation, 1) != (1, 1) or groups not in (None, 1) or x.meta["val"].dim() != 4:
            continue
        _, _, height, width = shape_of(x)
        if not isinstance(height, int) or not isinstance(width, int) or height % rows or width % columns:
            continue
        down, across = height // rows, width // columns
        with captured.graph.inserting_before(node):
            size = add_node(captured, aten.sym_size.int, (x, 0), like=node)
            if rows == columns == 1:
                tokens = add_node(captured, aten.permute.default, (x, [0, 2, 3, 1]), like=node)
            else:
                tiles = add_node(
                    captured,
                    aten.reshape.default,
                    (x, [size, channels, down, rows, across, columns]),
                    like=node,
                )
                tiles = add_node(captured, aten.permute.default, (tiles, [0, 2, 4, 1, 3, 5]), like=node)
                tokens = add_node(
                    captured,
                    aten.reshape.default,
                    (tiles, [size, down, across, channels * rows * columns]),
                    like=node,
                )
            matrix = add_node(
                captured, aten.reshape.default, (weight, [out, channels * rows * columns]), like=node
            )
            linear = add_node(captured, aten.linear.default, (tokens, matrix, bias), like=node)
            new = add_node(captured, aten.permute.default, (linear, [0, 3, 1, 2]), like=node)
        replace(captured, node, new)
