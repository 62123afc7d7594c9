"""Masks, position ids and the like depend on no input: work them out once and keep them as buffers."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from pyquant.graph.aten import aten, base_of, depends_on_inputs, uses
from pyquant.graph.capture import Captured

__all__ = ["constant_value", "drop_open_masks", "fold_constants"]


def read(captured: Captured, target: str) -> torch.Tensor:
    """The tensor behind a get_attr."""
    at: Any = captured.root
    for part in target.split("."):
        at = getattr(at, part)
    assert isinstance(at, torch.Tensor)
    return at


def _foldable_source(captured: Captured, node: fx.Node) -> bool:
    """Parameters train and float buffers are state: both stay visible. Integers and lifted constants are folded."""
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
        elif node.op == "call_function" and node not in dynamic and all(n in values for n in node.all_input_nodes):
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
                user.args, user.kwargs = fx.map_arg(
                    (user.args, user.kwargs), lambda n, node=node, value=value: value if n is node else n)
            continue
        else:
            continue
        captured.paths[new.name] = captured.paths.get(node.name, "")
        node.replace_all_uses_with(new)


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
        if value is None:
            continue
        if bool(value.all()) if value.dtype == torch.bool else not bool(value.any()):
            node.update_arg(3, None)
        elif isinstance(mask, fx.Node) and uses(mask, aten.expand.default):
            # The expand over the batch is what attention broadcasts by itself.
            source = mask.args[0]
            assert isinstance(source, fx.Node)
            if source.meta["val"].dim() == mask.meta["val"].dim():
                node.update_arg(3, source)
