"""Passes that bring a captured ATen graph to the normal form that sites are made from.

Normal form: ``linear``, ``scaled_dot_product_attention``, ``layer_norm``, ``rms_norm``, element-wise
functions, ``add.Tensor``, ``mean.dim``, ``cat``, ``embedding`` and views. What no pass knows stays as it is,
and stays float.

Each pass is one file with one function ``(Captured) -> None``; `PASSES` gives their order.
"""

from __future__ import annotations

from pyquant.graph.capture import Captured, Pass
from pyquant.graph.normalize.attention import fuse_attention
from pyquant.graph.normalize.batch_norm import fold_batch_norm
from pyquant.graph.normalize.causal import write_out_causal
from pyquant.graph.normalize.constants import drop_open_masks, fold_constants, fold_repeated
from pyquant.graph.normalize.einsum import einsum_to_matmul
from pyquant.graph.normalize.elementwise import unify_elementwise
from pyquant.graph.normalize.patches import patches_to_linear
from pyquant.graph.normalize.qkv import split_qkv
from pyquant.graph.normalize.repeated import repeat_last
from pyquant.graph.normalize.simplify import simplify

__all__ = ["PASSES", "normalize"]

PASSES: tuple[Pass, ...] = (
    einsum_to_matmul,
    simplify,
    fold_constants,
    fold_repeated,
    fold_batch_norm,
    patches_to_linear,
    unify_elementwise,
    fuse_attention,
    write_out_causal,
    drop_open_masks,
    split_qkv,
    repeat_last,
)


def normalize(captured: Captured) -> Captured:
    """Run all passes in order, in place."""
    for each in PASSES:
        each(captured)
        captured.graph.eliminate_dead_code(lambda node: node.op in {"placeholder", "output"})
    captured.graph.lint()
    return captured
