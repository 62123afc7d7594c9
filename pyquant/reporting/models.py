"""The models that a page is about: the float one, the quantized one, and the one with the plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from pyquant.assignment import Plan
from pyquant.batches import count_inputs, target_of
from pyquant.config import QuantConfig
from pyquant.engine import IntegerModel
from pyquant.errors import CalibrationError, CoverageError, ProgramError
from pyquant.graph.prepared import Prepared
from pyquant.verbs.convert import convert
from pyquant.verbs.evaluate import Evaluation, evaluate
from pyquant.verbs.modes import mode
from pyquant.verbs.quantize import quantize

__all__ = ["Models", "carries", "program_of"]

Config = str | Mapping[str, Any] | QuantConfig | None
PLANNED = "with the plan"


@dataclass(frozen=True)
class Models:
    """One model in several states.

    Parameters
    ----------
    original : torch.nn.Module or None
        The float model; None if only a `Prepared` is known, whose float mode is the same.
    quantized : mapping of str to Prepared
        By the name of the state, the one that the page is about last.
    """

    original: nn.Module | None
    quantized: Mapping[str, Prepared]

    @property
    def main(self) -> Prepared:
        """What the page is about."""
        return list(self.quantized.values())[-1]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        plan: Plan | None,
        config: Config,
        calibration: Iterable[Any] | None,
        batches: Iterable[Any] | None,
        progress: bool,
    ) -> Models:
        """A `Prepared` as it is; a float model quantized without and with the plan.

        Raises
        ------
        ValueError
            Arguments that do not go together.
        CalibrationError
            A site has no scale.
        """
        if isinstance(model, Prepared):
            if config is not None or calibration is not None:
                raise ValueError(
                    "report: config and calibration are for a float model; a prepared one keeps its own"
                )
            missing = [name for name, site in model.sites().items() if not site.output.ready]
            if missing:
                raise CalibrationError(f"report: site {missing[0]!r} has no scale yet; calibrate first")
            if plan is not None:
                plan.check_sites({name: site.kind for name, site in model.sites().items()})
            return cls(None, {PLANNED if plan is not None and carries(model, plan) else "quantized": model})
        data = calibration if calibration is not None else batches
        if data is None:
            raise ValueError("report: a float model is quantized first: give batches or calibration")
        base = config if config is not None else plan.config if plan is not None else None
        made = {"quantized": quantize(model, data, base, progress=progress)}
        if plan is not None:
            made[PLANNED] = quantize(model, data, base, plan=plan, progress=progress)
        return cls(model, made)

    def evaluate(self, batches: Iterable[Any], progress: bool) -> dict[str, Evaluation]:
        """Accuracy of the float model and of each quantized one, by the name of the state."""
        if self.original is None:
            with mode(self.main, "float"):
                found = {"float": evaluate(self.main, batches, progress=progress)}
        else:
            found = {"float": evaluate(self.original, batches, progress=progress)}
        for name, prepared in self.quantized.items():
            with mode(prepared, "quantized"):
                found[name] = evaluate(prepared, batches, progress=progress)
        return found

    def has_targets(self, batch: Any) -> bool:
        """Whether a batch says what the answers are."""
        return target_of(batch, count_inputs(self.main)) is not None


def carries(prepared: Prepared, plan: Plan) -> bool:
    """Whether every site has the settings that the plan gives it."""
    sites = prepared.sites()
    return all(
        getattr(sites[choice.site].config, name) == value
        for choice in plan
        for name, value in choice.settings
    )


def program_of(prepared: Prepared) -> tuple[IntegerModel | None, str]:
    """The engine's program, or None and why there is none."""
    try:
        return convert(prepared), ""
    except (CoverageError, ProgramError) as error:
        return None, str(error)
