"""finish_calibration: what the observers saw becomes scales."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from pyquant.errors import CalibrationError
from pyquant.graph.prepared import Prepared
from pyquant.graph.sites import Site
from pyquant.graph.values import constant_of
from pyquant.graph.watch import warn_not_reduced
from pyquant.quantizers import Quantizer
from pyquant.verbs.observed import check_prepared

__all__ = ["finish_calibration", "set_scales"]


def finish_calibration(prepared: Prepared) -> Prepared:
    """The second half of `calibrate`: choose every scale from what `observe` or `merge_observations` left.

    Parameters
    ----------
    prepared : Prepared
        Changed in place; ends in mode ``quantized``.

    Returns
    -------
    Prepared
        The same object.

    Raises
    ------
    CalibrationError
        A site that no batch reached, or a weight that is not finite. Scales and modes are as before then.
    """
    check_prepared("finish_calibration", prepared)
    set_scales("finish_calibration", prepared)
    return prepared


def set_scales(op: str, prepared: Prepared) -> None:
    """Scales for every site at once or for none, and mode ``quantized``."""
    sites = prepared.sites()
    empty = [name for name, site in sites.items() if site.observer.empty]
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        what = (
            "the loss of no batch depends on"
            if sites[empty[0]].observer.needs_gradient
            else "no batch reached"
        )
        raise CalibrationError(f"{op}: {what} site {empty[0]!r}{more}")
    with torch.inference_mode(False), torch.no_grad():
        chosen = [(site, _choose(op, site)) for site in sites.values()]
        # Weights first: choosing their scales may fail, setting numbers may not.
        _calibrate_weights(op, prepared)
        for site, numbers in chosen:
            site.output.adopt(numbers)
            site.rates = {}
            site.mode = "quantized"
    warn_not_reduced(sites.values())


def _choose(op: str, site: Site) -> Any:
    try:
        return site.output.choose(site.observer)
    except (CalibrationError, ValueError) as error:
        raise CalibrationError(f"{op}: site {site.name!r}: {error}") from None


def _calibrate_weights(op: str, prepared: Prepared) -> None:
    values: dict[fx.Node, Any] = {}
    sites = prepared.sites().values()
    modules = [module for site in sites for module in (site, getattr(site, "weight_quantizer", None))]
    before = [(m, dict(m._buffers), dict(m._parameters)) for m in modules if m is not None]
    kept: list[Tensor] = [scale for site in sites for scale in site.learned_scales()]
    kept += [m.initialized for m in modules if isinstance(m, Quantizer)]
    numbers = [(value, value.detach().clone()) for value in kept]
    try:
        for node, site in prepared.site_nodes():
            extras = [a for a in node.args if isinstance(a, fx.Node)]
            weights = [constant_of(prepared, extra, values) for extra in extras]
            for extra, weight in zip(extras, weights, strict=True):
                if site.finite_extras and weight is not None and not bool(torch.isfinite(weight).all()):
                    raise CalibrationError(f"{op}: site {site.name!r}: {extra.target} is not finite")
            site.calibrate_weights(*weights)
    except BaseException:
        for module, buffers, parameters in before:
            module._buffers.update(buffers)
            module._parameters.update(parameters)
        for number, value in numbers:
            number.data = value  # a learned scale may have taken another shape
        raise
