"""Sites whose edge or weights a quantizer of the registry quantizes, and sites that read what is on no grid.

An edge on a grid carries what the integer op gives, and the gradient of the quantizer behind the float
function: `of_quantizer`. A site that cannot compute in integers (its quantizer, that of its weights, or that
of an edge it reads has no grid) computes its float function and quantizes that: `in_float`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyquant.graph.quantizers import QuantizerGrid
from pyquant.quantizers import Quantizer
from pyquant.torch_ops.library import autocast_off

if TYPE_CHECKING:
    from pyquant.graph.sites.base import Site

__all__ = ["reason", "run", "scale_fell", "what_is_on"]


class _Valued(torch.autograd.Function):
    """The value of `value` with the gradient of `real`."""

    @staticmethod
    def forward(ctx: Any, real: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        return grads[0], None


def _valued(real: Tensor, value: Tensor) -> Tensor:
    y: Tensor = _Valued.apply(real, value)  # type: ignore[no-untyped-call]
    return y


def run(site: Site, args: tuple[Any, ...]) -> Tensor:
    """What the site gives in mode ``quantized``, for operands in float32.

    Raises
    ------
    RuntimeError
        NaN, or a quantizer's parameters that training has spoiled.
    """
    if not site.simulated and not torch.is_grad_enabled():
        return site.integer(*args)
    try:
        with autocast_off(next(site.output.buffers())):
            return in_float(site, args) if site.simulated else of_quantizer(site, args)
    except ValueError as error:  # a quantizer's opinion of the data
        raise RuntimeError(str(error)) from None


def of_quantizer(site: Site, args: tuple[Any, ...]) -> Tensor:
    """The integer op's values; the gradient is that of the quantizer on the float function."""
    grid = site.output
    assert isinstance(grid, QuantizerGrid)
    with torch.no_grad():
        value = site.integer(*args)
    return _valued(grid.quantizer(site.differentiable(*args)), value)


def _check(site: Site) -> None:
    """Raise for parameters that no quantizer can have: float arithmetic would go on with them."""
    if not torch.compiler.is_compiling():
        for quantizer in _quantizers(site):
            if fault := quantizer.fault():
                raise RuntimeError(fault)


def in_float(site: Site, args: tuple[Any, ...]) -> Tensor:
    """The float function of quantized weights, quantized."""
    _check(site)
    real = site.with_quantized_weights(*args)
    grid = site.output
    if not isinstance(grid, QuantizerGrid):
        y: Tensor = torch.ops.pyquant.quantize(real, *site.y_grid)
        return y
    if not grid.on_grid:
        if not torch.compiler.is_compiling() and bool(torch.isnan(real).any()):
            raise RuntimeError(f"{grid.text}: expected no NaN to quantize")
        found: Tensor = grid.quantizer(real)
        return found
    with torch.no_grad():
        value = torch.ops.pyquant.quantize(real, *site.y_grid)
    return _valued(grid.quantizer(real), value)


def reason(site: Site, read: Iterable[Site]) -> str:
    """Why a site cannot compute in integers, given the sites whose edges it reads; empty if it can."""
    own = [f"{name} {text!r}" for name, text in site.simulate_only]
    others = dict.fromkeys(
        f"reads {other.name!r}, {name} {text!r}"
        for other in read
        for name, text in other.simulate_only
        if not other.output.on_grid and name == "quantizer"
    )
    return ", ".join([*own, *others])


def what_is_on(site: Site) -> str:
    """The integers of an edge and the quantizer of the registry that made them, for coverage."""
    text, name = f"int{site.output.bits}", site.config.quantizer
    if isinstance(site.output, QuantizerGrid):
        return f"{text}, quantizer {name!r}"
    return text if name in ("fixed", "lsq") else f"{text}, wider than quantizer {name!r} goes"


def _quantizers(site: Site) -> list[Quantizer]:
    return [module for module in site.modules() if isinstance(module, Quantizer)]


def scale_fell(site: Site) -> bool:
    """Whether training has brought a scale to zero or below."""
    quantizers = _quantizers(site)
    theirs = {id(p) for quantizer in quantizers for p in quantizer.parameters()}
    return any(quantizer.fault() for quantizer in quantizers) or any(
        not bool((scale > 0).all()) for scale in site.learned_scales() if id(scale) not in theirs
    )
