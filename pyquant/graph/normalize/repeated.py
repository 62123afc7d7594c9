"""A linear layer of a parameter that is repeated for each sample (a learned query): once, then repeated."""

from __future__ import annotations

from torch import fx

from pyquant.graph.aten import (
    add_node,
    aten,
    depends_on_inputs,
    int_argument,
    node_argument,
    replace,
    uses,
)
from pyquant.graph.capture import Captured

__all__ = ["repeat_last"]


def repeat_last(captured: Captured) -> None:
    """linear(transposed(expand(p))) is expand(linear(transposed(p))).

    The result then is a parameter's, which an integer program holds as a constant. Computed for each sample
    it would look like an input, and its float sums might depend on the size of the batch.
    """
    graph = captured.graph
    dynamic, repeated = depends_on_inputs(graph, sizes=False), depends_on_inputs(graph)
    for node in list(graph.nodes):
        if not uses(node, aten.linear.default) or node in dynamic or node not in repeated:
            continue
        found = _repetition(node_argument(node, 0))
        if found is None or any(source in repeated for source in node.all_input_nodes[1:]):
            continue
        expand, moves, axis = found
        one = node_argument(expand, 0)
        size = next(source for source in expand.all_input_nodes if source is not one)
        with graph.inserting_before(node):
            for move in moves:
                one = add_node(captured, aten.transpose.int, (one, *move.args[1:]), like=move)
            linear = add_node(captured, aten.linear.default, (one, *node.args[1:]), like=node)
            sizes = [size if d == axis else -1 for d in range(node.meta["val"].dim())]
            new = add_node(captured, aten.expand.default, (linear, sizes), like=node)
        replace(captured, node, new)


def _repetition(node: fx.Node) -> tuple[fx.Node, list[fx.Node], int] | None:
    """(expand of one axis of a parameter over the batch, transposes behind it, where that axis ends)."""
    moves: list[fx.Node] = []
    while uses(node, aten.transpose.int):
        moves.insert(0, node)
        node = node_argument(node, 0)
    if not uses(node, aten.expand.default):
        return None
    one = node_argument(node, 0)
    own, made = one.meta["val"].shape, node.meta["val"].shape
    wider = [d for d in range(len(own)) if own[d] == 1 and str(made[d]) != "1"]
    if one.op != "get_attr" or len(own) != len(made) or len(wider) != 1 or len(node.all_input_nodes) != 2:
        return None
    (axis,), rank = wider, len(own)
    for move in moves:
        a, b = int_argument(move, 1) % rank, int_argument(move, 2) % rank
        axis = {a: b, b: a}.get(axis, axis)
    return None if axis == rank - 1 else (node, moves, axis)  # the layer mixes the last axis
