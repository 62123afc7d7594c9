"""`pyquant.report`: what is known of a quantized model, on one page of HTML."""

from __future__ import annotations

from pyquant.reporting.report import report

__all__ = ["report"]
