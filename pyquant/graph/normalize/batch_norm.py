"""Fold batch norm (running statistics) into the convolution or linear before it.

The folded weight is a small expression in the graph, gamma / sqrt(var + eps) * w, so that the parameters keep
their names and still train; statistics are frozen, as they are in the integer program.

Where the model is captured to follow the statistics of its batches in training (`Captured.norms`), a mark
behind the folded layer says so, or behind the batch norm where it cannot be folded.
"""

from __future__ import annotations

from dataclasses import replace as with_fields

from torch import fx

from pyquant.graph.aten import add_node, aten, kind_of, replace, uses
from pyquant.graph.capture import Captured
from pyquant.graph.marks import mark

__all__ = ["fold_batch_norm"]


def fold_batch_norm(captured: Captured) -> None:
    """conv2d / conv1d / linear -> batch norm, where nobody else reads the convolution."""
    for node in list(captured.graph.nodes):
        if kind_of(node) != "_native_batch_norm_legit_no_training":
            continue
        source, gamma, beta, mean, variance, _, epsilon = node.args
        if not (isinstance(source, fx.Node) and isinstance(mean, fx.Node) and isinstance(variance, fx.Node)):
            continue
        results = [user for user in node.users if kind_of(user) == "getitem" and user.args[1] == 0]
        if (
            not uses(source, aten.conv2d.default, aten.conv1d.default, aten.linear.default)
            or len(source.users) != 1
            or (uses(source, aten.linear.default) and source.meta["val"].dim() != 2)  # channels: axis 1
        ):
            for result in results:
                _mark(captured, node, result, {})
            continue
        target = source.target
        assert not isinstance(target, str)
        captured.removed.append((captured.paths.get(node.name, ""), "batch norm, folded into the weights"))
        with captured.graph.inserting_before(source):
            shifted = add_node(captured, aten.add.Scalar, (variance, epsilon), like=source)
            factor = add_node(captured, aten.rsqrt.default, (shifted,), like=source)
            if isinstance(gamma, fx.Node):
                factor = add_node(captured, aten.mul.Tensor, (factor, gamma), like=source)
            weight = source.args[1]
            assert isinstance(weight, fx.Node)
            ones = [1] * (weight.meta["val"].dim() - 1)
            column = add_node(captured, aten.reshape.default, (factor, [-1, *ones]), like=source)
            folded = add_node(captured, aten.mul.Tensor, (weight, column), like=source)
            bias = source.args[2] if len(source.args) > 2 else None
            offset = add_node(captured, aten.mul.Tensor, (mean, factor), like=source)
            if isinstance(bias, fx.Node):
                scaled = add_node(captured, aten.mul.Tensor, (bias, factor), like=source)
                offset = add_node(captured, aten.sub.Tensor, (scaled, offset), like=source)
            else:
                offset = add_node(captured, aten.neg.default, (offset,), like=source)
            if isinstance(beta, fx.Node):
                offset = add_node(captured, aten.add.Tensor, (offset, beta), like=source)
            new = add_node(captured, target, (source.args[0], folded, offset, *source.args[3:]), like=source)
        named = {
            "weight": weight,
            "bias": bias,
            "gamma": gamma,
            "beta": beta,
            "mean": mean,
            "variance": variance,
        }
        new = _mark(captured, node, new, named)
        for result in results:
            replace(captured, result, new)


def _mark(captured: Captured, norm: fx.Node, result: fx.Node, named: dict[str, object]) -> fx.Node:
    """A mark behind `result`, which its readers then read; `result` itself if the statistics are frozen."""
    template = captured.norms.get(captured.paths.get(norm.name, ""))
    if template is None:
        return result
    given = {name: value for name, value in named.items() if isinstance(value, fx.Node)}
    key = max(captured.marks, default=-1) + 1
    captured.marks[key] = with_fields(template, given=tuple(given))
    with captured.graph.inserting_after(result):
        new = add_node(captured, mark, (result, key, list(given.values())), like=norm)
    result.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    return new
