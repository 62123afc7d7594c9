"""A small model whose edges quantizers may have, and the registry sorted by what becomes of it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyquant as pq
from pyquant.quantizers import QUANTIZERS

EDGES = [name for name in QUANTIZERS if name not in ("dorefa", "lsq")]
ON_GRID = [name for name in EDGES if QUANTIZERS[name].deployable]
OFF_GRID = [name for name in EDGES if not QUANTIZERS[name].deployable]
INTEGER_WEIGHTS = ["symmetric", "pow2", "tqt"]
FLOAT_WEIGHTS = [name for name in QUANTIZERS if name not in (*INTEGER_WEIGHTS, "lsq")]


class Small(nn.Module):
    """linear, softmax, linear, GELU, linear; `up` and `head` give 16 bits, and the rest 8 at most."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.mid, self.head = nn.Linear(8, 12), nn.Linear(12, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.mid(torch.softmax(2 * self.up(x), dim=-1)))
        found: Tensor = self.head(x)
        return found


def data(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 8, generator=g)
    return x, x[:, :3].argmax(dim=1)


def configured(select: str = "*", **settings: Any) -> pq.QuantConfig:
    return pq.QuantConfig().override(select, **settings)


def quantized(config: Any, count: int = 64) -> pq.Prepared:
    torch.manual_seed(0)
    return pq.quantize(Small(), [data(count)[0]], config=config, progress=False)


def train(model: pq.Prepared, steps: int, lr: float = 3e-3) -> list[float]:
    x, labels = data(64)
    optimizer = torch.optim.Adam(pq.param_groups(model, lr=lr))
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def learned(model: pq.Prepared) -> dict[str, nn.Parameter]:
    """All that quantizers learn, by name."""
    return {name: p for name, p in model.named_parameters() if name.startswith("pq_sites")}
