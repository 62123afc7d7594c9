"""Schedule: which modes the sites have at which step of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyquant.graph.prepared import Prepared
from pyquant.graph.sites import MODES
from pyquant.training.batch_norm import check_norms
from pyquant.training.batch_norm import freeze_batch_norm as freeze
from pyquant.verbs.modes import set_mode

__all__ = ["Phase", "Schedule"]


@dataclass(frozen=True)
class Phase:
    """From optimizer step `begin` on, the sites of a glob are in a mode."""

    begin: int
    mode: str
    select: str = "*"

    def __post_init__(self) -> None:
        if isinstance(self.begin, bool) or not isinstance(self.begin, int) or self.begin < 0:
            raise ValueError(f"schedule: expected begin to be an integer >= 0, got {self.begin!r}")
        if self.mode not in MODES:
            raise ValueError(f"schedule: expected mode to be one of {', '.join(MODES)}, got {self.mode!r}")


class Schedule:
    """Switches modes while a model trains: first in float, then with quantized weights, then in integers.

    Parameters
    ----------
    prepared : Prepared
        Calibrated, if a phase computes in integers.
    phases : mapping of int to str, or iterable of Phase
        A mapping gives a mode for all sites from a step on. Phases of one step apply in their order, so that
        a later one may set a part of the sites apart.
    freeze_batch_norm : int, optional
        From this step on batch norms keep their running statistics (`pyquant.freeze_batch_norm`); before it
        they follow their batches.
    step : int
        Steps that have been done, for a run that goes on.

    Raises
    ------
    ValueError
        No phase, a bad one, or one whose glob matches no site; `freeze_batch_norm` is negative, or the model
        has no batch norm that it could freeze.
    CalibrationError
        A phase needs scales that are not there.

    Examples
    --------
    >>> import torch, pyquant as pq
    >>> x = torch.randn(16, 4)
    >>> qmodel = pq.quantize(torch.nn.Linear(4, 2), [x], progress=False)
    >>> schedule = pq.Schedule(qmodel, {0: "float", 2: "weights", 4: "quantized"})
    >>> modes = []
    >>> for _ in range(6):
    ...     modes.append(next(iter(qmodel.sites().values())).mode)
    ...     schedule.step()                 # after optimizer.step()
    >>> modes
    ['float', 'float', 'weights', 'weights', 'quantized', 'quantized']
    """

    def __init__(
        self,
        prepared: Prepared,
        phases: Mapping[int, str] | Iterable[Phase],
        *,
        freeze_batch_norm: int | None = None,
        step: int = 0,
    ) -> None:
        if not isinstance(prepared, Prepared):
            raise TypeError(f"schedule: expected a Prepared, got {type(prepared).__name__}")
        listed = (
            [Phase(begin, mode) for begin, mode in phases.items()]
            if isinstance(phases, Mapping)
            else list(phases)
        )
        if not listed or not all(isinstance(phase, Phase) for phase in listed):
            raise ValueError(
                f"schedule: expected phases, such as {{0: 'float', 100: 'quantized'}}, got {phases!r}"
            )
        for phase in listed:
            prepared.sites(phase.select)  # the glob matches
        if freeze_batch_norm is not None:
            if (
                isinstance(freeze_batch_norm, bool)
                or not isinstance(freeze_batch_norm, int)
                or freeze_batch_norm < 0
            ):
                raise ValueError(
                    f"schedule: expected freeze_batch_norm to be an integer >= 0, got {freeze_batch_norm!r}"
                )
            check_norms("schedule", prepared)
        self.freeze_batch_norm = freeze_batch_norm
        self.prepared = prepared
        self.phases = tuple(sorted(listed, key=lambda phase: phase.begin))
        self.steps = step
        self._apply()

    def step(self) -> None:
        """Count an optimizer step, and switch where a phase begins."""
        self.steps += 1
        if self.steps == self.freeze_batch_norm or any(phase.begin == self.steps for phase in self.phases):
            self._apply()

    def _apply(self) -> None:
        for phase in self.phases:
            if phase.begin <= self.steps:
                set_mode(self.prepared, phase.mode, phase.select)
        if self.freeze_batch_norm is not None:
            freeze(self.prepared, frozen=self.steps >= self.freeze_batch_norm)

    def state_dict(self) -> dict[str, Any]:
        """The number of steps."""
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.steps = int(state["steps"])
        self._apply()
