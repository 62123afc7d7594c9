"""prepare: a model becomes a Prepared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from pyquant.batches import arguments
from pyquant.config import QuantConfig, resolve_config
from pyquant.errors import CoverageError
from pyquant.graph.build import build
from pyquant.graph.capture import capture
from pyquant.graph.normalize import normalize
from pyquant.graph.prepared import Prepared, make_prepared
from pyquant.verbs.calibrate import calibrate

__all__ = ["prepare"]


def prepare(
    model: nn.Module,
    example: Any,
    config: str | Mapping[str, Any] | QuantConfig = "W8A8",
    *,
    calibration: Iterable[Any] | None = None,
    strict: bool = False,
) -> Prepared:
    """Make the module that simulates a model with the real integer kernels, and trains.

    Parameters
    ----------
    model : torch.nn.Module
        Any exportable model; copied, never changed.
    example : tensor, mapping or tuple
        One batch, of any size, as a data loader gives it. Inputs that the example lacks (say, ``labels``)
        cannot be given later.
    config : str, mapping or QuantConfig
        A preset (``W8A8``, ``W4A8``, ``W6A6``), a YAML or JSON file, or a configuration.
    calibration : iterable of batches, optional
        If given, scales are set from it and the result is in mode ``quantized``; else in mode ``float``.
    strict : bool
        Raise if anything stays float.

    Raises
    ------
    CaptureError
        The model cannot be exported.
    CoverageError
        ``strict`` and an op has no integer form; the message lists all of them.
    ValueError
        A bad configuration, or a glob in it that matches nothing.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"prepare: expected a torch.nn.Module, got {type(model).__name__}")
    resolved = resolve_config(config)
    args, kwargs = arguments(model, example)
    with torch.inference_mode(False):  # scales made in inference mode could not train
        captured = normalize(capture(model, args, kwargs))
        prepared = make_prepared(model, captured, build(captured, resolved), resolved)
    if strict:
        floats = [(site, op, reason) for site, op, kind, reason in prepared._rows if kind == "float"]
        if floats:
            listed = "; ".join(f"{site} ({op}): {reason}" for site, op, reason in floats)
            raise CoverageError(f"prepare: {len(floats)} ops would stay float: {listed}")
    if calibration is not None:
        calibrate(prepared, calibration)
    return prepared
