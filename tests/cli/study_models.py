"""What the tests name on the command line."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from tests.report.pages import labelled
from tests.verbs.models import mlp

__all__ = ["Holder", "batches", "broken", "calibration", "model", "number"]

number = 3


def model() -> nn.Module:
    return mlp()


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Yields, so that one call can be read once."""
    yield from labelled()


def calibration() -> list[tuple[Tensor, Tensor]]:
    return labelled()


def broken() -> nn.Module:
    raise KeyError("no checkpoint")


class Holder:
    """A function inside something."""

    model = staticmethod(model)
