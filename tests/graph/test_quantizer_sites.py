"""Sites with quantizers of the registry: values, gradients, training, state, and what convert says."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import pyquant as pq
from pyquant.graph.quantizers import QuantizerGrid
from pyquant.graph.sites import Site
from pyquant.graph.sites.linear import LinearSite
from pyquant.quantizers import Quantizer
from tests.graph.quantized import (
    FLOAT_WEIGHTS,
    INTEGER_WEIGHTS,
    OFF_GRID,
    ON_GRID,
    configured,
    data,
    learned,
    quantized,
    train,
)


def quantizer_of(site: Site) -> Quantizer:
    assert isinstance(site.output, QuantizerGrid)
    return site.output.quantizer


def arguments_of(model: pq.Prepared, name: str, x: Tensor) -> tuple[Any, ...]:
    """What a site is given in a run."""
    caught: list[tuple[Any, ...]] = []
    hook = model.sites()[name].register_forward_pre_hook(lambda _, args: caught.append(args))
    with torch.no_grad():
        model(x)
    hook.remove()
    return caught[0]


def detached(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies that want gradients, where they are float tensors."""

    def one(arg: Any) -> Any:
        if isinstance(arg, tuple):
            return (one(arg[0]), *arg[1:])
        return arg.detach().clone().requires_grad_() if isinstance(arg, Tensor) else arg

    return tuple(one(arg) for arg in args)


def leaves(args: tuple[Any, ...]) -> list[Tensor]:
    flat = [arg[0] if isinstance(arg, tuple) else arg for arg in args]
    return [arg for arg in flat if isinstance(arg, Tensor)]


# -- edges on a grid -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ON_GRID)
@pytest.mark.parametrize("bits", [4, 8])
def test_the_simulation_is_the_program_before_and_after_training(name: str, bits: int) -> None:
    model = quantized(configured(quantizer=name, activation_bits=bits))
    x = data(64)[0]
    for _ in range(2):
        comparison = pq.compare(model, pq.convert(model), x)
        assert comparison.identical, str(comparison)
        with torch.enable_grad():
            y = model(x)
        with torch.no_grad():
            assert torch.equal(model(x), y)
        train(model, 3)
    assert not model.coverage().simulated_rows
    assert {row.reason for row in model.coverage() if row.kind == "integer"} == {
        f"int{bits}, quantizer '{name}'",
        f"int16, wider than quantizer '{name}' goes",
    }


@pytest.mark.parametrize("name", ON_GRID)
@pytest.mark.parametrize("site", ["mid", "softmax", "gelu"])
def test_values_are_the_integer_op_s_and_gradients_the_quantizer_s(name: str, site: str) -> None:
    """The gradients are those of ``quantizer(real(...))``, computed here without the site."""
    model = quantized(configured(quantizer=name, activation_bits=4))
    node = model.sites()[site]
    args = arguments_of(model, site, data(16)[0])
    mine, theirs = detached(args), detached(args)
    y = node(*mine)
    quantizer = quantizer_of(node)
    assert torch.equal(y, node.integer(*args))
    want = copy.deepcopy(quantizer)(node.real(*theirs))
    # The op rounds once more, and the quantizer's own step may differ by a rounding.
    assert float((y - want).detach().abs().max()) <= 1.01 * float(node.output.scale)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    other = copy.deepcopy(quantizer)
    other(node.real(*theirs)).backward(grad)
    y.backward(grad)
    for a, b in zip(leaves(mine), leaves(theirs), strict=True):
        assert a.grad is not None
        assert torch.equal(a.grad, b.grad)
    for a, b in zip(quantizer.parameters(), other.parameters(), strict=True):
        assert a.grad is not None
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize(("name", "bits"), [(n, b) for n in ("pow2", "tqt") for b in (4, 8)])
def test_powers_of_two_are_those_of_the_program(name: str, bits: int) -> None:
    model = quantized(configured(quantizer=name, activation_bits=bits, weight_quantizer=name))
    train(model, 3)
    narrow = {name for name, site in model.sites().items() if isinstance(site.output, QuantizerGrid)}
    values = {v.name: v for v in pq.convert(model).spec.values}
    found = {n: values[n].scale for n in narrow if n in values}
    assert len(found) > 3
    for scale in found.values():
        mantissa, _ = torch.frexp(torch.tensor(scale))
        assert float(mantissa) == 0.5


def test_the_grid_is_that_of_the_quantizer_for_every_size() -> None:
    """TQT's scale comes from the bits of an exponent, PACT's from a product."""
    x = torch.tensor([-0.7, 0.3, 2.9])
    for exponent in (-60, -7, 0, 3, 40):
        for name, bits in ((n, b) for n in ON_GRID for b in (2, 5, 8)):
            quantizer = pq.quantizers.make_quantizer(f"{name}(bits={bits})")
            quantizer.initialize(x * 2.0**exponent)
            y = quantizer(x * 2.0**exponent).detach()
            scale, zero = (part.detach() for part in quantizer.grid(quantizer.parameters_for(x)))
            codes = y.double() / scale.double()
            assert torch.allclose(codes, codes.round(), rtol=0, atol=1e-4), (name, bits, exponent)
            low, high = quantizer.quant_min - int(zero), quantizer.quant_max - int(zero)
            assert low <= float(codes.min().round()) <= float(codes.max().round()) <= high
    tqt = pq.quantizers.make_quantizer("tqt")
    nan = tqt.grid({"log2_threshold": torch.tensor(float("nan"))})[0]
    assert bool(torch.isnan(nan))


def test_affine_is_what_fixed_is() -> None:
    """Both take the grid of the observer."""
    x = data(64)[0]
    plain, named = quantized("W8A8"), quantized(configured(quantizer="affine"))
    assert torch.equal(plain(x), named(x))
    assert not learned(named)


# -- weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("observer", ["absmax", "mse"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", [*INTEGER_WEIGHTS, "symmetric(dynamic=true)", "tqt(axis=none)"])
def test_integer_weights_are_recovered_exactly(name: str, bits: int, observer: str) -> None:
    model = quantized(configured(weight_quantizer=name, weight_bits=bits, weight_observer=observer))
    x = data(64)[0]
    train(model, 3)
    comparison = pq.compare(model, pq.convert(model), x)
    assert comparison.identical, str(comparison)
    site = model.sites()["mid"]
    assert isinstance(site, LinearSite)
    assert site.weight_quantizer is not None
    weight = model.mid.weight.detach()
    ours = site.weight_quantizer(weight).detach()
    _, scale = site._quantized(weight.numpy())
    assert scale is not None
    codes = ours / scale[:, None]
    limit = 2 ** (bits - 1) - 1
    assert float(codes.round().abs().max()) <= limit
    assert torch.equal(codes.round() * scale[:, None], ours)
    if "axis=none" in name:
        assert len(scale.unique()) == 1
    # A weight's gradient is the quantizer's own, behind the same gradient of the output.
    args = arguments_of(model, "mid", x)
    mine, theirs = detached(args), detached(args)
    y = site(*mine)
    y.backward(torch.ones_like(y))
    other = copy.deepcopy(site.weight_quantizer)
    other.zero_grad()
    quantized_weight = other(theirs[1])
    real = torch.nn.functional.linear(theirs[0][0], quantized_weight, theirs[2])
    inside = torch.ops.pyquant.edge_backward(torch.ones_like(y), y.detach(), *site.y_grid)
    real.backward(inside)
    for a, b in zip(leaves(mine), leaves(theirs), strict=True):
        assert a.grad is not None
        assert torch.allclose(a.grad, b.grad, rtol=1e-5, atol=1e-6)


def test_symmetric_weights_that_follow_are_absmax() -> None:
    x = data(64)[0]
    plain = quantized("W8A8")
    assert torch.equal(plain(x), quantized(configured(weight_quantizer="symmetric(dynamic=true)"))(x))


@pytest.mark.parametrize("name", FLOAT_WEIGHTS)
def test_float_weights_are_simulated_and_refused_by_name(name: str) -> None:
    model = quantized(configured("mid", weight_quantizer=name, weight_bits=4))
    x = data(16)[0]
    site = model.sites()["mid"]
    assert site.simulated == f"weight_quantizer '{name}'"
    assert [(row.site, row.reason) for row in model.coverage().simulated_rows] == [("mid", site.simulated)]
    with pytest.raises(pq.CoverageError, match=rf"1 sites are simulated.*mid \(linear\): .*'{name}'"):
        pq.convert(model)
    edge, weight, bias = arguments_of(model, "mid", x)
    assert isinstance(site, LinearSite)
    assert site.weight_quantizer is not None
    with torch.no_grad():
        want = torch.nn.functional.linear(edge[0], site.weight_quantizer(weight), bias)
        assert torch.equal(site(edge, weight, bias), torch.ops.pyquant.quantize(want, *site.y_grid))
        hybrid = pq.convert(model, partial=True)
        assert torch.equal(hybrid(x), model(x))
    before = model.mid.weight.detach().clone()
    train(model, 2)
    assert not torch.equal(model.mid.weight, before)


# -- edges on no grid ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OFF_GRID)
def test_what_has_no_grid_is_simulated_with_all_that_reads_it(name: str) -> None:
    model = quantized(configured("softmax", quantizer=name, activation_bits=4))
    x = data(32)[0]
    sites = model.sites()
    assert {n: s.simulated for n, s in sites.items() if s.simulated} == {
        "softmax": f"quantizer '{name}'",
        "mid": f"reads 'softmax', quantizer '{name}'",
    }
    with pytest.raises(pq.CoverageError, match=rf"softmax \(softmax\): quantizer '{name}'; mid \(linear\): "):
        pq.convert(model)
    with pytest.raises(pq.CoverageError, match="2 ops would stay float"):
        pq.prepare(torch.nn.Softmax(-1), x, configured("*", quantizer=name, residual_bits=8), strict=True)
    args = arguments_of(model, "softmax", x)
    with torch.no_grad():
        values = quantizer_of(sites["softmax"])(torch.softmax(args[0][0], -1))
        assert torch.equal(sites["softmax"](*args), values)
        assert len(values.unique()) <= 16
        edge, weight, bias = arguments_of(model, "mid", x)
        assert edge[1] is None
        assert torch.equal(edge[0], values)
        weights = torch.ops.pyquant.quantize_weight(weight, None, 8, 0)
        want = torch.nn.functional.linear(values, weights, bias)
        assert torch.equal(
            sites["mid"](edge, weight, bias), torch.ops.pyquant.quantize(want, *sites["mid"].y_grid)
        )
    with pytest.raises(pq.CalibrationError, match="trace_sites: site 'softmax' has no integers: quantizer"):
        pq.compare(model, pq.convert(quantized("W8A8")), x)


@pytest.mark.parametrize("name", OFF_GRID)
def test_partial_conversion_runs_them_in_torch(name: str) -> None:
    model = quantized(configured("softmax", quantizer=name, activation_bits=4))
    x = data(32)[0]
    want = model(x).detach()
    pq.set_mode(model, "float")
    hybrid = pq.convert(model, partial=True)
    assert torch.equal(hybrid(x), want)
    assert len(hybrid.segments) == 2
    with pytest.raises(pq.CoverageError, match=r"float ops: softmax \(softmax\), mid \(linear\)"):
        hybrid.save("nowhere")


@pytest.mark.parametrize("name", OFF_GRID)
def test_gradients_off_the_grid(name: str) -> None:
    model = quantized(configured("softmax", quantizer=name, activation_bits=4))
    site = model.sites()["softmax"]
    args = arguments_of(model, "softmax", data(16)[0])
    mine, theirs = detached(args), detached(args)
    other = copy.deepcopy(quantizer_of(site))
    grad = torch.randn(16, 12, generator=torch.Generator().manual_seed(1))
    site(*mine).backward(grad)
    other(site.real(*theirs)).backward(grad)
    assert torch.equal(leaves(mine)[0].grad, leaves(theirs)[0].grad)  # type: ignore[arg-type]
    for a, b in zip(quantizer_of(site).parameters(), other.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)  # type: ignore[arg-type]


def test_a_quantizer_on_a_grid_behind_one_that_has_none() -> None:
    """The reader's own grid is that of the integers it would give, and so is what comes after."""
    config = configured("softmax", quantizer="adalog(bits=4)").override("mid", quantizer="pact")
    model = quantized(config)
    x = data(32)[0]
    mid = model.sites()["mid"]
    y = mid(*arguments_of(model, "mid", x)).detach()
    codes = y / mid.output.scale
    assert torch.equal(codes.round() * mid.output.scale, y)
    assert float(codes.min()) >= 0
    assert model.sites()["gelu"].simulated == ""
    train(model, 2)
    assert torch.equal(pq.convert(model, partial=True)(x), model(x))


def test_dynamic_and_per_channel_edges_are_simulated() -> None:
    x = data(32)[0]
    for text in ("affine(dynamic=true)", "affine(axis=1,dynamic=true)", "symmetric(axis=-1)", "pact(axis=1)"):
        model = quantized(configured("softmax", quantizer=text))
        assert model.sites()["softmax"].simulated == f"quantizer {text!r}"
        train(model, 1)
        assert torch.equal(pq.convert(model, partial=True)(x), model(x))
