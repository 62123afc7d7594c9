"""Data and observers that the tests of observers share."""

from __future__ import annotations

import numpy as np
import torch

from pyquant.config import SiteConfig
from pyquant.observers import Observer, make_observer
from pyquant.qparams import QParams

__all__ = ["SAMPLES", "cost", "observer", "sample", "see"]

SAMPLES = {
    "normal": lambda r: r.normal(size=20_000),
    "laplace": lambda r: r.laplace(size=20_000),
    "outlier": lambda r: np.append(r.normal(size=20_000), 40.0),
    "gelu": lambda r: torch.nn.functional.gelu(torch.from_numpy(r.normal(size=20_000))).numpy(),
    "relu": lambda r: np.maximum(r.normal(size=20_000), 0.0),
    "uniform": lambda r: r.uniform(-1.0, 3.0, 20_000),
    "negative": lambda r: -r.uniform(0.5, 1.0, 20_000),
    "constant": lambda r: np.full(10, 0.3),
    "zero": lambda r: np.zeros(10),
}


def sample(name: str) -> np.ndarray:
    return SAMPLES[name](np.random.default_rng(0)).astype(np.float32)


def observer(name: str, *batches: torch.Tensor, **settings: float) -> Observer:
    made = make_observer(name, SiteConfig(**settings))  # type: ignore[arg-type]
    for batch in batches:
        see(made, batch)
    return made


def see(made: Observer, batch: torch.Tensor) -> None:
    """Gradients of 1, where they are needed: then every square weighs the same."""
    made(batch, torch.ones_like(batch) if made.needs_gradient else None)


def cost(x: np.ndarray, grid: QParams, power: float = 2.0, weight: np.ndarray | float = 1.0) -> float:
    """Mean of weight * |error|^power of quantizing x, in float64."""
    q = np.clip(np.rint(x / grid.scale) + grid.zero_point, grid.quant_min, grid.quant_max)
    return float(np.mean(weight * np.abs((q - grid.zero_point) * grid.scale - x) ** power))
