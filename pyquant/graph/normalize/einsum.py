"""einsum of two operands becomes matmul between permutes, which cost nothing."""

from __future__ import annotations

from torch import fx

from pyquant.graph.aten import add_node, argument, aten, replace, shape_of, uses
from pyquant.graph.capture import Captured

__all__ = ["einsum_to_matmul"]


def einsum_to_matmul(captured: Captured) -> None:
    """Products that contract at least one axis; sums, diagonals and more than two operands stay."""
    for node in list(captured.graph.nodes):
        if not uses(node, aten.einsum.default):
            continue
        operands = argument(node, 1)
        if len(operands) != 2:
            continue
        labels = _labels(str(node.args[0]), operands[0], operands[1])
        if labels is not None:
            with captured.graph.inserting_before(node):
                new = _product(captured, node, operands[0], operands[1], *labels)
            if new is not None:
                replace(captured, node, new)


def _labels(equation: str, a: fx.Node, b: fx.Node) -> tuple[str, str, str] | None:
    """Labels of both operands and the result, an ellipsis spelled out in capital letters."""
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    if not arrow or inputs.count(",") != 1 or any(c.isupper() for c in equation):
        return None
    names = []
    for text, operand in zip(inputs.split(","), (a, b), strict=True):
        free = len(shape_of(operand)) - len(text.replace("...", ""))
        names.append(text.replace("...", "ABCDEFGH"[8 - free :]))
    longest = max((len([c for c in name if c.isupper()]) for name in names), default=0)
    result = result.replace("...", "ABCDEFGH"[8 - longest :])
    if any(len(set(name)) != len(name) for name in (*names, result)):
        return None
    return names[0], names[1], result


def _product(
    captured: Captured, node: fx.Node, a: fx.Node, b: fx.Node, left: str, right: str, result: str
) -> fx.Node | None:
    shared = [c for c in left if c in right and c in result]
    summed = [c for c in left if c in right and c not in result]
    rows = [c for c in left if c not in right]
    columns = [c for c in right if c not in left]
    if not summed or not rows or not set(rows + columns) <= set(result):
        return None
    sizes = dict(zip(left + right, (*shape_of(a), *shape_of(b)), strict=True))

    def arranged(operand: fx.Node, have: str, want: list[str]) -> fx.Node:
        order = [have.index(c) for c in want]
        return (
            operand
            if order == sorted(order)
            else add_node(captured, aten.permute.default, (operand, order), like=node)
        )

    def joined(operand: fx.Node, first: int, last: int) -> fx.Node:
        return (
            operand
            if first == last
            else add_node(captured, aten.flatten.using_ints, (operand, first, last), like=node)
        )

    def parted(operand: fx.Node, axis: int, group: list[str]) -> fx.Node | None:
        if len(group) == 1:
            return operand
        lengths = [sizes[c] if isinstance(sizes[c], int) else -1 for c in group]
        if lengths.count(-1) > 1:
            return None
        return add_node(captured, aten.unflatten.int, (operand, axis, lengths), like=node)

    lead = len(shared)
    x = arranged(a, left, [*shared, *rows, *summed])
    y = arranged(b, right, [*shared, *summed, *columns])
    x = joined(x, lead + len(rows), lead + len(rows) + len(summed) - 1)
    y = joined(y, lead, lead + len(summed) - 1)
    y = (
        joined(y, lead + 1, lead + len(columns))
        if columns
        else add_node(captured, aten.unsqueeze.default, (y, -1), like=node)
    )
    if shared:
        x = joined(x, lead, lead + len(rows) - 1)
    product: fx.Node | None = add_node(captured, aten.matmul.default, (x, y), like=node)
    assert product is not None
    if not columns:
        product = add_node(captured, aten.squeeze.dim, (product, -1), like=node)
    else:
        product = parted(product, len(product.meta["val"].shape) - 1, columns)
    if product is not None and shared:
        product = parted(product, lead, rows)
    return None if product is None else arranged(product, "".join([*shared, *rows, *columns]), list(result))
