"""What a checkpoint of a prepared model says about itself: a tensor of JSON beside the others.

Two preparations of one network have the same names and shapes under other configurations (bits, methods of a
plan, learned scales); loading one into the other would compute something else without a word. A tensor,
because safetensors and many training loops store nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyquant.config import QuantConfig, SiteConfig

__all__ = ["COUNTS_PASSES", "FORMAT", "difference", "from_tensor", "to_tensor"]

FORMAT = 2
"""Of the state dict; a reader knows its own and older ones."""

COUNTS_PASSES = 2
"""The first format with a count of training passes."""


def to_tensor(
    config: QuantConfig,
    *,
    norms_frozen: bool | None = None,
    rates: Mapping[str, Mapping[str, int]] | None = None,
) -> Tensor:
    """uint8, a JSON text.

    Parameters
    ----------
    config : QuantConfig
    norms_frozen : bool, optional
        Only of a model whose batch norms can follow their batches.
    rates : mapping, optional
        `Site.rates` by site; left out where there are none.
    """
    data: dict[str, Any] = {"format": FORMAT, "config": config.to_dict()}
    if norms_frozen is not None:
        data["norms_frozen"] = norms_frozen
    if rates:
        data["rates"] = rates
    text = json.dumps(data, sort_keys=True)
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).clone()


def from_tensor(tensor: Any) -> dict[str, Any]:
    """Inverse of `to_tensor`.

    Raises
    ------
    ValueError
        It is something else, or was written by a later version.
    """
    try:
        data = json.loads(bytes(tensor.cpu().to(torch.uint8).tolist()).decode())
        number, config = data["format"], data["config"]
        rates = {site: {k: int(v) for k, v in own.items()} for site, own in data.get("rates", {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError):
        raise ValueError("state: the checkpoint's description of the model cannot be read") from None
    if not isinstance(number, int) or not 1 <= number <= FORMAT:
        raise ValueError(
            f"state: expected a checkpoint of format 1 to {FORMAT}, got {number!r}; update pyquant"
        )
    return {"format": number, "config": config, "rates": rates, "norms_frozen": data.get("norms_frozen")}


def difference(config: QuantConfig, saved: Any, sites: list[str]) -> str:
    """What differs between two configurations at the sites of a model; empty if nothing does.

    Configurations that are written differently and say the same are the same.

    Raises
    ------
    ValueError
        `saved` is no configuration.
    """
    other = QuantConfig.from_dict(saved)
    found = []
    for name in sites:
        mine, theirs = config.for_site(name), other.for_site(name)
        if mine != theirs:
            found.append(f"{name}: {_fields(mine, theirs)}")
    if not found:
        return ""
    more = f"; and {len(found) - 1} more sites" if len(found) > 1 else ""
    return f"{found[0]}{more}"


def _fields(mine: SiteConfig, theirs: SiteConfig) -> str:
    pairs = [
        (name, getattr(mine, name), getattr(theirs, name))
        for name in SiteConfig.__dataclass_fields__
        if getattr(mine, name) != getattr(theirs, name)
    ]
    return ", ".join(f"{name} is {a!r} here and {b!r} in the checkpoint" for name, a, b in pairs)
