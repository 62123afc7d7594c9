"""observe: run batches in float and let every edge's observer see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from pyquant.batches import arguments
from pyquant.errors import CalibrationError
from pyquant.graph.passes import uncounted
from pyquant.graph.prepared import LABELS, Prepared, as_in_eval
from pyquant.graph.sites import Site
from pyquant.verbs.observed import check_mergeable, check_prepared, observers_restored
from pyquant.verbs.ranks import group_of, merge_over_ranks

__all__ = ["Forward", "Loss", "observe", "observe_batches"]

Forward = Callable[[nn.Module, Any], Any]
Loss = Callable[[Any, Any], Tensor]


def observe(
    prepared: Prepared,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    loss: Loss | None = None,
    process_group: Any = None,
    progress: bool = True,
) -> Prepared:
    """The first half of `calibrate`: look at data, choose nothing yet.

    What was observed before is forgotten first. `save_observations` keeps the result in a file,
    `finish_calibration` turns it into scales.

    Parameters
    ----------
    prepared, batches, forward, loss, process_group, progress
        As for `calibrate`.

    Returns
    -------
    Prepared
        The same object; modes and scales are as they were.

    Raises
    ------
    CalibrationError, TypeError, RuntimeError
        As `calibrate`. After any error the observers hold what they held before.
    """
    check_prepared("observe", prepared)
    with observers_restored(prepared):
        observe_batches("observe", prepared, batches, forward, loss, process_group, progress)
    return prepared


def observe_batches(
    op: str,
    prepared: Prepared,
    batches: Iterable[Any],
    forward: Forward | None,
    loss: Loss | None,
    process_group: Any,
    progress: bool,
) -> None:
    """`observe` under the name of the verb that the user called; modes are restored, observers are not."""
    group = None if process_group is None else group_of(op, process_group)
    sites = list(prepared.sites().values())
    before = [site.mode for site in sites]
    count, failure = 0, None
    try:
        for site in sites:
            site.reset_observers()
            site.mode = "observe"
        try:
            if group is not None:
                check_mergeable(op, prepared)
            with as_in_eval(prepared):  # dropped values would widen every range
                count = _run(op, prepared, batches, forward, loss, progress)
        except Exception as error:
            if group is None:
                raise
            failure = error  # the other ranks wait for an answer
        if group is not None:
            count = merge_over_ranks(op, prepared, group, count, failure)
        if not count:
            where = "" if group is None else " on some rank"
            raise CalibrationError(f"{op}: expected at least one batch{where}, got none")
    finally:
        for site, old in zip(sites, before, strict=True):
            site.mode = old


def _run(
    op: str,
    prepared: Prepared,
    batches: Iterable[Any],
    forward: Forward | None,
    loss: Loss | None,
    progress: bool,
) -> int:
    """How many batches there were."""
    waiting = [site for site in prepared.sites().values() if site.observer.needs_gradient]
    if waiting and loss is None:
        raise CalibrationError(
            f"{op}: site {waiting[0].name!r}: observer {waiting[0].observer.name!r} needs gradients; "
            "give loss=, a function of (output, batch)"
        )
    count = 0
    drop = tuple(t for t in LABELS if t in prepared._signature.inputs)
    # Scales made in inference mode could not train.
    with torch.inference_mode(False), torch.set_grad_enabled(bool(waiting)), uncounted(prepared):
        for batch in tqdm(batches, desc=op, unit="batch", disable=not progress, leave=False):
            try:
                for site in waiting:
                    site.awaiting = []
                if forward is not None:
                    output = forward(prepared, batch)
                else:
                    args, kwargs = arguments(prepared, batch, drop=drop)
                    output = prepared(*args, **kwargs)
                if waiting:
                    assert loss is not None
                    _differentiate(op, waiting, loss(output, batch))
            finally:
                for site in waiting:
                    site.awaiting = None
            count += 1
    return count


def _differentiate(op: str, waiting: list[Site], value: object) -> None:
    """Hand each site the gradients of its outputs; those of parameters are not computed."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise CalibrationError(f"{op}: expected loss to return a tensor of one number, got {got}")
    edges = [y for site in waiting for y in site.awaiting or ()]
    if not edges:
        return
    if not value.requires_grad:
        raise CalibrationError(
            f"{op}: expected the loss to depend on what the model computed; it has no gradient"
        )
    gradients = iter(torch.autograd.grad(value, edges, allow_unused=True))
    for site in waiting:
        site.observe_gradients([next(gradients) for _ in site.awaiting or ()])
