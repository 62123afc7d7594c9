"""prepare: a model becomes a Prepared."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from pyquant.assignment import Plan, as_plan
from pyquant.batches import arguments
from pyquant.config import QuantConfig, resolve_config
from pyquant.errors import CoverageError
from pyquant.graph.build import build
from pyquant.graph.capture import capture
from pyquant.graph.normalize import normalize
from pyquant.graph.prepared import Prepared, make_prepared
from pyquant.graph.train_graph import build_for_training, split_marks
from pyquant.verbs.calibrate import calibrate

__all__ = ["prepare"]


def prepare(
    model: nn.Module,
    example: Any,
    config: str | Mapping[str, Any] | QuantConfig | None = None,
    *,
    plan: Plan | str | os.PathLike[str] | None = None,
    calibration: Iterable[Any] | None = None,
    strict: bool = False,
    dropout: bool = False,
    batch_statistics: bool = False,
) -> Prepared:
    """Make the module that simulates a model with the real integer kernels, and trains.

    Parameters
    ----------
    model : torch.nn.Module
        Any exportable model; copied, never changed.
    example : tensor, mapping or tuple
        One batch, of any size, as a data loader gives it. Inputs that the example lacks (say, ``labels``)
        cannot be given later.
    config : str, mapping or QuantConfig, optional
        A preset (``W8A8``, ``W4A8``, ``W6A6``), a YAML or JSON file, or a configuration. Unless given it is
        the one that the plan was made with, and ``W8A8`` without a plan.
    plan : Plan or path, optional
        A candidate for each site (`pyquant.assign`): overrides after those of `config`.
    calibration : iterable of batches, optional
        If given, scales are set from it and the result is in mode ``quantized``; else in mode ``float``.
    strict : bool
        Raise if anything stays float.
    dropout : bool
        In `train()` the model drops what the original drops there, with the same probabilities: dropout and
        its relatives, also of attention probabilities, and stochastic depth. `eval()`, calibration and
        `convert` know nothing of it; `Prepared.coverage` lists what came back, and what could not.
    batch_statistics : bool
        In `train()` each `torch.nn.BatchNorm1d` (2d, 3d) normalises with the statistics of its batch and
        moves the running ones, until `pyquant.freeze_batch_norm`. Weights stay folded with the running
        statistics. Unless set, running statistics are frozen from the start.

    Raises
    ------
    CaptureError
        The model cannot be exported, or (with `dropout`) cannot run in training mode.
    CoverageError
        ``strict`` and an op has no integer form; the message lists all of them.
    ValueError
        A bad configuration, a glob in it that matches nothing, or a plan for a site that the model lacks.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"prepare: expected a torch.nn.Module, got {type(model).__name__}")
    resolved, planned = _resolve(config, plan)
    args, kwargs = arguments(model, example)
    with torch.inference_mode(False):  # scales made in inference mode could not train
        captured = capture(model, args, kwargs, dropout=dropout, batch_statistics=batch_statistics)
        marked = split_marks(captured) if dropout or batch_statistics else None
        built = build(normalize(captured), resolved, planned.check_sites if planned is not None else None)
        trained = None
        if marked is not None:
            trained, built.rows = build_for_training(marked, built, resolved)
        prepared = make_prepared(model, captured, built, resolved, trained)
    if strict:
        floats = [row[:2] + row[3:] for row in prepared._rows if row[2] in ("float", "simulated")]
        if floats:
            listed = "; ".join(f"{site} ({op}): {reason}" for site, op, reason in floats)
            raise CoverageError(f"prepare: {len(floats)} ops would stay float: {listed}")
    if calibration is not None:
        calibrate(prepared, calibration)
    return prepared


def _resolve(
    config: str | Mapping[str, Any] | QuantConfig | None, plan: Plan | str | os.PathLike[str] | None
) -> tuple[QuantConfig, Plan | None]:
    """The configuration with the plan in it, and the plan."""
    if plan is None:
        return resolve_config("W8A8" if config is None else config), None
    planned = as_plan(plan)
    base = config if config is not None else planned.config if planned.config is not None else "W8A8"
    return planned.apply(base), planned
