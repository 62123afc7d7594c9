"""Costs of candidates, measured or by a model: what the choices of a plan cost. Reading them needs NumPy."""

from __future__ import annotations

from pyquant.costs.counts import MethodCounts, Operations, counts_of
from pyquant.costs.latency import measure_latency
from pyquant.costs.operations import OperationCost, operation_costs
from pyquant.costs.sizes import SiteSize, site_sizes
from pyquant.costs.values import CURRENT, CostRow, Costs
from pyquant.costs.weights import weight_costs

__all__ = [
    "CURRENT",
    "CostRow",
    "Costs",
    "MethodCounts",
    "OperationCost",
    "Operations",
    "SiteSize",
    "counts_of",
    "measure_latency",
    "operation_costs",
    "site_sizes",
    "weight_costs",
]
