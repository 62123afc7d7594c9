"""What every pass needs to know about ATen nodes: sets of operators, arguments, building and replacing
nodes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import fx

from pyquant.graph.capture import Captured
from pyquant.graph.marks import mark

__all__ = [
    "LABELS",
    "VIEWS",
    "add_node",
    "argument",
    "aten",
    "base_of",
    "batch_factor",
    "concrete",
    "depends_on_inputs",
    "evaluate",
    "int_argument",
    "ints_argument",
    "is_float",
    "is_view",
    "kind_of",
    "node_argument",
    "of_labels",
    "replace",
    "shape_of",
    "uses",
]

aten = torch.ops.aten

LABELS = ("labels", "label")  # inputs of training alone

# Operators that only move elements: an edge keeps its grid through them.
VIEWS: frozenset[Any] = frozenset(
    {
        aten.view.default,
        aten.reshape.default,
        aten._unsafe_view.default,
        aten.transpose.int,
        aten.t.default,
        aten.permute.default,
        aten.unsqueeze.default,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.squeeze.default,
        aten.expand.default,
        aten.slice.Tensor,
        aten.select.int,
        aten.clone.default,
        aten.contiguous.default,
        aten.flatten.using_ints,
        aten.unflatten.int,
        aten.alias.default,
        aten.detach.default,
        aten.split.Tensor,
        aten.split_with_sizes.default,
        aten.chunk.default,
        aten.unbind.int,
        mark,
    }
)


def kind_of(node: fx.Node) -> str:
    """`gelu` for aten.gelu.default, `getitem` for the built-in."""
    if node.op != "call_function":
        return node.op
    name = getattr(node.target, "__name__", str(node.target))
    return str(name).split(".")[0]


def is_float(node: Any) -> bool:
    """True if the node gives one floating tensor."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def shape_of(node: fx.Node) -> tuple[Any, ...]:
    """Sizes, symbolic where they depend on the batch."""
    return tuple(node.meta["val"].shape)


def batch_factor(size: Any) -> int | None:
    """c where size is c * batch; None for a plain number, ValueError for anything else."""
    if isinstance(size, int):
        return None
    expression = size.node.expr
    if expression.is_number:
        return None
    symbols = sorted(expression.free_symbols, key=str)
    factor = expression / symbols[0]
    if len(symbols) != 1 or not factor.is_number or not factor.is_integer:
        raise ValueError(f"size {expression} is not a multiple of the batch")
    return int(factor)


def concrete(size: Any, batch: int) -> int:
    """A size at a given batch."""
    factor = batch_factor(size)
    return int(size) if factor is None else factor * batch


def argument(node: fx.Node, index: int, default: Any = None) -> Any:
    """A positional argument, or a default where it was left out."""
    return node.args[index] if len(node.args) > index else default


def node_argument(node: fx.Node, index: int) -> fx.Node:
    """An argument that is a node."""
    found = argument(node, index)
    if not isinstance(found, fx.Node):
        raise TypeError(f"{node.name}: expected argument {index} to be a node, got {found!r}")
    return found


def int_argument(node: fx.Node, index: int, default: int = 0) -> int:
    """An argument that is a number."""
    found = argument(node, index, default)
    if not isinstance(found, int):
        raise TypeError(f"{node.name}: expected argument {index} to be an int, got {found!r}")
    return int(found)


def ints_argument(node: fx.Node, index: int) -> list[int]:
    """An argument that is a list of numbers."""
    return [int(value) for value in argument(node, index, ())]


def uses(node: fx.Node, *targets: Any) -> bool:
    """True if the node calls one of `targets`."""
    return node.op == "call_function" and node.target in targets


def is_view(node: fx.Node) -> bool:
    """True if the node only moves elements of its first argument (one part of a split included)."""
    if node.op != "call_function":
        return False
    source = node.args[0] if node.args else None
    if kind_of(node) == "getitem":
        return isinstance(source, fx.Node) and uses(source, *VIEWS)
    return node.target in VIEWS


def base_of(node: fx.Node) -> fx.Node:
    """Through views, to the node whose elements these are."""
    while is_view(node):
        source = node.args[0]
        assert isinstance(source, fx.Node)
        node = source
    return node


def depends_on_inputs(
    graph: fx.Graph, *, sizes: bool = True, names: Collection[str] | None = None
) -> set[fx.Node]:
    """Nodes that depend on a placeholder (one of `names`); with sizes=False a dependence through sym_size
    alone does not count."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder":
            if names is None or node.target in names:
                found.add(node)
        elif not sizes and (
            uses(node, aten.sym_size.int)
            or (
                not _is_tensor(node)
                and kind_of(node) != "getitem"
                and not isinstance(node.meta.get("val"), (list, tuple))
            )
        ):
            continue
        elif any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


def of_labels(graph: fx.Graph) -> set[fx.Node]:
    """Nodes that depend on labels, a loss say: not of inference. None where nothing would be left."""
    found = depends_on_inputs(graph, sizes=False, names=LABELS)
    output = next(node for node in graph.nodes if node.op == "output")
    return set() if all(source in found for source in output.all_input_nodes) else found


def evaluate(node: fx.Node, memo: dict[fx.Node, Any], batch: int) -> Any:
    """The value of a node at a given batch, from the values in `memo` (which grows)."""
    if node not in memo:
        if isinstance(node.meta.get("val"), (torch.SymInt, int)):
            memo[node] = concrete(node.meta["val"], batch)
        elif uses(node, mark):
            memo[node] = evaluate(node_argument(node, 0), memo, batch)
        else:
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: evaluate(n, memo, batch))
            with torch.no_grad():
                memo[node] = _callable(node)(*args, **kwargs)
    return memo[node]


def _callable(node: fx.Node) -> Callable[..., Any]:
    if isinstance(node.target, str):
        raise TypeError(f"{node.name}: a {node.op} has no value of its own")
    return node.target


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor) or node.op == "output"


def add_node(
    captured: Captured,
    target: Callable[..., Any],
    args: Iterable[Any],
    *,
    like: fx.Node,
    kwargs: dict[str, Any] | None = None,
    path: str | None = None,
) -> fx.Node:
    """Append a call at the graph's insertion point, with its shape worked out and the path of `like`."""
    args, kwargs = tuple(args), kwargs or {}
    node = captured.graph.call_function(target, args, kwargs)
    values = fx.map_arg((args, kwargs), lambda n: n.meta["val"])
    mode = next(
        (v.fake_mode for v in torch.utils._pytree.tree_leaves(values) if hasattr(v, "fake_mode")), None
    )
    assert mode is not None
    with mode, torch.no_grad():
        node.meta["val"] = target(*values[0], **values[1])
    captured.paths[node.name] = captured.paths.get(like.name, "") if path is None else path
    return node


def replace(captured: Captured, old: fx.Node, new: fx.Node) -> None:
    """`new` takes the place of `old`, which goes away."""
    old.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    captured.graph.erase_node(old)
