"""What `pyquant.sensitivity` found, as a value: rows, files, pictures. Needs no torch."""

from __future__ import annotations

from pyquant.sensitivity_table.rows import SCORES, Score, SensitivityRow
from pyquant.sensitivity_table.table import SensitivityTable

__all__ = ["SCORES", "Score", "SensitivityRow", "SensitivityTable"]
