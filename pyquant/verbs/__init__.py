"""The public verbs, one a file. Each takes values and gives a value."""

from __future__ import annotations

from pyquant.verbs.calibrate import calibrate
from pyquant.verbs.compare import compare
from pyquant.verbs.convert import convert
from pyquant.verbs.evaluate import evaluate
from pyquant.verbs.finish_calibration import finish_calibration
from pyquant.verbs.modes import mode, set_mode
from pyquant.verbs.observations import merge_observations, save_observations
from pyquant.verbs.observe import observe
from pyquant.verbs.prepare import prepare
from pyquant.verbs.quantize import quantize
from pyquant.verbs.sensitivity import sensitivity

__all__ = [
    "calibrate",
    "compare",
    "convert",
    "evaluate",
    "finish_calibration",
    "merge_observations",
    "mode",
    "observe",
    "prepare",
    "quantize",
    "save_observations",
    "sensitivity",
    "set_mode",
]
