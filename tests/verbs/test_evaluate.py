"""evaluate: metrics by hand, targets from where loaders put them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pyquant as pq
from pyquant.verbs.evaluate import Evaluation
from tests.verbs.models import CLASSES, mlp


class Table(nn.Module):
    """Logits are the input."""

    def forward(self, x: Tensor) -> Tensor:
        """Identity."""
        return x


def evaluation(logits: Any) -> Evaluation:
    array = np.array(logits, dtype=np.float32)
    return Evaluation(0.0, 0.0, 0.0, len(array), array)


LOGITS = torch.tensor([[2.0, 0.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, -3.0], [0, 0, 5.0, 0, 0, -1.0]])


def test_metrics_by_hand() -> None:
    """Right, wrong but among five, wrong and last of six."""
    labels = torch.tensor([0, 2, 5])
    found = pq.evaluate(Table(), [(LOGITS, labels)], progress=False)
    assert found.count == 3
    assert found.top1 == pytest.approx(100 / 3)
    assert found.top5 == pytest.approx(200 / 3)
    rows = [[math.exp(v) for v in row] for row in LOGITS.tolist()]
    by_hand = -sum(math.log(row[int(y)] / sum(row)) for row, y in zip(rows, labels, strict=True)) / 3
    assert found.loss == pytest.approx(by_hand)
    assert np.array_equal(found.logits, LOGITS.numpy())
    assert str(found) == f"top-1 33.33 %, loss {found.loss:.4f}, 3 samples"


def test_large_logits_do_not_overflow() -> None:
    found = pq.evaluate(Table(), [(LOGITS * 1e4, torch.tensor([0, 1, 2]))], progress=False)
    assert found.loss == pytest.approx(0.0)


def test_batches_are_put_together() -> None:
    labels = torch.tensor([0, 1, 2])
    one = pq.evaluate(Table(), [(LOGITS, labels)], progress=False)
    loader = [(LOGITS[i : i + 1], labels[i : i + 1]) for i in range(3)]
    many = pq.evaluate(Table(), iter(loader), progress=False)
    assert (many.top1, many.top5, many.count) == (one.top1, one.top5, one.count)
    assert many.loss == pytest.approx(one.loss)


@pytest.mark.parametrize("key", ["labels", "label", "target"])
def test_labels_by_key(key: str) -> None:
    found = pq.evaluate(Table(), [{"x": LOGITS, key: torch.tensor([0, 1, 2])}], progress=False)
    assert found.top1 == 100.0


def test_without_labels() -> None:
    for batch in (LOGITS, {"x": LOGITS}, (LOGITS,)):
        found = pq.evaluate(Table(), [batch], progress=False)
        assert math.isnan(found.top1)
        assert math.isnan(found.top5)
        assert math.isnan(found.loss)
        assert found.count == 3


def test_top5_needs_five_classes() -> None:
    found = pq.evaluate(Table(), [(LOGITS[:, :3], torch.tensor([0, 1, 2]))], progress=False)
    assert found.top1 == 100.0
    assert math.isnan(found.top5)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="expected at least one batch, got none"):
        pq.evaluate(Table(), [], progress=False)
    with pytest.raises(ValueError, match="got 3 labels of 6 samples"):
        pq.evaluate(Table(), [(LOGITS, torch.arange(3)), (LOGITS,)], progress=False)


def test_flips_by_hand() -> None:
    a, b = evaluation([[1, 0], [1, 0], [0, 1], [0, 1]]), evaluation([[1, 0], [0, 1], [0, 3], [2, 1]])
    assert a.flips(b) == b.flips(a) == 50.0
    assert a.flips(a) == 0.0
    with pytest.raises(ValueError, match="got 4 and 2"):
        a.flips(evaluation([[1, 0], [0, 1]]))


def test_sqnr_by_hand() -> None:
    """Ratios 5 / 0.5 = 10 and 10 / 0.1 = 100, mean 55; the exact third sample does not count."""
    reference = evaluation([[3, 4], [6, 8], [1, 1]])
    found = evaluation([[3, 4.5], [6.1, 8], [1, 1]])
    assert found.sqnr(reference) == pytest.approx(20 * math.log10(55.0), rel=1e-5)
    assert reference.sqnr(reference) == math.inf
    with pytest.raises(ValueError, match="logits of one shape"):
        found.sqnr(evaluation([[1, 2, 3]]))


@pytest.mark.parametrize(
    "wrap", [lambda y: {"logits": y}, lambda y: (y, 1), lambda y: [y], lambda y: {"out": y}]
)
def test_outputs_of_every_form(wrap: Any) -> None:
    found = pq.evaluate(Table(), [LOGITS], forward=lambda model, x: wrap(model(x)), progress=False)
    assert np.array_equal(found.logits, LOGITS.numpy())


@pytest.mark.parametrize("training", [False, True])
def test_the_training_flag_comes_back(training: bool) -> None:
    seen = []

    class Watch(Table):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(self.training)
            return x

    model = Watch().train(training)
    pq.evaluate(model, [LOGITS], progress=False)
    assert model.training == training
    with pytest.raises(TypeError):
        pq.evaluate(model, [3], progress=False)
    assert model.training == training
    assert seen == [False]


def test_simulation_and_engine_agree() -> None:
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(32) % CLASSES
    model = mlp()
    prepared = pq.quantize(model, [x], progress=False)
    engine = pq.convert(prepared)
    loader = [(x[:20], y[:20]), (x[20:], y[20:])]
    reference, simulated, run = (pq.evaluate(m, loader, progress=False) for m in (model, prepared, engine))
    assert np.array_equal(simulated.logits, run.logits)
    assert simulated.top1 == run.top1
    assert simulated.sqnr(reference) > 25.0
    assert pq.evaluate(engine, [{"x": x, "labels": y}], progress=False).top1 == run.top1
    assert pq.evaluate(engine, [x], progress=False).count == 32
