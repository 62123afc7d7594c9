"""Evaluate the parts of a prepared graph that depend on parameters and buffers only."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

__all__ = ["constant_of"]


def constant_of(root: nn.Module, node: fx.Node, memo: dict[fx.Node, Any]) -> Any:
    """The value of a node, or None if it depends on an input (or on the batch)."""
    if node not in memo:
        if node.op == "get_attr":
            at: Any = root
            for part in str(node.target).split("."):
                at = getattr(at, part)
            memo[node] = at
        elif node.op != "call_function":
            memo[node] = None
        else:
            parts = {n: constant_of(root, n, memo) for n in node.all_input_nodes}
            if any(value is None for value in parts.values()):
                memo[node] = None
            else:
                args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: parts[n])
                with torch.no_grad():
                    memo[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    return memo[node]
