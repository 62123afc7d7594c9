"""calibrate: run batches in float, observe every edge, set every scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import fx, nn
from tqdm.auto import tqdm

from pyquant.batches import arguments
from pyquant.errors import CalibrationError
from pyquant.graph.prepared import LABELS, Prepared
from pyquant.graph.values import constant_of

__all__ = ["calibrate", "set_scales"]


def calibrate(
    prepared: Prepared,
    batches: Iterable[Any],
    *,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    progress: bool = True,
) -> Prepared:
    """Choose every scale and zero point from data.

    The state of the observers has a fixed size, so memory does not grow with the number of samples. What was
    observed before is forgotten first.

    Parameters
    ----------
    prepared : Prepared
        Changed in place; ends in mode ``quantized``.
    batches : iterable of batches
        Read once.
    forward : callable, optional
        ``forward(prepared, batch)``.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Prepared
        The same object.

    Raises
    ------
    CalibrationError
        No batch, a value that is not finite (the site is named), or a site that no batch reaches. After any
        error, an interrupt included, scales and modes are as they were before.
    TypeError
        A batch does not fit the model.
    """
    if not isinstance(prepared, Prepared):
        raise TypeError(
            f"calibrate: expected a Prepared (see pyquant.prepare), got {type(prepared).__name__}"
        )
    sites = list(prepared.sites().values())
    before = [site.mode for site in sites]
    done = False
    try:
        for site in sites:
            site.reset_observers()
            site.mode = "observe"
        count = _run(prepared, batches, forward, progress)
        if not count:
            raise CalibrationError("calibrate: expected at least one batch, got none")
        set_scales(prepared)
        done = True
    finally:
        for site, old in zip(sites, before, strict=True):
            site.mode = "quantized" if done else old
    return prepared


def _run(
    prepared: Prepared,
    batches: Iterable[Any],
    forward: Callable[[nn.Module, Any], Any] | None,
    progress: bool,
) -> int:
    count = 0
    drop = tuple(t for t in LABELS if t in prepared._signature.inputs)
    with torch.inference_mode(False), torch.no_grad():  # scales made in inference mode could not train
        for batch in tqdm(batches, desc="calibrate", unit="batch", disable=not progress, leave=False):
            if forward is not None:
                forward(prepared, batch)
            else:
                args, kwargs = arguments(prepared, batch, drop=drop)
                prepared(*args, **kwargs)
            count += 1
    return count


def set_scales(prepared: Prepared) -> None:
    """Turn what the observers saw into scales, for every site at once or for none."""
    sites = prepared.sites()
    empty = [name for name, site in sites.items() if site.observer.empty]
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise CalibrationError(f"calibrate: no batch reached site {empty[0]!r}{more}")
    chosen = [
        (site, site.observer.qparams(site.output.bits, site.output.symmetric)) for site in sites.values()
    ]
    # Weights first: choosing their scales may fail, setting numbers may not.
    _calibrate_weights(prepared)
    for site, q in chosen:
        site.output.set(q.scale, q.zero_point)


def _calibrate_weights(prepared: Prepared) -> None:
    values: dict[fx.Node, Any] = {}
    sites = prepared.sites().values()
    before = [(site, dict(site._buffers), dict(site._parameters)) for site in sites]
    numbers = [(scale, scale.detach().clone()) for site in sites for scale in site.learned_scales()]
    try:
        for node, site in prepared.site_nodes():
            extras = [a for a in node.args if isinstance(a, fx.Node)]
            weights = [constant_of(prepared, extra, values) for extra in extras]
            for extra, weight in zip(extras, weights, strict=True):
                if site.finite_extras and weight is not None and not bool(torch.isfinite(weight).all()):
                    raise CalibrationError(f"calibrate: site {site.name!r}: {extra.target} is not finite")
            site.calibrate_weights(*weights)
    except BaseException:
        for site, buffers, parameters in before:
            site._buffers.update(buffers)
            site._parameters.update(parameters)
        with torch.no_grad():
            for scale, value in numbers:
                scale.copy_(value)
        raise
