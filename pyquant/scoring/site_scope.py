"""scope="site": every candidate of every site in one joint pass a batch, compared at the site's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from pyquant.graph.sites import Outcome
from pyquant.graph.streams import SiteVisit, Walk
from pyquant.metrics import ErrorMetrics
from pyquant.scoring.arrays import pair_of, samples_of
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
            errors.update(*pair_of(pair, shape))
        if "all_but_this" in self.scores:
            without = visit.site.real(*visit.xq) if visit.inputs else visit.y
            cell.without.update(y, y if without is visit.y else samples_of(without, visit.shape))
        self._try(visit, "accumulated", visit.xq, y, cell)
        self._try(visit, "isolated", visit.x, y, cell)

    def _try(self, visit: SiteVisit, score: str, args: tuple[Any, ...], y: NDArray[Any], cell: _Cell) -> None:
        """Every candidate on the operands of one stream."""
        if score not in self.scores:
            return
        # What the quantized stream has computed already is not computed again.
        known = args is visit.xq or not visit.inputs
        trials = self.trials[visit.site.name]
        others = [trial.site for trial in trials if not (known and trial.site is visit.site)]
        outcomes = visit.site.outcomes(others, *args)
        for trial, errors in zip(trials, cell.trials, strict=True):
            own = known and trial.site is visit.site
            with trial.named():
                found, scale, zero_point = Outcome(visit.yq) if own else next(outcomes)
            errors[score].update(y, samples_of(found, visit.shape), scale=scale, zero_point=zero_point)

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
