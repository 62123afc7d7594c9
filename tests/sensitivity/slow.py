"""The definitions of the scores, written down the long way: whole models run in one mode after the other."""

from __future__ import annotations

import glob
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import pyquant as pq
from pyquant.graph.prepared import Prepared

__all__ = ["Seen", "deployed", "ratio_of", "record", "sqnr"]


@dataclass
class Seen:
    """What one site got and gave, batch by batch."""

    arguments: list[tuple[Any, ...]]
    results: list[Tensor]


def record(prepared: Prepared, mode: str, batches: Sequence[Tensor]) -> dict[str, Seen]:
    """Run the model in one mode and keep everything."""
    seen = {name: Seen([], []) for name in prepared.sites()}
    hooks = []
    for name, site in prepared.sites().items():

        def keep(module: nn.Module, args: Any, result: Tensor, name: str = name) -> None:
            seen[name].arguments.append(args)
            seen[name].results.append(result.clone())

        hooks.append(site.register_forward_hook(keep))
    with pq.mode(prepared, mode), torch.no_grad():
        for batch in batches:
            prepared(batch)
    for hook in hooks:
        hook.remove()
    return seen


def deployed(
    model: nn.Module, config: pq.QuantConfig, tried: Mapping[str, str], data: Sequence[Tensor]
) -> Prepared:
    """The model as it would be quantized with a candidate at each of some sites."""
    for site, candidate in tried.items():
        config = config.override(glob.escape(site), **dict(pq.Candidate.of(candidate).settings))
    return pq.quantize(model, data, config, progress=False)


def ratio_of(x: NDArray[Any], y: NDArray[Any]) -> list[float]:
    """|x| / |x - y| of each sample, in float64; samples lie along the first axis."""
    a, b = (v.reshape(len(v), -1).astype(np.float64) for v in (x, y))
    with np.errstate(divide="ignore"):
        found = np.linalg.norm(a, axis=1) / np.linalg.norm(a - b, axis=1)
    return [float(v) for v in found]


def sqnr(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> float:
    """dB over all batches; samples without an error are left out."""
    ratios = [
        r for x, y in zip(xs, ys, strict=True) for r in ratio_of(x.detach().numpy(), y.detach().numpy())
    ]
    inexact = [r for r in ratios if math.isfinite(r)]
    return 20 * math.log10(sum(inexact) / len(inexact)) if inexact else math.inf
