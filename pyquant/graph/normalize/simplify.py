"""Remove what does nothing to values, and spell each remaining thing in one way."""

from __future__ import annotations

import torch
from torch import fx

from pyquant.graph.aten import (
    add_node,
    aten,
    base_of,
    ints_argument,
    is_float,
    kind_of,
    node_argument,
    replace,
    shape_of,
    uses,
)
from pyquant.graph.capture import Captured

__all__ = ["simplify"]

_COPIES = (
    aten.clone.default,
    aten.contiguous.default,
    aten.alias.default,
    aten.detach.default,
    aten.lift_fresh_copy.default,
    aten.dropout.default,
)


def _is_copy(node: fx.Node) -> bool:
    if uses(node, *_COPIES):
        return True
    if not uses(node, aten._to_copy.default, aten.to.dtype):
        return False
    source = node.args[0]
    return isinstance(source, fx.Node) and node.meta["val"].dtype == source.meta["val"].dtype


def _is_whole_slice(node: fx.Node) -> bool:
    if not uses(node, aten.slice.Tensor):
        return False
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return bool(node.meta["val"].dim() == source.meta["val"].dim()) and all(
        str(a) == str(b) for a, b in zip(node.meta["val"].shape, source.meta["val"].shape, strict=True)
    )


def simplify(captured: Captured) -> None:
    """Drop copies, whole slices and scalar no-ops; view -> reshape; addmm, matmul by a matrix -> linear;
    stack -> cat."""
    for node in list(captured.graph.nodes):
        if node.op != "call_function":
            continue
        source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if source is not None and (_is_copy(node) or _is_whole_slice(node)):
            replace(captured, node, source)
            continue
        with captured.graph.inserting_before(node):
            new = _respelled(captured, node)
        if new is not None:
            replace(captured, node, new)


def _respelled(captured: Captured, node: fx.Node) -> fx.Node | None:
    if uses(node, aten.view.default, aten._unsafe_view.default, aten.flatten.using_ints, aten.unflatten.int):
        # A removed copy may have made a view's source contiguous: reshape holds for any strides.
        if uses(node, aten.view.default, aten._unsafe_view.default):
            return add_node(captured, aten.reshape.default, node.args[:2], like=node)
        return None
    if uses(node, aten.addmm.default) and not node.kwargs:
        bias, x, weight = node.args
        transposed = add_node(captured, aten.t.default, (weight,), like=node)
        return add_node(captured, aten.linear.default, (x, transposed, bias), like=node)
    if uses(node, aten.matmul.default, aten.mm.default):
        x, weight = node.args
        if isinstance(weight, fx.Node) and base_of(weight).op == "get_attr" and weight.meta["val"].dim() == 2:
            transposed = add_node(captured, aten.t.default, (weight,), like=node)
            return add_node(captured, aten.linear.default, (x, transposed), like=node)
    if uses(node, aten.where.self, aten.where.ScalarOther) and is_float(node):
        return _where_as_fill(captured, node)
    if uses(node, aten.masked_fill.Tensor):
        filled = _number(captured, node.args[2])
        return (
            None
            if filled is None
            else add_node(captured, aten.masked_fill.Scalar, (*node.args[:2], filled), like=node)
        )
    if uses(node, aten.stack.default):
        parts, dim = node.args[0], node.args[1] if len(node.args) > 1 else 0
        assert isinstance(parts, (list, tuple))
        lifted = [add_node(captured, aten.unsqueeze.default, (part, dim), like=node) for part in parts]
        return add_node(captured, aten.cat.default, (lifted, dim), like=node)
    pooled = _pooled_axes(node)
    if pooled:
        return add_node(captured, aten.mean.dim, (node.args[0], pooled, True), like=node)
    if uses(node, aten.add.Tensor, aten.mul.Tensor, aten.sub.Tensor, aten.div.Tensor) and is_float(node):
        scalar = node.args[1]
        neutral = 0 if uses(node, aten.add.Tensor, aten.sub.Tensor) else 1
        if not isinstance(scalar, fx.Node) and scalar == neutral and isinstance(node.args[0], fx.Node):
            source = node.args[0]
            return source if source.meta["val"].dtype == torch.float32 else None
    return None


def _pooled_axes(node: fx.Node) -> list[int]:
    """The axes that an average pooling reduces to one value; none if it is no such pooling."""
    name = kind_of(node).removeprefix("_")
    axes = {"1d": [-1], "2d": [-2, -1]}.get(name[-2:], [])
    if name[:-2] == "adaptive_avg_pool":
        return axes if set(ints_argument(node, 1)) == {1} else []
    if name[:-2] == "avg_pool" and not any(node.args[3:]) and not node.kwargs:
        sizes = list(shape_of(node_argument(node, 0))[-len(axes) :])
        kernel = ints_argument(node, 1)
        return axes if (kernel * 2 if len(kernel) < len(axes) else kernel) == sizes else []
    return []


def _number(captured: Captured, node: object) -> float | None:
    """The number in a constant tensor of one element."""
    if isinstance(node, fx.Node) and uses(node, aten.full.default, aten.scalar_tensor.default):
        number = node.args[-1]
        return float(number) if isinstance(number, (int, float)) else None
    if not isinstance(node, fx.Node) or node.op != "get_attr" or not str(node.target).startswith("pq_"):
        return None
    tensor = getattr(captured.root, str(node.target))
    return float(tensor) if tensor.numel() == 1 else None


def _where_as_fill(captured: Captured, node: fx.Node) -> fx.Node | None:
    """where(keep, scores, -inf) -> masked_fill(scores, not keep, -inf)."""
    keep, x, other = node.args
    filled = float(other) if isinstance(other, (int, float)) else _number(captured, other)
    if filled is None or not isinstance(x, fx.Node) or x.meta["val"].shape != node.meta["val"].shape:
        return None
    excluded = add_node(captured, aten.logical_not.default, (keep,), like=node)
    return add_node(captured, aten.masked_fill.Scalar, (x, excluded, filled), like=node)
