"""The public verbs, one a file. Each takes values and gives a value."""

from __future__ import annotations

from pyquant.verbs.calibrate import calibrate
from pyquant.verbs.compare import compare
from pyquant.verbs.convert import convert
from pyquant.verbs.evaluate import evaluate
from pyquant.verbs.modes import mode, set_mode
from pyquant.verbs.prepare import prepare
from pyquant.verbs.quantize import quantize
from pyquant.verbs.sensitivity import sensitivity

__all__ = [
    "calibrate",
    "compare",
    "convert",
    "evaluate",
    "mode",
    "prepare",
    "quantize",
    "sensitivity",
    "set_mode",
]
