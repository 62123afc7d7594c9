"""Distillation: train the quantized model to do what the float one did."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
import torch.utils._pytree as pytree
from torch import Tensor, nn

from pyquant.graph.prepared import Prepared
from pyquant.graph.sites import Site
from pyquant.verbs.modes import set_mode

__all__ = ["Distillation"]


class Distillation:
    """A frozen copy of a model in float, and the distance of the trained one from it.

        loss = T^2 KL(softmax(teacher / T) || softmax(student / T))
             + feature_weight * mean over sites of |student - teacher|^2 / |teacher|^2

    with the logits of both and the outputs of the chosen sites.

    Parameters
    ----------
    prepared : Prepared
        The student. The teacher is its copy, in float, with the weights of now.
    features : str or sequence of str
        Globs over site names, for example ``"vit.layers.*.add*"``; none by default.
    temperature : float
        T.
    feature_weight : float
    logits : str or int, optional
        Which output holds the logits, where the model gives several: a key or an index.

    Raises
    ------
    TypeError
        `prepared` is none.
    ValueError
        A glob that matches no site, or a number that is not > 0.

    Notes
    -----
    Not for a model under `torch.compile`: features are read by hooks.

    References
    ----------
    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, arXiv 1503.02531.

    Examples
    --------
    >>> import torch, pyquant as pq
    >>> x = torch.randn(16, 4)
    >>> qmodel = pq.quantize(torch.nn.Linear(4, 2), [x], config="W4A4-lsq", progress=False)
    >>> distillation = pq.Distillation(qmodel)
    >>> output, loss = distillation(x)
    >>> loss.backward()
    """

    def __init__(
        self,
        prepared: Prepared,
        *,
        features: str | Sequence[str] = (),
        temperature: float = 1.0,
        feature_weight: float = 1.0,
        logits: str | int | None = None,
    ) -> None:
        if not isinstance(prepared, Prepared):
            raise TypeError(f"distillation: expected a Prepared, got {type(prepared).__name__}")
        for name, value in (("temperature", temperature), ("feature_weight", feature_weight)):
            if not 0.0 < value < float("inf"):
                raise ValueError(f"distillation: expected {name} to be a number > 0, got {value!r}")
        globs = [features] if isinstance(features, str) else list(features)
        self.student = prepared
        self.features = tuple(dict.fromkeys(name for glob in globs for name in prepared.sites(glob)))
        self.temperature, self.feature_weight, self.logits = temperature, feature_weight, logits
        self.teacher = copy.deepcopy(prepared)
        set_mode(self.teacher, "float")
        self.teacher.requires_grad_(False).eval()

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, Tensor]:
        """The student's output, and the loss."""
        with torch.no_grad():
            wanted, targets = self._run(self.teacher, args, kwargs)
        output, found = self._run(self.student, args, kwargs)
        t = self.temperature
        loss = (
            t
            * t
            * F.kl_div(
                F.log_softmax(self._logits(output) / t, dim=-1),
                F.log_softmax(self._logits(wanted) / t, dim=-1),
                reduction="batchmean",
                log_target=True,
            )
        )
        for name in self.features:
            error = (found[name] - targets[name]).square().sum()
            size = targets[name].square().sum().clamp_min(torch.finfo(torch.float32).tiny)
            loss = loss + (self.feature_weight / len(self.features)) * error / size
        return output, loss

    def _logits(self, output: Any) -> Tensor:
        if self.logits is not None:
            chosen = output[self.logits]
        else:
            leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
            if len(leaves) != 1:
                raise ValueError(
                    f"distillation: the model gives {len(leaves)} tensors; say which are the logits (logits=)"
                )
            chosen = leaves[0]
        if not isinstance(chosen, Tensor):
            raise TypeError(f"distillation: expected logits as a tensor, got {type(chosen).__name__}")
        return chosen.reshape(-1, chosen.shape[-1])

    def _run(
        self, model: Prepared, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Tensor]]:
        found: dict[str, Tensor] = {}

        def keep(site: nn.Module, _: Any, output: Any) -> None:
            assert isinstance(site, Site)
            found[site.name] = output

        sites = model.sites() if self.features else {}
        hooks = [sites[name].register_forward_hook(keep) for name in self.features]
        try:
            output = model(*args, **kwargs)
        finally:
            for hook in hooks:
                hook.remove()
        return output, found
