"""Modes that change while a model trains, and the mode between float and integers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pyquant as pq

X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


def prepared(config: str = "W4A8-lsq") -> pq.Prepared:
    torch.manual_seed(0)
    return pq.quantize(
        nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)), [X], config, progress=False
    )


def modes(model: pq.Prepared) -> list[str]:
    return [site.mode for site in model.sites().values()]


def test_a_schedule_goes_on_from_its_state() -> None:
    model = prepared()
    phases = [pq.Phase(0, "float"), pq.Phase(2, "quantized"), pq.Phase(2, "frozen", "0")]
    schedule = pq.Schedule(model, phases)
    seen = []
    for _ in range(4):
        seen.append(modes(model)[1:])  # the first is the input's
        schedule.step()
    assert seen[1] == ["float"] * 3
    assert seen[2] == ["frozen", "quantized", "quantized"]
    other = prepared()
    again = pq.Schedule(other, phases)
    assert set(modes(other)) == {"float"}
    again.load_state_dict(schedule.state_dict())
    assert modes(other)[1:] == seen[3]
    assert pq.Schedule(prepared(), phases, step=3).steps == 3


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ({}, "expected phases"),
        ({0: "luck"}, "mode to be one of .*, got 'luck'"),
        ({-1: "float"}, "begin to be an integer >= 0, got -1"),
        ([pq.Phase(0, "float", "nowhere.*")], "matches no site"),
        ([3], "expected phases"),
    ],
)
def test_bad_phases(phases: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pq.Schedule(prepared(), phases)  # type: ignore[arg-type]


@pytest.mark.parametrize("config", ["W4A8", "W4A8-lsq", "W8A8"])
def test_mode_weights_is_the_float_model_of_the_integers_weights(config: str) -> None:
    model = prepared(config)
    pq.set_mode(model, "weights")
    sites = model.sites()
    expected = X
    for name, layer in (("0", model.get_submodule("0")), ("2", model.get_submodule("2"))):
        weight, site = layer.weight.detach(), sites[name]
        limit = 2 ** (site.config.weight_bits - 1) - 1
        own = weight.abs().amax(dim=1) / limit
        scale = own if site.weight_scale is None else site.weight_scale.detach()
        q = torch.round(weight / scale[:, None]).clamp(-limit, limit)
        expected = F.linear(expected, q * scale[:, None], layer.bias)
        expected = F.relu(expected) if name == "0" else expected
    torch.testing.assert_close(model(X), expected)


def test_scales_of_weights_learn_in_mode_weights_and_those_of_edges_do_not() -> None:
    model = prepared()
    pq.set_mode(model, "weights")
    model(X).square().sum().backward()
    for site in model.sites().values():
        for name, parameter in site.named_parameters():
            assert (parameter.grad is not None) == (name == "weight_scale") == parameter.requires_grad


@pytest.mark.parametrize(
    ("bits", "group_size", "given"), [(4, 0, True), (4, 4, True), (3, 8, False), (8, 0, False)]
)
def test_quantize_weight(bits: int, group_size: int, given: bool) -> None:
    weight = torch.randn(5, 12, generator=torch.Generator().manual_seed(1)).requires_grad_()
    groups = -(-12 // group_size) if group_size else 1
    limit = 2 ** (bits - 1) - 1
    scale = (torch.rand(5, groups, generator=torch.Generator().manual_seed(2)) + 0.2) / limit
    scale = (scale if group_size else scale[:, 0]).clone().requires_grad_() if given else None
    op = torch.ops.pyquant.quantize_weight.default
    args = (weight, scale, bits, group_size)
    torch.library.opcheck(op, args)
    y = op(*args)
    if scale is not None:
        y.sum().backward()
        assert scale.grad is not None
        steps = (
            weight.detach() / scale.detach().reshape(5, groups).repeat_interleave(group_size or 12, 1)[:, :12]
        )
        assert torch.equal(weight.grad == 0, steps.abs() >= limit)


def test_quantize_weight_of_what_cannot_be() -> None:
    op = torch.ops.pyquant.quantize_weight
    with pytest.raises(RuntimeError, match=r"expected weight_scale \(2,\), got \(3,\)"):
        op(torch.ones(2, 4), torch.ones(3), 4, 0)
    with pytest.raises(RuntimeError, match=r"weight_bits in \[2, 8\], got 9"):
        op(torch.ones(2, 4), None, 9, 0)
    with pytest.raises(RuntimeError, match="weight"):
        op(torch.full((2, 4), torch.nan), None, 4, 0)
