"""Element-wise functions that are written out become one node.

Nothing is assumed about the spelling: every run of element-wise operators that starts from one tensor is
evaluated in float64 on a dense set of points and compared with the functions that have a table in the engine.
So the GELU of GPT-2, x * sigmoid(x), x * relu6(x + 3) / 6 and clamp(x, min=0) are all found by what they
compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from pyquant.graph.aten import add_node, aten, is_float, kind_of, replace, uses
from pyquant.graph.capture import Captured
from pyquant.graph.functional import quick_gelu

__all__ = ["scalar_factor", "unify_elementwise"]

_POINTWISE = frozenset(
    {
        "abs",
        "add",
        "clamp",
        "clamp_max",
        "clamp_min",
        "div",
        "elu",
        "erf",
        "exp",
        "gelu",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "leaky_relu",
        "log",
        "log1p",
        "mish",
        "mul",
        "neg",
        "pow",
        "reciprocal",
        "relu",
        "relu6",
        "rsub",
        "sigmoid",
        "silu",
        "softplus",
        "sqrt",
        "square",
        "sub",
        "tanh",
        "threshold",
        "add_",
        "mul_",
        "div_",
        "relu_",
        "silu_",
        "hardtanh_",
        "hardswish_",
        "clamp_",
        "sigmoid_",
        "tanh_",
        "relu6_",
    }
)
_LONGEST = 12  # operators in a written-out function; the tanh GELU has 8

_TARGETS: tuple[tuple[Callable[..., Any], dict[str, Any]], ...] = (
    (aten.relu.default, {}),
    (aten.gelu.default, {}),
    (aten.gelu.default, {"approximate": "tanh"}),
    (quick_gelu, {}),
    (aten.silu.default, {}),
    (aten.sigmoid.default, {}),
    (aten.tanh.default, {}),
    (aten.hardswish.default, {}),
    (aten.hardsigmoid.default, {}),
    (aten.relu6.default, {}),
    (aten.mish.default, {}),
    (aten.softplus.default, {}),
    (aten.elu.default, {}),
    (aten.abs.default, {}),
)
# Far enough for every tail to be flat or linear, fine enough that no two functions of the list agree on all
# points (the two GELUs differ by 5e-4 near 2).
_POINTS = torch.linspace(-12.0, 12.0, 1537, dtype=torch.float64)
_TOLERANCE = 1e-6  # constants such as sqrt(2 / pi) are often written with seven digits


def scalar_factor(node: fx.Node) -> tuple[fx.Node, float] | None:
    """(x, c) where the node is c * x or x / (1 / c) with a Python number."""
    if uses(node, aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar) and not node.kwargs:
        x, c = node.args
        if isinstance(c, fx.Node) and not isinstance(x, fx.Node) and uses(node, aten.mul.Tensor):
            x, c = c, x
        if isinstance(x, fx.Node) and isinstance(c, (int, float)) and c != 0:
            return x, float(c) if uses(node, aten.mul.Tensor, aten.mul.Scalar) else 1.0 / float(c)
    return None


def unify_elementwise(captured: Captured) -> None:
    """The longest run that computes a known function becomes that function."""
    for node in reversed(list(captured.graph.nodes)):
        if node.users and _is_pointwise(node) and not _is_spelled(node):
            found = _recognise(node)
            if found is not None:
                source, target, kwargs = found
                with captured.graph.inserting_before(node):
                    new = add_node(captured, target, (source,), kwargs=kwargs, like=node)
                replace(captured, node, new)
                captured.graph.eliminate_dead_code(lambda n: n.op in {"placeholder", "output"})


def _is_pointwise(node: fx.Node) -> bool:
    return (
        node.op == "call_function"
        and is_float(node)
        and (kind_of(node) in _POINTWISE or uses(node, quick_gelu))
    )


def _is_spelled(node: fx.Node) -> bool:
    """Already one of the functions, with nothing but its operand."""
    return len(node.args) == 1 and any(node.target is target for target, _ in _TARGETS)


def _recognise(node: fx.Node) -> tuple[fx.Node, Callable[..., Any], dict[str, Any]] | None:
    """(operand, function, its keywords), for the largest run that ends in `node`."""
    order = {n: i for i, n in enumerate(node.graph.nodes)}
    frontier, best = {node}, None
    for _ in range(_LONGEST):
        last = max(frontier, key=order.__getitem__)
        if not _is_pointwise(last) or (last is not node and last.meta["val"].shape != node.meta["val"].shape):
            break
        frontier = (frontier - {last}) | set(last.all_input_nodes)
        if len(frontier) != 1:
            continue
        (source,) = frontier
        if not is_float(source) or source.meta["val"].shape != node.meta["val"].shape:
            break
        named = _named(node, source)
        best = (source, *named) if named is not None else best
    return best


def _named(node: fx.Node, source: fx.Node) -> tuple[Callable[..., Any], dict[str, Any]] | None:
    value = _at_points(node, {source: _POINTS})
    for target, kwargs in _TARGETS:
        expected = target(_POINTS, **kwargs)
        if torch.allclose(value, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
            return target, kwargs
    return None


def _at_points(node: fx.Node, memo: dict[fx.Node, torch.Tensor]) -> torch.Tensor:
    if node not in memo:
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: _at_points(n, memo))
        # The out-of-place form: an in-place operator would change the points.
        target: Any = (
            getattr(aten, kind_of(node).removesuffix("_"), node.target)
            if node.target is not quick_gelu
            else quick_gelu
        )
        memo[node] = target(*args, **kwargs)
    return memo[node]
