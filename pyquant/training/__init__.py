"""What a training script adds: parameter groups, a schedule of modes, distillation."""

from __future__ import annotations

from pyquant.training.distillation import Distillation
from pyquant.training.groups import param_groups
from pyquant.training.schedule import Phase, Schedule

__all__ = ["Distillation", "Phase", "Schedule", "param_groups"]
