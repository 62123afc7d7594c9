"""Parameters of a model as an optimizer wants them: scales learn at a rate of their own, without decay."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from pyquant.graph.sites import Site
from pyquant.graph.watch import learned_scales

__all__ = ["param_groups"]


def param_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    *,
    scale_lr: float | None = None,
    relative: bool = True,
) -> list[dict[str, Any]]:
    """Groups for any torch optimizer: matrices with decay, vectors without, learned scales apart.

    Parameters
    ----------
    model : torch.nn.Module
        A `Prepared`, alone or inside another module (DistributedDataParallel).
    lr : float
        Learning rate of weights, biases and norms.
    weight_decay : float
        Of parameters with two axes or more. Biases, norms and scales have none.
    scale_lr : float, optional
        Learning rate of the scales; `lr` by default.
    relative : bool
        Multiply `scale_lr` by the size of a scale, rounded to a power of two: one group a power. Adam and its
        kin move a parameter by about its rate at each step, whatever its gradient, and scales of one model
        lie between 0.0001 and 1. The size is that at the first call after calibration, and part of the
        model's state dict: an optimizer that is made for a model that was loaded has the same groups, so that
        its own state fits. False is for plain SGD, whose steps LSQ's gradient already fits to the scale: one
        group.

    Returns
    -------
    list of dict
        ``params``, ``lr``, ``weight_decay`` and ``name`` (``weights``, ``vectors``, ``scales`` or
        ``scales 2^-7``) of each group that is not empty. A parameter that two modules share is in one group.

    Raises
    ------
    TypeError
        `model` is no module, or a rate no number.
    ValueError
        A rate or a decay below 0, or not finite; a learned scale that is not there yet (calibrate first).

    Examples
    --------
    >>> import torch, pyquant as pq
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU())
    >>> qmodel = pq.quantize(model, [torch.randn(16, 8)], config="W4A8-lsq", progress=False)
    >>> groups = pq.param_groups(qmodel, lr=1e-3, weight_decay=0.05, relative=False)
    >>> [(group["name"], len(group["params"]), group["weight_decay"]) for group in groups]
    [('weights', 1, 0.05), ('vectors', 1, 0.0), ('scales', 3, 0.0)]
    >>> optimizer = torch.optim.AdamW(pq.param_groups(qmodel, lr=1e-3, weight_decay=0.05))
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"param_groups: expected model to be a torch.nn.Module, got {type(model).__name__}")
    scale_lr = lr if scale_lr is None else scale_lr
    for name, value in (("lr", lr), ("weight_decay", weight_decay), ("scale_lr", scale_lr)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"param_groups: expected {name} to be a number, got {value!r}")
        if not 0.0 <= value < float("inf"):
            raise ValueError(f"param_groups: expected {name} to be a finite number >= 0, got {value!r}")
    scales = list(learned_scales(model))
    apart = {id(parameter) for _, parameter in scales}
    # Scales that do not learn now (modes float, observe, frozen) may later.
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
    matrices, vectors = [p for p in rest if p.dim() > 1], [p for p in rest if p.dim() <= 1]
    groups = [
        {"name": "weights", "params": matrices, "lr": float(lr), "weight_decay": float(weight_decay)},
        {"name": "vectors", "params": vectors, "lr": float(lr), "weight_decay": 0.0},
    ]
    sizes: dict[int | None, list[nn.Parameter]] = {}
    exponents = _exponents(model) if relative else {}
    for _, scale in scales:
        sizes.setdefault(exponents.get(id(scale)), []).append(scale)
    for exponent, members in sorted(sizes.items(), key=lambda item: item[0] or 0):
        name, size = ("scales", 1.0) if exponent is None else (f"scales 2^{exponent}", 2.0**exponent)
        groups.append({"name": name, "params": members, "lr": scale_lr * size, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def _exponents(model: nn.Module) -> dict[int, int]:
    """Of each learned scale (by id): that of the first call, which the model keeps."""
    found = {
        (site, name): (
            site.rates[name] if name in site.rates else _exponent(f"{site.name}: {name}", scale),
            scale,
        )
        for site in model.modules()
        if isinstance(site, Site)
        for name, scale in site.named_parameters()
    }
    for (site, name), (exponent, _) in found.items():
        site.rates[name] = exponent
    return {id(scale): exponent for exponent, scale in found.values()}


def _exponent(name: str, scale: nn.Parameter) -> int:
    """Of the power of two just below the mean."""
    mean = float(scale.detach().double().mean()) if scale.numel() else 0.0
    if not 0.0 < mean < float("inf"):
        raise ValueError(f"param_groups: expected scales > 0, got {mean!r} at {name}; calibrate first")
    return math.frexp(mean)[1] - 1
