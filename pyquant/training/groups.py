"""Parameters of a model as an optimizer wants them: scales learn at a rate of their own, without decay."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from pyquant.graph.sites import Site
from pyquant.graph.watch import learned_scales
from pyquant.quantizers import Quantizer

__all__ = ["param_groups"]


def param_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    *,
    scale_lr: float | None = None,
    relative: bool = True,
    clip_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Groups for any torch optimizer: matrices with decay, vectors without, learned scales apart.

    Among the scales is all that a quantizer learns: clips, thresholds, offsets, ends of a range.

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
        lie between 0.0001 and 1. A quantizer's other parameters say what stands for their size
        (`Quantizer.sizes`): a logarithm 1, an offset its scale, ends of a range their distance. The size is
        that at the first call after calibration, and part of the model's state dict: an optimizer that is
        made for a model that was loaded has the same groups, so that its own state fits. False is for plain
        SGD, whose steps LSQ's gradient already fits to the scale: one group.
    clip_decay : float
        Weight decay of the clips of ``pact``, which its paper [1]_ asks for, as an L2 penalty, so that
        a clip that began too large comes down. None by default: clips begin with what calibration chose.

    Returns
    -------
    list of dict
        ``params``, ``lr``, ``weight_decay`` and ``name`` (``weights``, ``vectors``, ``scales`` or
        ``scales 2^-7``; with `clip_decay` also ``clips``) of each group that is not empty. A parameter that
        two modules share is in one group.

    Raises
    ------
    TypeError
        `model` is no module, or a rate no number.
    ValueError
        A rate or a decay below 0, or not finite; a learned scale that is not there yet (calibrate first).

    References
    ----------
    .. [1] Choi et al., PACT, arXiv 1805.06085.

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
    numbers = {"lr": lr, "weight_decay": weight_decay, "scale_lr": scale_lr, "clip_decay": clip_decay}
    for name, value in numbers.items():
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
    exponents = _exponents(model) if relative else {}
    sizes: dict[tuple[str, int | None], list[nn.Parameter]] = {}
    for name, scale in scales:
        kind = "clips" if clip_decay > 0 and name.endswith(".clip") else "scales"
        sizes.setdefault((kind, exponents.get(id(scale))), []).append(scale)
    for (kind, exponent), members in sorted(sizes.items(), key=lambda item: (item[0][1] or 0, item[0][0])):
        name, size = (kind, 1.0) if exponent is None else (f"{kind} 2^{exponent}", 2.0**exponent)
        decay = float(clip_decay) if kind == "clips" else 0.0
        groups.append({"name": name, "params": members, "lr": scale_lr * size, "weight_decay": decay})
    return [group for group in groups if group["params"]]


def _exponents(model: nn.Module) -> dict[int, int]:
    """Of each learned scale (by id): that of the first call, which the model keeps."""
    known = _known_sizes(model)
    found = {
        (site, name): (
            site.rates[name] if name in site.rates else _exponent(f"{site.name}: {name}", scale, known),
            scale,
        )
        for site in model.modules()
        if isinstance(site, Site)
        for name, scale in site.named_parameters()
    }
    for (site, name), (exponent, _) in found.items():
        site.rates[name] = exponent
    return {id(scale): exponent for exponent, scale in found.values()}


def _known_sizes(model: nn.Module) -> dict[int, float]:
    """What quantizers say of their parameters; 0 where there are none yet."""
    return {
        id(getattr(module, part)): size if bool(module.initialized) else 0.0
        for module in model.modules()
        if isinstance(module, Quantizer)
        for part, size in module.sizes().items()
    }


def _exponent(name: str, scale: nn.Parameter, known: dict[int, float]) -> int:
    """Of the power of two just below the mean, or the size that is known."""
    mean = float(scale.detach().double().mean()) if scale.numel() else 0.0
    mean = known.get(id(scale), mean)
    if not 0.0 < mean < float("inf"):
        raise ValueError(f"param_groups: expected scales > 0, got {mean!r} at {name}; calibrate first")
    return math.frexp(mean)[1] - 1
