"""Approximations of element-wise functions on the sites of a model: chosen by name, run by the engine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import pyquant as pq
from pyquant.config import SiteConfig
from pyquant.numerics import derive_table, unary_functions

X = 3 * torch.randn(64, 6, generator=torch.Generator().manual_seed(0))

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


def model(*names: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = [layer for name in names for layer in (nn.Linear(6, 6), ACTIVATIONS[name]())]
        return nn.Sequential(*layers, nn.Linear(6, 5)).eval()


def config(method: str, **overrides: str) -> pq.QuantConfig:
    made = pq.QuantConfig(base=SiteConfig(unary=method))
    for site, other in overrides.items():
        made = made.override(site.replace("_", ""), unary=other)
    return made


@pytest.mark.parametrize("method", ["table", "ibert", "ivit", "ivit(bits=16)", "poly", "nnlut(entries=4)"])
def test_engine_equals_simulation(method: str) -> None:
    """A chain of all functions that the method has."""
    functions = [name for name in ACTIVATIONS if name in unary_functions(method)]
    assert len(functions) >= 4
    prepared = pq.quantize(model(*functions), [X], config(method), progress=False)
    assert np.array_equal(pq.convert(prepared)(X), prepared(X).detach().numpy())
    exact = pq.quantize(model(*functions), [X], progress=False)
    assert torch.equal(exact(X), prepared(X)) == (method == "table")
    assert (exact(X) - prepared(X)).abs().max() < 0.25 * exact(X).abs().max()


def test_each_site_has_its_own_method() -> None:
    prepared = pq.quantize(model("gelu", "gelu"), [X], config("ibert", _3="poly(x_bits=10)"), progress=False)
    sites = prepared.sites()
    assert (sites["1"].config.unary, sites["3"].config.unary) == ("ibert", "poly(x_bits=10)")
    grids = [tuple(value.item() for value in sites[name].output.scale.reshape(-1)) for name in ("1", "3")]
    assert grids[0] != grids[1]
    assert np.array_equal(pq.convert(prepared)(X), prepared(X).detach().numpy())


def test_a_method_without_the_function_is_refused_at_prepare() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        pq.prepare(model("gelu", "tanh"), X, config("ivit"))
    message = str(caught.value)
    for part in ("site '3'", "method ivit has no tanh", "gelu, gelu_tanh, quick_gelu, silu, sigmoid, exp"):
        assert part in message
    prepared = pq.quantize(model("gelu", "tanh"), [X], config("ivit", _3="table"), progress=False)
    assert np.array_equal(pq.convert(prepared)(X), prepared(X).detach().numpy())
    with pytest.raises(ValueError, match=r"site '1': method poly has no relu"):
        pq.prepare(model("relu"), X, config("poly"))


def test_an_unknown_method_is_refused_by_the_configuration() -> None:
    with pytest.raises(ValueError, match=r"unary: expected a method \(table, ibert, .*got 'cubic'"):
        SiteConfig(unary="cubic")


def test_few_bits() -> None:
    """Grids of 2 to 4 bits: coarse units are refined (x_bits), so the function keeps its shape."""
    for bits in (2, 3, 4):
        base = SiteConfig(unary="ibert", activation_bits=bits)
        prepared = pq.quantize(model("gelu"), [X], pq.QuantConfig(base=base), progress=False)
        assert np.array_equal(pq.convert(prepared)(X), prepared(X).detach().numpy())


def test_the_stored_table_is_that_of_the_method() -> None:
    x, y = (0.05, 3, -128, 127), (0.04, -100, -128, 127)
    tables = {name: derive_table("gelu", x, y, name).tolist() for name in ("table", "ibert", "ivit", "poly")}
    assert len({tuple(table) for table in tables.values()}) == 4
    with pytest.raises(ValueError, match=r"method ivit has .* got relu"):
        derive_table("relu", x, y, "ivit")
