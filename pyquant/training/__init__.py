"""What a training script adds: parameter groups, a schedule of modes, distillation, frozen batch norms."""

from __future__ import annotations

from pyquant.training.batch_norm import freeze_batch_norm
from pyquant.training.distillation import Distillation
from pyquant.training.groups import param_groups
from pyquant.training.schedule import Phase, Schedule

__all__ = ["Distillation", "Phase", "Schedule", "freeze_batch_norm", "param_groups"]
