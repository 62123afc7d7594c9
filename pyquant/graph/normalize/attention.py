"""softmax(q @ k.T * scale + mask) @ v, however it is written, becomes one scaled_dot_product_attention."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import fx

from pyquant.graph.aten import add_node, argument, aten, int_argument, is_float, kind_of, replace, uses
from pyquant.graph.capture import Captured
from pyquant.graph.marks import Drop, is_mark, mark
from pyquant.graph.normalize.elementwise import scalar_factor

__all__ = ["fuse_attention"]

_PRODUCTS = (aten.matmul.default, aten.bmm.default)
# A score filled with this or less has weight 0 in float32 beside any other. (Where a whole row is filled,
# float spreads the weight evenly or gives NaN; the integer attention gives 0.)
_EXCLUDED = -1e4


@dataclass
class _Scores:
    """What stands between softmax and the product of q and k."""

    scale: float = 1.0
    additive: fx.Node | None = None
    excluded: fx.Node | None = None  # Boolean, true where a key must not be seen
    swapped: bool = False  # the product is k @ q.T, transposed afterwards
    q: fx.Node | None = None
    k_transposed: fx.Node | None = None


def fuse_attention(captured: Captured) -> None:
    """Rewrite every match whose probabilities nobody else reads."""
    for node in list(captured.graph.nodes):
        if not uses(node, aten.softmax.int, aten._softmax.default):
            continue
        if node.args[1] not in (-1, node.meta["val"].dim() - 1) or len(node.users) != 1:
            continue
        weights, marks = _marked(captured, node)
        context = next(iter(weights.users))
        if not uses(context, *_PRODUCTS) or context.args[0] is not weights:
            continue
        value, scores = context.args[1], _scores(node.args[0])
        if scores is None or not isinstance(value, fx.Node) or value.meta["val"].dim() < 3:
            continue
        with captured.graph.inserting_before(context):
            key, query = scores.k_transposed, scores.q
            if scores.swapped:
                query, key = add_node(captured, aten.transpose.int, (key, -2, -1), like=context), query
            else:
                key = add_node(captured, aten.transpose.int, (key, -2, -1), like=context)
            new = add_node(
                captured,
                aten.scaled_dot_product_attention.default,
                (query, key, value, _mask(captured, scores, context), 0.0, False),
                kwargs={"scale": scores.scale},
                like=context,
            )
            for number, extras in marks:
                drop = captured.marks[number]
                assert isinstance(drop, Drop)
                captured.marks[number] = dataclasses.replace(drop, kind="attention", what="attention dropout")
                new = add_node(captured, mark, (new, number, extras), like=context)
        replace(captured, context, new)


def _marked(captured: Captured, weights: fx.Node) -> tuple[fx.Node, list[tuple[int, Any]]]:
    """Through dropout of the probabilities (`marks.py`) that one node reads, and what it was."""
    marks: list[tuple[int, Any]] = []
    while True:
        user = next(iter(weights.users))
        if not is_mark(user) or len(user.users) != 1:
            return weights, marks
        key = int_argument(user, 1)
        drop = captured.marks[key]
        if not isinstance(drop, Drop) or drop.kind != "dropout":
            return weights, marks
        marks.append((key, user.args[2]))
        weights = user


def _mask(captured: Captured, scores: _Scores, like: fx.Node) -> fx.Node | None:
    """One mask for both kinds."""
    if scores.excluded is None:
        return scores.additive
    if scores.additive is None:
        return add_node(captured, aten.logical_not.default, (scores.excluded,), like=like)
    return add_node(
        captured, aten.masked_fill.Scalar, (scores.additive, scores.excluded, float("-inf")), like=like
    )


def _scores(node: Any) -> _Scores | None:
    """Walk up from softmax's argument through masks and any number of positive factors to the product."""
    found = _Scores()
    while isinstance(node, fx.Node) and len(node.users) == 1:
        if uses(node, *_PRODUCTS) or (uses(node, aten.baddbmm.default) and not node.kwargs):
            return _finish(found, node)
        factor = scalar_factor(node)
        if factor is not None:
            node, found.scale = factor[0], found.scale * factor[1]
        elif (
            uses(node, aten.add.Tensor)
            and not node.kwargs
            and found.additive is None
            and found.scale == 1.0
            and not found.swapped
        ):
            # A factor below would scale the mask too. Either side may be the mask; the other leads to the
            # product.
            left, right = node.args
            if not (isinstance(left, fx.Node) and isinstance(right, fx.Node)):
                return None
            node, found.additive = (left, right) if _leads_to_product(left) else (right, left)
        elif (
            uses(node, aten.masked_fill.Scalar, aten.masked_fill_.Scalar)
            and found.excluded is None
            and not found.swapped
        ):
            inner, mask, value = node.args
            if not isinstance(value, (int, float)) or value > _EXCLUDED or not isinstance(mask, fx.Node):
                return None
            node, found.excluded = inner, mask
        elif uses(node, aten.transpose.int) and not found.swapped and _last_two(node):
            node, found.swapped = node.args[0], True
        else:
            return None
    return None


def _last_two(node: fx.Node) -> bool:
    rank = node.meta["val"].dim()
    return {int(d) % rank for d in node.args[1:3]} == {rank - 2, rank - 1}  # type: ignore[arg-type]


def _leads_to_product(node: Any) -> bool:
    while isinstance(node, fx.Node):
        if uses(node, *_PRODUCTS, aten.baddbmm.default):
            return True
        factor = scalar_factor(node)
        if factor is None and not uses(node, aten.transpose.int, aten.masked_fill.Scalar, aten.add.Tensor):
            return False
        node = argument(node, 0) if factor is None else factor[0]
    return False


def _finish(found: _Scores, product: fx.Node) -> _Scores | None:
    operands = list(product.args)
    if kind_of(product) == "baddbmm":
        mask = operands.pop(0)
        if found.additive is not None or found.scale != 1.0 or found.swapped or not isinstance(mask, fx.Node):
            return None
        found.additive = mask
    q, k = operands
    if not (isinstance(q, fx.Node) and isinstance(k, fx.Node) and is_float(q) and is_float(k)):
        return None
    if q.meta["val"].dim() < 3 or k.meta["val"].dim() < 3:
        return None
    for position, operand in enumerate((q, k)):
        factor = scalar_factor(operand)
        if factor is not None and factor[1] > 0:
            found.scale *= factor[1]
            q, k = (factor[0], k) if position == 0 else (q, factor[0])
    if found.scale <= 0:
        return None
    found.q, found.k_transposed = q, k
    return found
