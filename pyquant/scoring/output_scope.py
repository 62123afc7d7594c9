"""scope="output": one site alone in integers, all the rest float, compared at the model's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyquant import metrics
from pyquant.batches import logits_of
from pyquant.graph.streams import Walk
from pyquant.metrics import ErrorMetrics
from pyquant.scoring.trials import Trial
from pyquant.sensitivity_table import SensitivityRow

__all__ = ["OutputScores"]

Logits = NDArray[np.float32]


@dataclass
class _Cell:
    """What one trial has done to the output so far."""

    errors: ErrorMetrics = field(default_factory=ErrorMetrics)
    kl: float = 0.0
    flips: int = 0
    hits: int = 0


class OutputScores:
    """Running scores of the true leave-one-in: each costs a run of what follows the site."""

    def __init__(self, trials: Mapping[str, Sequence[Trial]]) -> None:
        self.trials = trials
        self._cells = {site: [_Cell() for _ in chosen] for site, chosen in trials.items()}
        self._predictions = self._targets = self._hits = 0

    def update(self, walk: Walk, inputs: Sequence[Any], targets: Tensor | None) -> None:
        """One batch; `targets` are class numbers, one for each prediction, or None."""
        reference = _logits(walk, walk.outputs(inputs))
        best = reference.argmax(-1)
        labels = None if targets is None else _labels(targets, best.shape)
        left = {name for name in self.trials if name in walk.sites}
        for site, x, outputs in walk.replaced(inputs):
            if site.name in left:
                for trial, cell in zip(self.trials[site.name], self._cells[site.name], strict=True):
                    with trial.named():
                        y = trial.site.integer_of(*x)
                    found = _logits(walk, outputs(y))
                    cell.errors.update(reference, found)
                    cell.kl += metrics.kl_divergence(reference, found) * best.size
                    guess = found.argmax(-1)
                    cell.flips += int(np.count_nonzero(guess != best))
                    cell.hits += 0 if labels is None else int(np.count_nonzero(guess == labels))
                left.remove(site.name)
            if not left:
                break
        self._predictions += best.size
        if labels is not None:
            self._targets += labels.size
            self._hits += int(np.count_nonzero(best == labels))

    def state(self) -> dict[str, Any]:
        """All that was summed, as plain data."""
        cells = {
            site: [{"errors": c.errors.state(), "kl": c.kl, "flips": c.flips, "hits": c.hits} for c in cells]
            for site, cells in self._cells.items()
        }
        return {"cells": cells, "counts": [self._predictions, self._targets, self._hits]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken of scores of the same trials."""
        self._cells = {
            site: [
                _Cell(ErrorMetrics.from_state(c["errors"]), c["kl"], c["flips"], c["hits"])
                for c in state["cells"][site]
            ]
            for site in self._cells
        }
        self._predictions, self._targets, self._hits = state["counts"]

    def unreached(self) -> list[str]:
        """Sites of which no sample was seen."""
        return [site for site, cells in self._cells.items() if not cells[0].errors.compute().samples]

    def rows(self, index: Mapping[str, int]) -> list[SensitivityRow]:
        """The scores so far."""
        made = []
        for site, cells in self._cells.items():
            for trial, cell in zip(self.trials[site], cells, strict=True):
                found = cell.errors.compute()
                made.append(
                    SensitivityRow(
                        site=site,
                        kind=trial.site.kind,
                        index=index[site],
                        candidate=trial.candidate.name,
                        settings=trial.settings,
                        samples=int(found.samples),
                        exact=int(found.exact),
                        output_sqnr=float(found.sqnr),
                        kl=cell.kl / self._predictions,
                        flips=100.0 * cell.flips / self._predictions,
                        accuracy=100.0 * cell.hits / self._targets if self._targets else None,
                    )
                )
        return made

    def totals(self) -> dict[str, Any]:
        """The accuracy of the float model, where batches hold targets."""
        return {"float_accuracy": 100.0 * self._hits / self._targets} if self._targets else {}


def _logits(walk: Walk, flat: Sequence[Any]) -> Logits:
    found = logits_of(walk.prepared.output_of(flat, walk.missing))
    return np.ascontiguousarray(found.reshape(len(found), -1) if found.ndim < 2 else found)


def _labels(targets: Tensor, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Class numbers; None where targets are something else (a regression)."""
    labels = np.asarray(targets.cpu().numpy())
    if labels.dtype.kind not in "iu":
        return None
    if labels.shape != shape:
        raise ValueError(f"expected one label a prediction, got labels {labels.shape} for {shape}")
    return labels
