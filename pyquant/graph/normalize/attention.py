"""softmax(q @ k.T * scale + mask) @ v, however it is written, becomes one scaled_dot_product_attention."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from pyquant.graph.aten import add_node, aten, is_float, replace, uses
from pyquant.graph.capture import Captured
from pyquant.graph.normalize.elementwise import scalar_factor

__all__ = ["fuse_attention"]

_PRODUCTS = (aten.matmul.default, aten.bmm.default)


@dataclass
class _Scores:
    """What stands between softmax and the product of q and k."""

    q: fx.Node
    k_transposed: fx.Node
    scale: float
    mask: fx.Node | None


def fuse_attention(captured: Captured) -> None:
    """Rewrite every match whose probabilities nobody else reads."""
    for node in list(captured.graph.nodes):
        if not uses(node, aten.softmax.int, aten._softmax.default):
            continue
        dim = node.args[1]
        if dim not in (-1, node.meta["val"].dim() - 1) or len(node.users) != 1:
            continue
        context = next(iter(node.users))
        if not uses(context, *_PRODUCTS) or context.args[0] is not node:
            continue
        scores = _scores(node.args[0])
        value = context.args[1]
        if scores is None or not isinstance(value, fx.Node):
            continue
        with captured.graph.inserting_before(context):
            key = add_node(captured, aten.transpose.int, (scores.k_transposed, -2, -1), like=context)
            new = add_node(
                captured, aten.scaled_dot_product_attention.default,
                (scores.q, key, value, scores.mask, 0.0, False), kwargs={"scale": scores.scale}, like=context)
        replace(captured, context, new)


def _scores(node: object) -> _Scores | None:
    """Walk up from softmax's argument through one mask and any number of scalar factors."""
    scale, mask = 1.0, None
    while isinstance(node, fx.Node):
        if len(node.users) != 1:
            return None
        if uses(node, *_PRODUCTS):
            q, k = node.args
            return _finish(q, k, scale, mask)
        if uses(node, aten.baddbmm.default) and mask is None and scale == 1.0 and not node.kwargs:
            mask, q, k = node.args
            return _finish(q, k, scale, mask)
        factor = scalar_factor(node)
        if factor is not None:
            # A factor above the mask would scale the mask too; the mask is only accepted before any factor.
            node, scale = factor[0], scale * factor[1]
            continue
        if uses(node, aten.add.Tensor) and mask is None and scale == 1.0 and not node.kwargs:
            # Either side may be the mask; the other must be the product.
            left, right = node.args
            if not (isinstance(left, fx.Node) and isinstance(right, fx.Node)):
                return None
            node, mask = (left, right) if _leads_to_product(left) else (right, left)
            continue
        return None
    return None


def _leads_to_product(node: fx.Node) -> bool:
    while True:
        if uses(node, *_PRODUCTS):
            return True
        factor = scalar_factor(node)
        if factor is None:
            return False
        node = factor[0]


def _finish(q: object, k: object, scale: float, mask: object) -> _Scores | None:
    if not (isinstance(q, fx.Node) and isinstance(k, fx.Node) and is_float(q) and is_float(k)):
        return None
    if q.meta["val"].dim() < 3:
        return None
    factor = scalar_factor(q)
    if factor is not None and factor[1] > 0:
        q, scale = factor[0], scale * factor[1]
    factor = scalar_factor(k)
    if factor is not None and factor[1] > 0:
        k, scale = factor[0], scale * factor[1]
    if scale <= 0 or (mask is not None and not isinstance(mask, fx.Node)):
        return None
    return _Scores(q, k, scale, mask)
