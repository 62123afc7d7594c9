"""The model that these tests share: blocks of a transformer on tokens [batch, 9, 24], three heads."""

from __future__ import annotations

from functools import cache

import torch

import pyquant as pq
from pyquant.graph import Prepared
from tests.graph.models import SDPA, blocks, seeded

__all__ = ["TOKENS", "attention_model", "prepared", "tokens"]

TOKENS = 9


@cache
def attention_model(depth: int = 2) -> torch.nn.Module:
    return seeded(lambda: blocks(SDPA, depth))


def tokens(batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, TOKENS, 24, generator=torch.Generator().manual_seed(2))


@cache
def prepared(depth: int = 1) -> Prepared:
    """Calibrated; not to be changed."""
    return pq.quantize(attention_model(depth), [tokens()], progress=False)
