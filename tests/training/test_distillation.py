"""Distillation: what the loss is, that the teacher stays what it was, and that it helps to train."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyquant as pq

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = F.gelu(self.a(x))
        return {"logits": self.b(h), "hidden": h}


def prepared(model: nn.Module | None = None) -> pq.Prepared:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4)) if model is None else model
    return pq.quantize(model, [X], config="W4A4-lsq", progress=False)


def test_the_loss_written_out() -> None:
    student = prepared()
    distillation = pq.Distillation(student, features=["0", "1"], temperature=2.0, feature_weight=0.5)
    output, loss = distillation(X)
    seen: dict[str, list[Tensor]] = {"0": [], "1": []}
    hooks = [
        student.sites()[name].register_forward_hook(lambda _, __, y, name=name: seen[name].append(y.detach()))
        for name in seen
    ]
    with pq.mode(student, "float"):
        wanted = student(X)
    assert torch.equal(student(X), output)
    for hook in hooks:
        hook.remove()
    p, q = (torch.softmax(y.double() / 2.0, dim=-1) for y in (wanted, output))
    expected = 4.0 * (p * (p.log() - q.log())).sum(dim=-1).mean()
    for teacher, ours in seen.values():
        expected = (
            expected.detach()
            + 0.25 * (ours - teacher).double().square().sum() / teacher.double().square().sum()
        )
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-4)


def test_it_trains_towards_the_float_model() -> None:
    """From ranges four times too wide, which learned scales find back."""
    student = prepared()
    with torch.no_grad():
        for site in student.sites().values():
            if not site.wide:
                site.output.scale.mul_(4.0)
    distillation = pq.Distillation(student, features="1")
    optimizer = torch.optim.Adam(pq.param_groups(student, lr=1e-3, scale_lr=0.03))
    teacher = {name: value.clone() for name, value in distillation.teacher.state_dict().items()}
    losses = []
    for _ in range(100):
        _, loss = distillation(X)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert max(losses[-10:]) < 0.5 * losses[0]
    now = distillation.teacher.state_dict()
    assert all(torch.equal(value, now[name]) for name, value in teacher.items())
    assert all(parameter.grad is None for parameter in distillation.teacher.parameters())


def test_several_outputs_need_a_name() -> None:
    student = prepared(Two())
    with pytest.raises(ValueError, match=r"gives 2 tensors; say which are the logits"):
        pq.Distillation(student)(X)
    output, loss = pq.Distillation(student, logits="logits")(X)
    assert set(output) == {"logits", "hidden"}
    assert loss.requires_grad


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"temperature": 0.0}, ValueError, "temperature to be a number > 0, got 0.0"),
        ({"feature_weight": float("nan")}, ValueError, "feature_weight to be a number > 0, got nan"),
        ({"features": "nowhere"}, ValueError, "matches no site"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pq.Distillation(prepared(), **arguments)
    with pytest.raises(TypeError, match="expected a Prepared, got Linear"):
        pq.Distillation(nn.Linear(1, 1))  # type: ignore[arg-type]
