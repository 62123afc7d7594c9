"""One prepared and calibrated model of each family, made once; tests that change one take a copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pyquant as pq
from tests.model.zoo import ZOO, Batch, Entry, logits_of

# Everything that has a state of its own: 8-bit edges by histogram, weights by search.
CONFIG = {"base": {"weight_observer": "mse"}}


@dataclass
class Case:
    """A model of the zoo, prepared with labels if it takes them, and calibrated."""

    name: str
    entry: Entry
    model: nn.Module
    prepared: pq.Prepared
    batch: Batch
    labels: Tensor
    expected: Tensor  # logits of `prepared` on `batch`

    def example(self) -> dict[str, Any]:
        """What `prepare` was given."""
        return example_of(self.entry)

    def prepare_again(self) -> pq.Prepared:
        """A fresh model, not calibrated."""
        return pq.prepare(self.model, self.example(), CONFIG)


def example_of(entry: Entry) -> dict[str, Any]:
    example: dict[str, Any] = dict(entry.batch(2, 0))
    if entry.takes_labels:
        example["labels"] = torch.zeros(2, dtype=torch.long)
    return example


_MADE: dict[str, Case] = {}


def make_case(name: str) -> Case:
    if name not in _MADE:
        entry = ZOO[name]
        model = entry.make()
        prepared = pq.prepare(model, example_of(entry), CONFIG)
        batch = entry.batch(5, 1)
        pq.calibrate(prepared, [entry.batch(8, 0), batch], progress=False)
        with torch.no_grad():
            expected = logits_of(prepared(**batch))
        _MADE[name] = Case(name, entry, model, prepared, batch, torch.tensor([0, 1, 2, 0, 1]), expected)
    return _MADE[name]


@pytest.fixture(params=list(ZOO))
def case(request: pytest.FixtureRequest) -> Case:
    """Each model of the zoo."""
    return make_case(request.param)


@pytest.fixture(params=[name for name, entry in ZOO.items() if entry.takes_labels])
def labelled(request: pytest.FixtureRequest) -> Case:
    """Those that compute their own loss."""
    return make_case(request.param)
