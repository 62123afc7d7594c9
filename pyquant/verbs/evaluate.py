"""evaluate: metrics of a model over a loader, whether it is float, prepared, or in the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from tqdm.auto import tqdm

from pyquant import metrics
from pyquant.batches import arguments, count_inputs, logits_of, target_of
from pyquant.engine import IntegerModel

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes
    ----------
    top1, top5 : float
        Accuracy in percent; NaN without labels (top5: or with fewer than five classes).
    loss : float
        Mean cross entropy in nats.
    count : int
        Number of samples.
    logits : numpy.ndarray
        float32 [count, classes], in the order of the loader.
    """

    top1: float
    top5: float
    loss: float
    count: int
    logits: npt.NDArray[np.float32]

    def flips(self, other: Evaluation) -> float:
        """Share of samples, in percent, whose prediction differs from the other's."""
        if self.count != other.count:
            raise ValueError(
                f"flips: expected evaluations of as many samples, got {self.count} and {other.count}"
            )
        return float(np.mean(self.logits.argmax(1) != other.logits.argmax(1)) * 100)

    def sqnr(self, reference: Evaluation) -> float:
        """SQNR of these logits against the reference's, in dB: 20 log10 of the mean ratio of norms.

        The ratio |reference| / |reference - logits| is taken for each sample, then averaged.
        Samples without any error do not count; +inf if there is no error at all. ValueError for logits
        that are not finite. Definition: `pyquant.metrics.sqnr`.
        """
        if self.logits.shape != reference.logits.shape:
            raise ValueError(
                f"sqnr: expected logits of one shape, got {self.logits.shape} and {reference.logits.shape}"
            )
        return float(metrics.sqnr(reference.logits, self.logits))

    def __str__(self) -> str:
        return f"top-1 {self.top1:.2f} %, loss {self.loss:.4f}, {self.count} samples"


def evaluate(
    model: nn.Module | IntegerModel,
    loader: Iterable[Any],
    *,
    forward: Callable[[Any, Any], Any] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Run a classifier over a loader.

    Parameters
    ----------
    model : torch.nn.Module or IntegerModel
        A float model, a `Prepared`, or a program in the engine. A module runs in eval mode, and its own mode
        comes back.
    loader : iterable of batches
        The target is the entry called ``labels`` (or ``label``, ``target``), or the last item of a tuple that
        holds more than the inputs.
    forward : callable, optional
        ``forward(model, batch)`` -> logits.
    progress : bool
        Show a progress bar.

    Raises
    ------
    ValueError
        The loader is empty, or there are fewer or more labels than samples.
    """
    logits, targets = [], []
    training = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module):
        model.eval()
    try:
        with torch.no_grad():
            for batch in tqdm(loader, desc="evaluate", unit="batch", disable=not progress, leave=False):
                output = forward(model, batch) if forward is not None else _call(model, batch)
                logits.append(logits_of(output))
                target = target_of(batch, 1 if forward is not None else _inputs_in(model))
                if target is not None:
                    targets.append(np.asarray(target.cpu().numpy()).reshape(-1))
    finally:
        if isinstance(model, nn.Module):
            model.train(training)
    if not logits:
        raise ValueError("evaluate: expected at least one batch, got none")
    scores = np.concatenate(logits)
    if not targets:
        return Evaluation(float("nan"), float("nan"), float("nan"), len(scores), scores)
    labels = np.concatenate(targets)
    if len(labels) != len(scores):
        raise ValueError(
            f"evaluate: expected one label a sample, got {len(labels)} labels of {len(scores)} samples"
        )
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    loss = float(np.mean(log_sum - shifted[np.arange(len(labels)), labels]))
    top1 = float(np.mean(scores.argmax(axis=1) == labels) * 100)
    top5 = float("nan")
    if scores.shape[1] >= 5:
        best = np.argpartition(-scores, 4, axis=1)[:, :5]
        top5 = float(np.mean((best == labels[:, None]).any(axis=1)) * 100)
    return Evaluation(top1, top5, loss, len(scores), scores)


def _call(model: nn.Module | IntegerModel, batch: Any) -> Any:
    if isinstance(model, nn.Module):
        drop = ("labels", "label") if isinstance(batch, dict) else ()
        args, kwargs = arguments(model, batch, drop=drop)
        return model(*args, **kwargs)
    if isinstance(batch, dict):
        return model(**{k: v for k, v in batch.items() if k in model.input_names})
    if isinstance(batch, (tuple, list)):
        return model(*batch[: len(model.input_names)])
    return model(batch)


def _inputs_in(model: nn.Module | IntegerModel) -> int:
    """How many items of a tuple are inputs."""
    return count_inputs(model) if isinstance(model, nn.Module) else len(model.input_names)
