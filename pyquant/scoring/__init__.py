"""How `pyquant.sensitivity` measures: which candidates a site tries, running scores, interrupted runs."""

from __future__ import annotations

from pyquant.scoring.checkpoint import Checkpoint, model_digest
from pyquant.scoring.output_scope import OutputScores
from pyquant.scoring.site_scope import SITE_SCORES, SiteScores
from pyquant.scoring.trials import Trial, make_trials

__all__ = ["SITE_SCORES", "Checkpoint", "OutputScores", "SiteScores", "Trial", "make_trials", "model_digest"]
