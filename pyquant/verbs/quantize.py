"""quantize: prepare and calibrate in one call."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from pyquant.assignment import Plan
from pyquant.batches import first_batch
from pyquant.config import QuantConfig
from pyquant.graph.prepared import Prepared
from pyquant.verbs.calibrate import calibrate
from pyquant.verbs.observe import Forward, Loss
from pyquant.verbs.prepare import prepare

__all__ = ["quantize"]


def quantize(
    model: nn.Module,
    calib: Iterable[Any],
    config: str | Mapping[str, Any] | QuantConfig | None = None,
    *,
    plan: Plan | str | os.PathLike[str] | None = None,
    strict: bool = False,
    dropout: bool = False,
    batch_statistics: bool = False,
    forward: Forward | None = None,
    loss: Loss | None = None,
    progress: bool = True,
) -> Prepared:
    """Post-training quantization: copy, capture, calibrate.

    Parameters
    ----------
    model : torch.nn.Module
        Trained, unmodified; it is never changed.
    calib : iterable of batches
        Tensors, mappings or tuples, as a data loader gives them. Read once, as a stream; an iterator does not
        lose its first batch.
    config, plan, strict, dropout, batch_statistics
        As in `prepare`: ``W8A8`` unless told otherwise.
    forward : callable, optional
        ``forward(prepared, batch)`` where a batch needs more than the usual call.
    loss : callable, optional
        ``loss(output, batch)``, for observers that need gradients (`calibrate`).
    progress : bool
        Show a progress bar.

    Returns
    -------
    Prepared
        In mode ``quantized``.

    Raises
    ------
    CaptureError, CoverageError, CalibrationError, ValueError
        As `prepare` and `calibrate`.

    Examples
    --------
    >>> import torch, pyquant as pq
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 2))
    >>> qmodel = pq.quantize(model, [torch.randn(16, 4)], progress=False)
    >>> engine = pq.convert(qmodel)
    """
    first, batches = first_batch(calib, "calib")
    prepared = prepare(
        model,
        first,
        config,
        plan=plan,
        strict=strict,
        dropout=dropout,
        batch_statistics=batch_statistics,
    )
    calibrate(prepared, batches(), forward=forward, loss=loss, progress=progress)
    return prepared
