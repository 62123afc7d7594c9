"""is_causal with fewer queries than keys, or more, as an explicit mask.

torch aligns its causal triangle with the first key, the integer op with the last (a decoder's view, in
which the last query sees every key). For as many queries as keys the two agree; otherwise the mask is
written out.
"""

from __future__ import annotations

import torch
from torch import fx

from pyquant.graph.aten import aten, batch_factor, uses
from pyquant.graph.capture import Captured

__all__ = ["write_out_causal"]


def write_out_causal(captured: Captured) -> None:
    """Replace ``is_causal=True`` by torch's Boolean triangle where the lengths differ."""
    for node in list(captured.graph.nodes):
        if not uses(node, aten.scaled_dot_product_attention.default):
            continue
        positional = list(node.args[3:])
        causal = node.kwargs.get("is_causal", positional[2] if len(positional) > 2 else False)
        query, key = node.args[0], node.args[1]
        if not causal or not isinstance(query, fx.Node) or not isinstance(key, fx.Node):
            continue
        q_len, k_len = query.meta["val"].shape[-2], key.meta["val"].shape[-2]
        if batch_factor(q_len) is not None or batch_factor(k_len) is not None or int(q_len) == int(k_len):
            continue
        mask = torch.ones(int(q_len), int(k_len), dtype=torch.bool).tril()
        name = f"pq_causal_{node.name}"
        captured.root.register_buffer(name, mask, persistent=False)
        with captured.graph.inserting_before(node):
            new = captured.graph.create_node("get_attr", name)
        new.meta["val"] = query.meta["val"].fake_mode.from_tensor(mask)
        node.args = (*node.args[:3], new, 0.0, False)
        node.kwargs = {k: v for k, v in node.kwargs.items() if k in ("scale", "enable_gqa")}
