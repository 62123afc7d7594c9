"""A model that prepares in a second, with a linear, a unary and a norm site."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

import pyquant as pq
from pyquant.graph.prepared import Prepared

__all__ = ["Small", "batches", "prepared"]


class Small(nn.Module):
    """[batch, 4] -> [batch, 6], and a branch that runs only with a second input."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.act = nn.GELU()
        self.norm = nn.LayerNorm(8)
        self.last = nn.Linear(8, 6)
        self.side = nn.Linear(4, 6)

    def forward(self, x: Tensor, spare: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        y = self.last(self.norm(self.act(self.first(x))))
        return y, None if spare is None else self.side(spare)


def batches(count: int = 4, size: int = 3) -> list[Tensor]:
    return list(torch.randn(count, size, 4, generator=torch.Generator().manual_seed(count * size)))


@functools.cache
def prepared(seed: int = 0, preset: str = "W8A8") -> Prepared:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Small()
    spare = [{"x": x, "spare": x} for x in batches()]
    return pq.quantize(model, spare, preset, progress=False)
