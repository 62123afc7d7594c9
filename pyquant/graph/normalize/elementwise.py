"""Element-wise functions that are written out become one node."""

from __future__ import annotations

from torch import fx

from pyquant.graph.aten import add_node, aten, replace, uses
from pyquant.graph.capture import Captured
from pyquant.graph.functional import quick_gelu

__all__ = ["scalar_factor", "unify_elementwise"]


def scalar_factor(node: fx.Node) -> tuple[fx.Node, float] | None:
    """(x, c) where the node is c * x or x / (1 / c) with a Python number."""
    if uses(node, aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar) and not node.kwargs:
        x, c = node.args
        if isinstance(c, fx.Node) and not isinstance(x, fx.Node) and uses(node, aten.mul.Tensor):
            x, c = c, x
        if isinstance(x, fx.Node) and isinstance(c, (int, float)):
            return x, float(c) if uses(node, aten.mul.Tensor, aten.mul.Scalar) else 1.0 / float(c)
    return None


def unify_elementwise(captured: Captured) -> None:
    """x * sigmoid(x) -> silu, x * sigmoid(1.702 x) -> quick_gelu, hardtanh(0, 6) -> relu6."""
    for node in list(captured.graph.nodes):
        if uses(node, aten.hardtanh.default) and list(node.args[1:]) == [0.0, 6.0]:
            with captured.graph.inserting_before(node):
                new = add_node(captured, aten.relu6.default, node.args[:1], like=node)
            replace(captured, node, new)
            continue
        if not uses(node, aten.mul.Tensor):
            continue
        for x, gate in (node.args, node.args[::-1]):
            if not (isinstance(x, fx.Node) and isinstance(gate, fx.Node) and uses(gate, aten.sigmoid.default)):
                continue
            inner = gate.args[0]
            scaled = scalar_factor(inner) if isinstance(inner, fx.Node) else None
            if inner is x:
                target = aten.silu.default
            elif scaled is not None and scaled[0] is x and abs(scaled[1] - 1.702) < 1e-6:
                target = quick_gelu
            else:
                continue
            with captured.graph.inserting_before(node):
                new = add_node(captured, target, (x,), like=node)
            replace(captured, node, new)
            break
