"""A fused qkv projection becomes three linears, each with its own grid.

Nothing is assumed about how the fused result is cut up (view, permute, unbind, chunk, split, select ...): the
views between the linear and each attention operand are replayed on element numbers, which tells exactly which
output channels the operand reads and in which order.
"""

from __future__ import annotations

import math

import torch
from torch import fx

from pyquant.graph.aten import (
    add_node,
    argument,
    aten,
    base_of,
    concrete,
    evaluate,
    node_argument,
    shape_of,
    uses,
)
from pyquant.graph.capture import Captured

__all__ = ["split_qkv"]

_BATCH = 3  # any batch shows the pattern; 3 differs from most real sizes


def split_qkv(captured: Captured) -> None:
    """Split each linear that feeds more than one operand of attention."""
    operands: dict[fx.Node, list[tuple[fx.Node, int]]] = {}
    for node in captured.graph.nodes:
        if uses(node, aten.scaled_dot_product_attention.default):
            for position in range(3):
                source = base_of(node_argument(node, position))
                if uses(source, aten.linear.default):
                    operands.setdefault(source, []).append((node, position))
    for linear, readers in operands.items():
        if len(readers) > 1:
            for attention, position in readers:
                _split(captured, linear, attention, position)


def _split(captured: Captured, linear: fx.Node, attention: fx.Node, position: int) -> None:
    operand = node_argument(attention, position)
    try:
        shape = [concrete(s, _BATCH) for s in shape_of(linear)]
        lead = concrete(shape_of(operand)[0], _BATCH)
    except ValueError:
        return
    channels = shape[-1]
    read = evaluate(operand, {linear: torch.arange(math.prod(shape)).reshape(shape)}, _BATCH)
    merged = read.dim() == 3  # [batch * heads, tokens, d]
    if merged:
        read = read.reshape(_BATCH, lead // _BATCH, *read.shape[1:])
    if read.dim() != 4:
        return
    batch, heads, tokens, depth = read.shape
    channel, row = read % channels, read // channels
    picked, place = channel[0, :, 0, :], row[:, 0, :, 0]
    if not torch.equal(channel, picked[None, :, None, :].expand_as(channel)):
        return
    if not torch.equal(row, place[:, None, :, None].expand_as(row)) or heads * depth >= channels:
        return
    number = torch.arange(batch * tokens)
    token_major = torch.equal(place, number.reshape(batch, tokens))
    if not token_major and not torch.equal(place, number.reshape(tokens, batch).T):
        return
    kind = "qkv"[position]
    with captured.graph.inserting_before(attention):
        weight, bias = (_pick(captured, linear, index, picked.flatten()) for index in (1, 2))
        mine = add_node(captured, aten.linear.default, (linear.args[0], weight, bias), like=linear)
        mine.meta["pq_kind"] = kind
        if len(shape) == 3 and shape[:2] == ([batch, tokens] if token_major else [tokens, batch]):
            apart = add_node(captured, aten.unflatten.int, (mine, 2, [heads, depth]), like=linear)
        else:
            order = [-1, tokens, heads, depth] if token_major else [tokens, -1, heads, depth]
            apart = add_node(captured, aten.reshape.default, (mine, order), like=linear)
        axes = [0, 2, 1, 3] if token_major else [1, 2, 0, 3]
        new = add_node(captured, aten.permute.default, (apart, axes), like=linear)
        if merged:
            new = add_node(captured, aten.reshape.default, (new, [-1, tokens, depth]), like=linear)
    attention.update_arg(position, new)


def _pick(captured: Captured, linear: fx.Node, index: int, channels: torch.Tensor) -> fx.Node | None:
    """Rows of the weight or bias: a slice where they follow each other."""
    source = argument(linear, index)
    if not isinstance(source, fx.Node):
        return None
    first, count = int(channels[0]), len(channels)
    if torch.equal(channels, torch.arange(first, first + count)):
        return add_node(captured, aten.slice.Tensor, (source, 0, first, first + count), like=linear)
    name = f"pq_channels_{linear.name}_{first}"
    captured.root.register_buffer(name, channels.clone(), persistent=False)
    at = captured.graph.create_node("get_attr", name)
    mode = source.meta["val"].fake_mode
    at.meta["val"] = mode.from_tensor(channels)
    return add_node(captured, aten.index_select.default, (source, 0, at), like=linear)
