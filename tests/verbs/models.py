"""Models that the tests of the verbs share: small enough to prepare in a second."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["CLASSES", "Mlp", "TwoInputs", "mlp"]

CLASSES = 6


class Mlp(nn.Module):
    """Two linear sites and a GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.act = nn.GELU()
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 4] -> [batch, 6]."""
        return self.last(self.act(self.first(x)))


class TwoInputs(nn.Module):
    """A second input that may be left out: its branch then gives no output."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Linear(4, 4)
        self.side = nn.Linear(4, 4)

    def forward(self, x: Tensor, extra: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """[batch, 4] twice."""
        return self.main(x), None if extra is None else self.side(extra)


def mlp(seed: int = 0) -> Mlp:
    """The same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Mlp()
