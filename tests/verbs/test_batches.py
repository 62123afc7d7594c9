"""What a loader may yield, and how it becomes a call."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pyquant as pq
from pyquant import batches
from pyquant.batches import arguments, first_batch, target_of
from tests.verbs.models import CLASSES, mlp

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


class Signature(nn.Module):
    """Two required inputs and an optional one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        """Sum."""
        return a + b + self.weight


class Open(Signature):
    def forward(self, a: Tensor, **rest: Tensor) -> Tensor:  # type: ignore[override]
        """Anything."""
        return a


def test_a_tensor_is_the_first_argument() -> None:
    assert arguments(Signature(), X) == ((X,), {})


def test_a_tuple_gives_its_first_items() -> None:
    a, b, label = X, X + 1, torch.arange(5)
    (got_a, got_b), kwargs = arguments(Signature(), (a, b, label))
    assert got_a is a
    assert got_b is b
    assert not kwargs
    assert len(arguments(mlp(), [a, label])[0]) == 1


def test_a_mapping_gives_the_keys_of_the_signature(caplog: pytest.LogCaptureFixture) -> None:
    batches._logged.clear()
    batch = {"b": X, "a": X, "id": 7, "path": "x"}
    with caplog.at_level(logging.INFO, logger="pyquant"):
        for _ in range(3):
            args, kwargs = arguments(Signature(), batch)
    assert args == ()
    assert set(kwargs) == {"a", "b"}
    messages = [r.getMessage() for r in caplog.records if r.name == "pyquant"]
    assert messages == ["batch: ignored keys id, path, which Signature does not take"]


def test_an_open_signature_takes_its_named_keys() -> None:
    assert set(arguments(Open(), {"a": X, "b": X})[1]) == {"a"}
    assert set(arguments(Open(), {"b": X}, drop=())[1]) == {"b"}


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": X}, "none of the keys"),
        ((), "starts with a tensor"),
        (("a", X), "starts with a tensor"),
        (3, "expected a tensor, a mapping or a tuple, got int"),
        ("text", "got str"),
        (None, "got NoneType"),
    ],
)
def test_other_batches_are_type_errors(batch: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        arguments(Signature(), batch)


def test_tensors_move_to_the_model() -> None:
    """On the meta device, which every machine has."""
    model = Signature().to("meta")
    assert arguments(model, X)[0][0].device.type == "meta"
    assert arguments(model, (X, X))[0][1].device.type == "meta"
    assert arguments(model, {"a": X})[1]["a"].device.type == "meta"
    assert arguments(nn.Identity(), X)[0][0] is X  # no parameter, no device


def test_targets() -> None:
    y = torch.arange(5)
    assert target_of({"x": X, "labels": y}) is y
    assert target_of({"x": X, "label": y}) is y
    assert target_of({"x": X}) is None
    assert target_of((X, y)) is y
    assert target_of((X, y), inputs=2) is None  # both are inputs
    assert target_of((X, X, y), inputs=2) is y
    assert target_of(X) is None
    assert target_of((X, "name")) is None


def test_an_iterator_does_not_lose_its_first_batch() -> None:
    first, everything = first_batch(iter([1, 2, 3]), "calib")
    assert first == 1
    assert list(everything()) == [1, 2, 3]
    with pytest.raises(ValueError, match="calib: expected at least one batch"):
        first_batch([], "calib")


def test_quantize_sees_every_batch_of_an_iterator() -> None:
    """The largest value is in the first batch, and the loader can be read once only."""
    data = [torch.full((2, 4), 9.0), X, X]
    config = {"base": {"observer": "minmax", "residual_observer": "minmax"}}
    once = pq.quantize(mlp(), iter(data), config, progress=False)
    again = pq.quantize(mlp(), data, config, progress=False)
    assert float(once.sites()["x"].output.scale) == float(again.sites()["x"].output.scale)
    assert float(once.sites()["x"].observer.maximum) == 9.0


def test_batches_of_every_form_calibrate_alike() -> None:
    y = torch.zeros(5, dtype=torch.long)
    scales = []
    for batch in (X, (X, y), [X, y], {"x": X, "labels": y}):
        prepared = pq.quantize(mlp(), [batch], progress=False)
        scales.append([float(site.output.scale) for site in prepared.sites().values()])
        assert pq.evaluate(prepared, [batch], progress=False).logits.shape == (5, CLASSES)
    assert all(each == scales[0] for each in scales)


def test_forward_overrides() -> None:
    calls = []

    def forward(model: nn.Module, batch: Any) -> Any:
        calls.append(batch["image"])
        return model(batch["image"])

    prepared = pq.prepare(mlp(), X)
    pq.calibrate(prepared, [{"image": X}], forward=forward, progress=False)
    assert len(calls) == 1
    evaluation = pq.evaluate(prepared, [{"image": X}], forward=forward, progress=False)
    assert len(calls) == 2
    assert evaluation.count == 5
