"""The public names: adding, renaming or removing one is a decision, made in this list."""

from __future__ import annotations

import pyquant

PUBLIC = """
CalibrationError Candidate CaptureError Coverage CoverageError CoverageRow Distillation HybridModel
IntegerModel MissingTorchError Output Phase Plan Prepared ProgramBuilder ProgramError QParams QuantConfig
Schedule SensitivityTable SiteConfig __version__ assign calibrate compare convert costs evaluate
finish_calibration freeze_batch_norm merge_observations metrics mode numerics observe ops param_groups
prepare qparams_from_range quantize quantizers report save_observations sensitivity set_mode
"""


def test_public_names() -> None:
    assert sorted(pyquant.__all__) == sorted(PUBLIC.split())


def test_they_exist_and_are_listed_by_dir() -> None:
    for name in pyquant.__all__:
        assert getattr(pyquant, name) is not None
    assert set(pyquant.__all__) <= set(dir(pyquant))
