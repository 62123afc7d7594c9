"""Marks: where a captured graph would do something else in training.

The graph of a model in `eval()` says nothing of dropout. Capture therefore leaves a `mark` there, an identity
with a key into `Captured.marks`. Passes see it as a view. No mark is left in the graph that is deployed; the
graph for `train()` (`train_graph.py`) has in its place what the record says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

from pyquant.torch_ops.library import define

__all__ = ["Drop", "Mark", "Norm", "is_mark", "mark"]


@dataclass(frozen=True)
class Drop:
    """Values that are zero by chance in training.

    Parameters
    ----------
    path, what : str
        The module that does it, and its name in coverage.
    kind : str
        A function of `torch.nn.functional`, ``row`` or ``batch`` for stochastic depth by sample or for the
        whole batch, ``attention`` for the probabilities of an attention.
    p : float
        Probability of zero.
    scaled : bool
        Of stochastic depth: what is kept is divided by 1 - p.
    """

    path: str
    what: str
    kind: str
    p: float
    scaled: bool = True


@dataclass(frozen=True)
class Norm:
    """A batch norm that follows the statistics of its batch in training.

    Parameters
    ----------
    path, what : str
        The module, and its name in coverage.
    momentum : float or None
        As of `torch.nn.BatchNorm2d`; None is a cumulative mean.
    epsilon : float
    counter : str
        The buffer that counts batches.
    given : tuple of str
        Which extras its mark has: those of ``weight bias gamma beta mean variance`` where it is folded; none
        where it is a node of its own.
    """

    path: str
    what: str
    momentum: float | None
    epsilon: float
    counter: str
    given: tuple[str, ...] = ()


Mark: TypeAlias = "Drop | Norm"


def _identity(x: Tensor, key: int, extras: list[Tensor]) -> Tensor:
    return x.clone()


def _fake(x: Tensor, key: int, extras: list[Tensor]) -> Tensor:
    return torch.empty_like(x)


define("mark(Tensor x, int key, Tensor[] extras) -> Tensor", _identity, _fake)
mark: Any = torch.ops.pyquant.mark.default
"""``mark(x, key, extras)``: x. The extras are parameters that the graph for training needs there."""


def is_mark(node: fx.Node) -> bool:
    """True for a mark."""
    return node.op == "call_function" and node.target is mark
