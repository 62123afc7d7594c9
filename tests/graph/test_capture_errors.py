"""What cannot be captured is one clear error; what can leaves the user's model as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pyquant as pq


class DataDependent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:  # this line is named
            return x + 1
        return x - 1


class Specialised(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.reshape(len(pixels), -1) + torch.zeros(2, 1)


class Nested(nn.Module):
    def forward(self, pair: Any) -> Tensor:
        return pair[0] + pair[1]


class Variadic(nn.Module):
    def forward(self, *images: Tensor) -> Tensor:
        return images[0] + images[1]


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return x * 2


class NoTensor(nn.Module):
    def forward(self, count: int = 1) -> Tensor:
        return torch.ones(count)


X = torch.randn(2, 4)


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        (DataDependent(), X, r"DataDependent cannot be exported.*test_capture_errors\.py.*line 16"),
        (Specialised(), X, r"Specialised fixes the batch size.*pixels"),
        (Nested(), {"pair": [X, X]}, r"input 'pair' is a list; inputs must be tensors"),
        (Nested(), {"pair": {"a": X}}, r"input 'pair' is a dict; inputs must be tensors"),
        (Variadic(), X, r"\*images of Variadic.forward is not supported"),
        (Stateful(), X, r"Stateful changes its state in forward \(.*calls"),
        (NoTensor(), {"count": 2}, r"no tensor among \['count'\]"),
        (nn.Linear(4, 2), torch.tensor(1.0), r"'input' is a scalar; its first axis must be the batch"),
        (nn.Bilinear(4, 4, 2), X, r"does not fit Bilinear.forward: missing a required argument: 'input2'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_refused(model: nn.Module, example: Any, message: str) -> None:
    with pytest.raises(pq.CaptureError, match=message) as refused:
        pq.prepare(model, example)
    assert str(refused.value).startswith("capture: ")
    assert "\n" not in str(refused.value)


def test_not_a_module() -> None:
    from pyquant.graph.capture import capture

    with pytest.raises(pq.CaptureError, match=r"expected model to be a torch\.nn\.Module, got str"):
        capture("model", (X,))  # type: ignore[arg-type]


def test_the_model_is_untouched() -> None:
    """Parameters, gradients, buffers, training flags and hooks are as before, and nothing is shared."""
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2)).train()
    model[2].eval()
    model(X).sum().backward()
    model.zero_grad(set_to_none=False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    gradients = [p.grad for p in model.parameters()]
    prepared = pq.quantize(model, [X], progress=False)
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    mine = {t.data_ptr() for t in (*prepared.parameters(), *prepared.buffers()) if t.numel()}
    assert not mine & {t.data_ptr() for t in (*model.parameters(), *model.buffers())}
    assert {"0.weight", "0.bias", "3.weight"} <= {name for name, _ in prepared.named_parameters()}
