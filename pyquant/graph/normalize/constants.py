"""Masks, position ids and the like depend on no input: work them out once and keep them as buffers."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from pyquant.graph.aten import (
    add_node,
    aten,
    base_of,
    batch_factor,
    depends_on_inputs,
    evaluate,
    shape_of,
    uses,
)
from pyquant.graph.capture import Captured

__all__ = ["constant_value", "drop_open_masks", "fold_constants", "fold_repeated"]


def read(captured: Captured, target: str) -> torch.Tensor:
    """The tensor behind a get_attr."""
    at: Any = captured.root
    for part in target.split("."):
        at = getattr(at, part)
    assert isinstance(at, torch.Tensor)
    return at


def _foldable_source(captured: Captured, node: fx.Node) -> bool:
    """Parameters train and float buffers are state: both stay visible. Integers and lifted constants are
    folded."""
    tensor = read(captured, str(node.target))
    if isinstance(tensor, torch.nn.Parameter):
        return False
    return not tensor.is_floating_point() or str(node.target).startswith("pq_")


def fold_constants(captured: Captured) -> None:
    """Evaluate every node that reads neither an input nor a parameter nor a float buffer."""
    dynamic = depends_on_inputs(captured.graph)
    values: dict[fx.Node, Any] = {}
    for node in list(captured.graph.nodes):
        if node.op == "get_attr" and _foldable_source(captured, node):
            values[node] = read(captured, str(node.target))
        elif (
            node.op == "call_function"
            and node not in dynamic
            and all(n in values for n in node.all_input_nodes)
        ):
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: values[n])
            with torch.no_grad():
                values[node] = node.target(*args, **kwargs)
    for node, value in values.items():
        live = [user for user in node.users if user not in values]
        if node.op == "get_attr" or not live:
            continue
        if isinstance(value, torch.Tensor):
            name = f"pq_folded_{node.name}"
            captured.root.register_buffer(name, value.clone(), persistent=False)
            with captured.graph.inserting_before(node):
                new = captured.graph.create_node("get_attr", name)
            new.meta["val"] = node.meta["val"]
        elif isinstance(value, (int, float, bool)):
            for user in live:
                user.args = fx.map_arg(
                    user.args, {**{n: n for n in user.all_input_nodes}, node: value}.__getitem__
                )
            continue
        else:
            continue
        captured.paths[new.name] = captured.paths.get(node.name, "")
        node.replace_all_uses_with(new)


def fold_repeated(captured: Captured) -> None:
    """A mask or table that knows no input but the batch size, and repeats for every sample: keep one sample
    of it.

    The value is worked out for two batch sizes; where a row differs from another, nothing is folded.
    """
    graph = captured.graph
    with_sizes, dynamic = depends_on_inputs(graph), depends_on_inputs(graph, sizes=False)
    memos: dict[int, dict[fx.Node, Any]] = {2: {}, 3: {}}
    for node in list(graph.nodes):
        if node.op == "get_attr" and _foldable_source(captured, node):
            for memo in memos.values():
                memo[node] = read(captured, str(node.target))
            continue
        if (
            node.op != "call_function"
            or node not in with_sizes
            or node in dynamic
            or not _is_per_sample(node)
        ):
            continue
        if uses(node, aten.expand.default) and base_of(node).op == "get_attr":
            continue
        if not any(user in dynamic or user.op == "output" for user in node.users):
            continue
        if not all(n in memos[2] for n in _sources(node)):
            continue
        two, three = (evaluate(node, memo, batch) for batch, memo in memos.items())
        if not (torch.equal(two[:1].expand_as(two), two) and torch.equal(two[:1].expand_as(three), three)):
            continue
        name = f"pq_folded_{node.name}"
        captured.root.register_buffer(name, two[:1].clone(), persistent=False)
        with graph.inserting_before(node):
            one = graph.create_node("get_attr", name)
            one.meta["val"] = node.meta["val"][:1]
            size = next(
                n
                for n in graph.nodes
                if uses(n, aten.sym_size.int) and str(n.meta["val"]) == str(shape_of(node)[0])
            )
            new = add_node(captured, aten.expand.default, (one, [size, *[-1] * (two.dim() - 1)]), like=node)
        node.replace_all_uses_with(new)


def _is_per_sample(node: fx.Node) -> bool:
    """True if the first axis, and no other, is the batch."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or value.dim() == 0:
        return False
    try:
        factors = [batch_factor(size) for size in value.shape]
    except ValueError:
        return False
    return factors[0] == 1 and all(factor is None for factor in factors[1:])


def _sources(node: fx.Node) -> set[fx.Node]:
    """The parameters and buffers that a node is computed from."""
    found, seen, todo = set(), {node}, [node]
    while todo:
        at = todo.pop()
        if at.op == "get_attr":
            found.add(at)
        if not isinstance(at.meta.get("val"), (torch.SymInt, int)):
            todo.extend(n for n in at.all_input_nodes if n not in seen)
            seen.update(at.all_input_nodes)
    return found


def constant_value(captured: Captured, node: Any) -> torch.Tensor | None:
    """The folded tensor behind a node, seen through expands; None if it is no constant."""
    if not isinstance(node, fx.Node):
        return None
    base = base_of(node)
    if base.op != "get_attr" or isinstance(read(captured, str(base.target)), torch.nn.Parameter):
        return None
    return read(captured, str(base.target))


def drop_open_masks(captured: Captured) -> None:
    """An attention mask that is true (or zero) everywhere excludes nothing."""
    for node in captured.graph.nodes:
        if not uses(node, aten.scaled_dot_product_attention.default) or len(node.args) < 4:
            continue
        mask = node.args[3]
        value = constant_value(captured, mask)
        if value is not None and (bool(value.all()) if value.dtype == torch.bool else not bool(value.any())):
            node.update_arg(3, None)
        while isinstance(mask, fx.Node) and uses(mask, aten.expand.default):
            # Attention broadcasts by itself; without the expand the mask does not depend on the batch.
            source = mask.args[0]
            assert isinstance(source, fx.Node)
            if source.meta["val"].dim() != mask.meta["val"].dim():
                break
            mask = source
        if node.args[3] is not None:
            node.update_arg(3, mask)
