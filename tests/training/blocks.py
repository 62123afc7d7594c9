"""Small models of repeated blocks, prepared and calibrated once."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyquant as pq

WIDTH, TOKENS, CLASSES = 16, 6, 3


class Block(nn.Module):
    """Attention written out, a GELU, a norm, a residual add; `bias` comes from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        x = x + F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0] + skip
        down: Tensor = self.down(F.gelu(self.up(x)))
        return x + down


class Blocks(nn.Module):
    """What one early layer gives goes into every block, over all the borders between."""

    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.inward, self.side = nn.Linear(5, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(count)])
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        x = self.inward(x)
        skip = self.side(x)
        for block in self.blocks:
            x = block(x, skip)
        logits = self.head(x.mean(dim=1))
        return (
            {"logits": logits}
            if labels is None
            else {"loss": F.cross_entropy(logits, labels), "logits": logits}
        )


def images(size: int = 4) -> Tensor:
    return torch.randn(size, TOKENS, 5, generator=torch.Generator().manual_seed(size))


@lru_cache
def _made(config: str, count: int) -> pq.Prepared:
    torch.manual_seed(0)
    example: dict[str, Any] = {"x": images(2), "labels": torch.zeros(2, dtype=torch.long)}
    model = pq.prepare(Blocks(count), example, config)
    return pq.calibrate(model, [{"x": images(16)}], progress=False)


def blocks(config: str = "W4A4-lsq", count: int = 4) -> pq.Prepared:
    """In train(), a copy."""
    return copy.deepcopy(_made(config, count)).train()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def step(model: nn.Module, **call: Any) -> tuple[list[Tensor], dict[str, Tensor]]:
    """What a pass gives, and its gradients."""
    model.zero_grad()
    output = model(images(), **call)
    loss = output["loss"] if "loss" in output else output["logits"].square().sum()
    loss.backward()
    return [value.detach() for value in output.values()], gradients(model)


def assert_same(
    mine: tuple[list[Tensor], dict[str, Tensor]], other: tuple[list[Tensor], dict[str, Tensor]]
) -> None:
    """Bit for bit."""
    assert len(mine[0]) == len(other[0])
    assert all(torch.equal(a, b) for a, b in zip(mine[0], other[0], strict=True))
    assert mine[1].keys() == other[1].keys()
    assert len(mine[1]) > 10
    for name, value in mine[1].items():
        assert torch.equal(value, other[1][name]), name
