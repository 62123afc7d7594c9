"""Training passes: which one this is, whether it runs again, and errors that say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pyquant.errors import CalibrationError

__all__ = ["PASSES", "SiteError", "in_pass", "recomputing", "uncounted"]

PASSES = "pq_training_passes"
"""The buffer of `Prepared` that counts, int64 []."""


def recomputing() -> bool:
    """Whether autograd runs a forward pass again, for activations that checkpointing did not keep.

    Such a pass must leave no trace: what it counts or observes, the first one has counted and observed. Both
    kinds of `torch.utils.checkpoint` run it inside the engine's backward pass, whoever called them.
    """
    if torch.compiler.is_compiling():
        return False  # compiled graphs are recomputed by the compiler, without this code
    return bool(torch._C._current_graph_task_id() != -1)


@contextmanager
def uncounted(prepared: Any) -> Iterator[None]:
    """No pass of a `Prepared` counts: it records gradients for another end than training."""
    before = prepared._counts_passes
    prepared._counts_passes = False
    try:
        yield
    finally:
        prepared._counts_passes = before


class SiteError(RuntimeError):
    """An op refused its operands: what it said, with the name of its site, and what to do about it."""

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message + advice)
        self.message, self.advice = message, advice


def in_pass(error: SiteError | CalibrationError, number: int) -> Exception:
    """The same error, with the number of the training pass."""
    where = f", in training pass {number:,}"
    if isinstance(error, SiteError):
        return RuntimeError(f"{error.message}{where}{error.advice}")
    return CalibrationError(f"{error}{where}")
