"""Site kinds. A new one is a class here and its `@register` row."""

from __future__ import annotations

from pyquant.graph.sites.arithmetic import AddSite, MeanSite, ScaleSite
from pyquant.graph.sites.attention import AttentionSite
from pyquant.graph.sites.base import MODES, REGISTRY, Match, Operand, Outcome, Rows, Site
from pyquant.graph.sites.layer_norm import LayerNormSite
from pyquant.graph.sites.linear import LinearSite
from pyquant.graph.sites.movement import ConcatSite, EmbeddingSite, QuantizeSite, RequantizeSite
from pyquant.graph.sites.softmax import SoftmaxSite
from pyquant.graph.sites.unary import UnarySite

__all__ = [
    "MODES",
    "REGISTRY",
    "AddSite",
    "AttentionSite",
    "ConcatSite",
    "EmbeddingSite",
    "LayerNormSite",
    "LinearSite",
    "Match",
    "MeanSite",
    "Operand",
    "Outcome",
    "QuantizeSite",
    "RequantizeSite",
    "Rows",
    "ScaleSite",
    "Site",
    "SoftmaxSite",
    "UnarySite",
]
