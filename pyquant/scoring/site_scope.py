"""scope="site": every candidate of every site in one joint pass a batch, compared at the site's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from pyquant.graph.streams import SiteVisit, Walk
from pyquant.metrics import ErrorMetrics
from pyquant.scoring.arrays import samples_of
from pyquant.scoring.trials import Trial
from pyquant.sensitivity_table import SensitivityRow

__all__ = ["SITE_SCORES", "SiteScores"]

SITE_SCORES = ("accumulated", "isolated", "all_but_this")


@dataclass
class _Cell:
    """Running errors of one site."""

    inputs: list[ErrorMetrics] = field(default_factory=list)
    without: ErrorMetrics = field(default_factory=ErrorMetrics)  # all but this
    trials: list[dict[str, ErrorMetrics]] = field(default_factory=list)


class SiteScores:
    """Running scores of candidates at sites, in memory that does not grow with the number of batches."""

    def __init__(self, trials: Mapping[str, Sequence[Trial]], scores: Sequence[str]) -> None:
        self.trials = trials
        self.scores = tuple(scores)
        kept = [name for name in ("accumulated", "isolated") if name in scores]
        self._cells = {
            site: _Cell(trials=[{name: ErrorMetrics() for name in kept} for _ in chosen])
            for site, chosen in trials.items()
        }

    def update(self, walk: Walk, inputs: Sequence[Any], targets: Tensor | None) -> None:
        """One batch; nothing is computed behind the last site that has candidates."""
        left = {name for name in self.trials if name in walk.sites}
        for visit in walk.joint(inputs):
            if visit.site.name in left:
                self._visit(visit)
                left.remove(visit.site.name)
            if not left:
                break

    def _visit(self, visit: SiteVisit) -> None:
        cell = self._cells[visit.site.name]
        y = samples_of(visit.y, visit.shape)
        for errors, (pair, shape) in zip(self._input_errors(cell, visit), visit.inputs, strict=True):
            errors.update(samples_of(pair.x, shape), samples_of(pair.xq, shape))
        exact_input = not visit.inputs
        if "all_but_this" in self.scores:
            cell.without.update(y, y if exact_input else samples_of(visit.site.real(*visit.xq), visit.shape))
        for trial, kept in zip(self.trials[visit.site.name], cell.trials, strict=True):
            found: NDArray[Any] | None = None
            if "accumulated" in kept:
                own = trial.site is visit.site
                found = samples_of(visit.yq if own else trial.site.integer_of(*visit.xq), visit.shape)
                kept["accumulated"].update(y, found)
            if "isolated" in kept:
                if found is None or not exact_input:
                    found = samples_of(trial.site.integer_of(*visit.x), visit.shape)
                kept["isolated"].update(y, found)

    @staticmethod
    def _input_errors(cell: _Cell, visit: SiteVisit) -> list[ErrorMetrics]:
        """As many as the site has inputs that may differ, known once it has been seen."""
        if not cell.inputs:
            cell.inputs = [ErrorMetrics() for _ in visit.inputs]
        return cell.inputs

    # -- a stop and a result ---------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that was summed, as plain data."""
        return {
            site: {
                "inputs": [errors.state() for errors in cell.inputs],
                "without": cell.without.state(),
                "trials": [{name: e.state() for name, e in errors.items()} for errors in cell.trials],
            }
            for site, cell in self._cells.items()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken of scores of the same trials."""
        load = ErrorMetrics.from_state
        self._cells = {
            site: _Cell(
                [load(errors) for errors in state[site]["inputs"]],
                load(state[site]["without"]),
                [{name: load(e) for name, e in errors.items()} for errors in state[site]["trials"]],
            )
            for site in self._cells
        }

    def unreached(self) -> list[str]:
        """Sites of which no sample was seen."""
        return [
            site
            for site, cell in self._cells.items()
            if not any(e.compute().samples for e in (cell.without, *cell.trials[0].values()))
        ]

    def rows(self, index: Mapping[str, int]) -> list[SensitivityRow]:
        """The scores so far."""
        made = []
        for site, cell in self._cells.items():
            sqnr_in = min((float(e.compute().sqnr) for e in cell.inputs), default=float("inf"))
            without = float(cell.without.compute().sqnr) if "all_but_this" in self.scores else None
            for trial, errors in zip(self.trials[site], cell.trials, strict=True):
                found = {name: e.compute() for name, e in errors.items()}
                ratios = {name: float(summary.sqnr) for name, summary in found.items()}
                main = found.get("accumulated") or found.get("isolated") or cell.without.compute()
                more = {name: float(getattr(main, name)) for name in ("mse", "cosine", "max_error")}
                made.append(
                    SensitivityRow(
                        site=site,
                        kind=trial.site.kind,
                        index=index[site],
                        candidate=trial.candidate.name,
                        settings=trial.settings,
                        sqnr_in=sqnr_in,
                        all_but_this=without,
                        samples=int(main.samples),
                        exact=int(main.exact),
                        **ratios,
                        **(more if found else {}),
                    )
                )
        return made

    def totals(self) -> dict[str, Any]:
        """Figures of the whole run; none here."""
        return {}
