"""Learned scales that an optimizer, or DistributedDataParallel, does not know of: said when it shows."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from pyquant.graph.sites import Site

__all__ = ["ScaleWatch", "learned_scales", "warn_not_reduced"]


def learned_scales(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """(site and which of its scales, the scale) of every learned one, whatever the modes."""
    for module in model.modules():
        if isinstance(module, Site):
            for name, parameter in module.named_parameters():
                yield f"{module.name}: {name}", parameter


def warn_not_reduced(sites: Iterable[Site]) -> None:
    """Warn of scales that learn now and did not when DistributedDataParallel was made: ranks would part."""
    found = [
        f"{site.name}: {name}"
        for site in sites
        for name, parameter in site.named_parameters()
        if parameter.requires_grad and name in site.not_reduced
    ]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        warnings.warn(
            f"DistributedDataParallel was made while learned scales did not learn ({found[0]}{more}) and "
            "will not average their gradients: make it in mode 'quantized' with find_unused_parameters=True, "
            "and switch modes then; or make it anew after a switch",
            UserWarning,
            stacklevel=3,
        )


class ScaleWatch:
    """Looks, at each forward pass that records gradients, at what the last optimizer step changed.

    Torch counts the changes of a tensor in place. Where weights have changed since the last pass, and scales
    that have a gradient have not, the optimizer was made without the scales. Accumulating gradients over
    several passes changes neither.
    """

    def __init__(self) -> None:
        self._weights: int | None = None
        self._scales: dict[int, int] = {}
        self._done = False

    def look(self, model: nn.Module) -> None:
        """Warn, once, or say nothing."""
        if self._done or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return
        scales = {name: scale for name, scale in learned_scales(model) if scale.requires_grad}
        if not scales:
            return
        known = {id(scale) for scale in scales.values()}
        weights = sum(p._version for p in model.parameters() if p.requires_grad and id(p) not in known)
        stuck = [
            name
            for name, scale in scales.items()
            if scale.grad is not None and self._scales.get(id(scale)) == scale._version
        ]
        stepped = self._weights is not None and weights != self._weights
        self._weights, self._scales = weights, {id(scale): scale._version for scale in scales.values()}
        if stepped and stuck:
            self._done = True
            more = f" and {len(stuck) - 1} more" if len(stuck) > 1 else ""
            warnings.warn(
                f"the optimizer changed weights and left learned scales alone ({stuck[0]}{more}): "
                "make it with pyquant.param_groups(model, lr), or freeze the scales (set_mode 'frozen')",
                UserWarning,
                stacklevel=4,
            )
