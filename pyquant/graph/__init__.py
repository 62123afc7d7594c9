"""Models as graphs over sites: capture, normal form, sites, the prepared module, and lowering to a
program."""

from __future__ import annotations

from pyquant.graph.hybrid import HybridModel
from pyquant.graph.prepared import Prepared

__all__ = ["HybridModel", "Prepared"]
