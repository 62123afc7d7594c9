"""Assignment: a candidate for each site, from a sensitivity table, under budgets. Needs no torch."""

from __future__ import annotations

from pyquant.assignment.assign import assign
from pyquant.assignment.objective import unified_scores
from pyquant.assignment.plan import Alternative, Change, Choice, Plan, PlanDiff, as_plan

__all__ = [
    "Alternative",
    "Change",
    "Choice",
    "Plan",
    "PlanDiff",
    "as_plan",
    "assign",
    "unified_scores",
]
