"""attention: scores, softmax and context as one composite site."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from pyquant.config import SiteConfig
from pyquant.graph.aten import aten, is_float, uses
from pyquant.graph.capture import Captured
from pyquant.graph.grid import Edge
from pyquant.graph.sites.base import Match, Site, register

if TYPE_CHECKING:
    from pyquant.graph.lower import Lowering


@register
class AttentionSite(Site):
    """`aten.scaled_dot_product_attention`; its name ends in ``.context``, its sub-sites in ``.scores``, ``.softmax``."""

    kind = "attention"
    symmetric_operands = (0, 1, 2)

    def __init__(
        self, name: str, config: SiteConfig, wide: bool, symmetric: bool, *, scale: float, is_causal: bool,
        enable_gqa: bool,
    ) -> None:
        super().__init__(name, config, wide, symmetric)
        self.scale, self.is_causal, self.enable_gqa = scale, is_causal, enable_gqa

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """q, k, v of at least three axes."""
        if not uses(node, aten.scaled_dot_product_attention.default):
            return None
        q, k, v, mask, dropout, causal = (*node.args, *(None, 0.0, False)[len(node.args) - 3:])
        assert isinstance(q, fx.Node) and isinstance(k, fx.Node) and isinstance(v, fx.Node)
        if q.meta["val"].dim() < 3:
            return "attention over fewer than three axes"
        if k.meta["val"].shape[-1] != v.meta["val"].shape[-1]:
            return "the head size of v differs from that of k"
        depth = int(q.meta["val"].shape[-1])
        scale = node.kwargs.get("scale")
        settings = (
            ("scale", float(scale) if scale is not None else 1.0 / math.sqrt(depth)),  # type: ignore[arg-type]
            ("is_causal", bool(node.kwargs.get("is_causal", causal))),
            ("enable_gqa", bool(node.kwargs.get("enable_gqa", False))),
        )
        mask = node.kwargs.get("attn_mask", mask)
        if isinstance(mask, fx.Node) and is_float(mask) and mask.meta["val"].dtype != torch.float32:
            return "a mask that is not float32"
        return Match((q, k, v), (mask,), "context", settings)

    def real(self, q: Edge, k: Edge, v: Edge, mask: Tensor | None) -> Tensor:  # type: ignore[override]
        """Float attention."""
        return F.scaled_dot_product_attention(
            q[0], k[0], v[0], mask, 0.0, self.is_causal, scale=self.scale, enable_gqa=self.enable_gqa)

    def integer(self, q: Edge, k: Edge, v: Edge, mask: Tensor | None) -> Tensor:  # type: ignore[override]
        """attention_s8."""
        return torch.ops.pyquant.attention(
            *self.grid(0, q), *self.grid(1, k), *self.grid(2, v), mask, self.is_causal, self.scale,
            self.config.softmax, *self.y_grid)

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One ATTENTION instruction that reads q, k, v with the strides they have."""
        to.attention(self, node)
