"""Errors that have a meaning of their own."""

from __future__ import annotations

from pyquant._C import ProgramError

__all__ = ["CalibrationError", "CaptureError", "CoverageError", "MissingTorchError", "ProgramError"]


class CaptureError(ValueError):
    """A model cannot be captured as a graph; the message names the input or the line."""


class CoverageError(ValueError):
    """Something would stay float although all of it was asked to be integer."""


class CalibrationError(ValueError):
    """Calibration data is missing, not finite, or does not reach a site."""


class MissingTorchError(ImportError):
    """A name of pyquant needs PyTorch, which is not installed."""
