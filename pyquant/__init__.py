"""pyquant: quantize a PyTorch model to integers, and run exactly what you simulated.

``import pyquant`` needs NumPy alone: the integer kernels (`pyquant.ops`) and saved programs
(`IntegerModel`) work without torch. The verbs that start from a model import torch when they are first
used. ``PYQUANT_ISA`` limits the kernels to an instruction set (ref, avx2, avx512, avx512vnni, neon,
neondot); a name that does not exist is a ValueError at import, one that this machine lacks a
NotImplementedError.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pyquant import metrics, numerics, ops
from pyquant._version import __version__
from pyquant.coverage import Coverage, CoverageRow
from pyquant.engine import IntegerModel, Output, ProgramBuilder
from pyquant.errors import CalibrationError, CaptureError, CoverageError, MissingTorchError, ProgramError
from pyquant.qparams import QParams, qparams_from_range

if TYPE_CHECKING:
    from pyquant import costs, quantizers
    from pyquant.assignment.assign import assign
    from pyquant.assignment.plan import Plan
    from pyquant.candidates import Candidate
    from pyquant.config import QuantConfig, SiteConfig
    from pyquant.graph import HybridModel, Prepared
    from pyquant.reporting.report import report
    from pyquant.sensitivity_table import SensitivityTable
    from pyquant.training.batch_norm import freeze_batch_norm
    from pyquant.training.distillation import Distillation
    from pyquant.training.groups import param_groups
    from pyquant.training.schedule import Phase, Schedule
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
    "CalibrationError",
    "Candidate",
    "CaptureError",
    "Coverage",
    "CoverageError",
    "CoverageRow",
    "Distillation",
    "HybridModel",
    "IntegerModel",
    "MissingTorchError",
    "Output",
    "Phase",
    "Plan",
    "Prepared",
    "ProgramBuilder",
    "ProgramError",
    "QParams",
    "QuantConfig",
    "Schedule",
    "SensitivityTable",
    "SiteConfig",
    "__version__",
    "assign",
    "calibrate",
    "compare",
    "convert",
    "costs",
    "evaluate",
    "finish_calibration",
    "freeze_batch_norm",
    "merge_observations",
    "metrics",
    "mode",
    "numerics",
    "observe",
    "ops",
    "param_groups",
    "prepare",
    "qparams_from_range",
    "quantize",
    "quantizers",
    "report",
    "save_observations",
    "sensitivity",
    "set_mode",
]

_LAZY = {
    "Candidate": "pyquant.candidates",
    "Distillation": "pyquant.training",
    "HybridModel": "pyquant.graph",
    "Phase": "pyquant.training",
    "Plan": "pyquant.assignment",
    "Prepared": "pyquant.graph",
    "QuantConfig": "pyquant.config",
    "Schedule": "pyquant.training",
    "SensitivityTable": "pyquant.sensitivity_table",
    "SiteConfig": "pyquant.config",
    "assign": "pyquant.assignment",
    "calibrate": "pyquant.verbs",
    "compare": "pyquant.verbs",
    "convert": "pyquant.verbs",
    "costs": "pyquant.costs",
    "evaluate": "pyquant.verbs",
    "finish_calibration": "pyquant.verbs",
    "freeze_batch_norm": "pyquant.training",
    "merge_observations": "pyquant.verbs",
    "mode": "pyquant.verbs",
    "observe": "pyquant.verbs",
    "param_groups": "pyquant.training",
    "prepare": "pyquant.verbs",
    "quantize": "pyquant.verbs",
    "quantizers": "pyquant.quantizers",
    "report": "pyquant.reporting",
    "save_observations": "pyquant.verbs",
    "sensitivity": "pyquant.verbs",
    "set_mode": "pyquant.verbs",
}


def __getattr__(name: str) -> Any:
    """Names that live in modules which need torch, or more than NumPy."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'pyquant' has no attribute {name!r}")
    try:
        found = importlib.import_module(module)
        value = found if module == f"pyquant.{name}" else getattr(found, name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torch":
            raise
        raise MissingTorchError(
            f"pyquant.{name} needs PyTorch, which is not installed here (import torch failed: {error})",
            name="torch",
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
