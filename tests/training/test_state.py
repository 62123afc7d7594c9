"""A checkpoint goes into the model that it is of, and into no other."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import pyquant as pq
from pyquant.graph.state import to_tensor

X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


def prepared(config: Any = "W4A8-lsq") -> pq.Prepared:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 4))
    return pq.quantize(model, [X], config=config, progress=False)


def fresh(config: Any = "W4A8-lsq") -> pq.Prepared:
    return pq.prepare(nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 4)), X[:1], config=config)


def test_through_a_safetensors_file(tmp_path: Any) -> None:
    model = prepared()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = fresh()
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    pq.set_mode(other, "quantized")
    assert torch.equal(other(X), model(X))


def test_what_is_written_differently_is_the_same() -> None:
    base = pq.QuantConfig().override("1", unary="ibert")
    same = pq.QuantConfig().override("*", unary="ibert")
    fresh(base).load_state_dict(prepared(base).state_dict())
    with pytest.raises(ValueError, match="2 more sites"):
        fresh(base).load_state_dict(prepared(same).state_dict())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("W4A8", "quantizer is 'fixed' here and 'lsq' in the checkpoint"),
        ("W8A8-lsq", "weight_bits is 8 here and 4 in the checkpoint"),
        ("W4A4-lsq", "activation_bits is 4 here and 8 in the checkpoint"),
    ],
)
def test_another_configuration_is_named_and_nothing_is_loaded(config: str, message: str) -> None:
    other = prepared(config)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=f"another configuration: .*{message}"):
        other.load_state_dict(prepared().state_dict())
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_a_later_version_and_nonsense() -> None:
    state = prepared().state_dict()
    text = bytes(state["_extra_state"].tolist()).replace(b'"format": 2', b'"format": 9')
    later = torch.tensor(list(text), dtype=torch.uint8)
    with pytest.raises(ValueError, match="format 1 to 2, got 9; update pyquant"):
        fresh().load_state_dict({**state, "_extra_state": later})
    with pytest.raises(ValueError, match="cannot be read"):
        fresh().load_state_dict({**state, "_extra_state": torch.zeros(3, dtype=torch.uint8)})


def test_a_state_without_a_description_is_a_missing_key() -> None:
    state = prepared().state_dict()
    del state["_extra_state"]
    with pytest.raises(RuntimeError, match="_extra_state"):
        fresh().load_state_dict(state)
    fresh().load_state_dict(state, strict=False)


def test_the_description_does_not_depend_on_who_wrote_it() -> None:
    assert torch.equal(to_tensor(pq.QuantConfig()), to_tensor(pq.QuantConfig()))


def groups_of(model: pq.Prepared) -> list[tuple[str, list[str]]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [(g["name"], [names[id(p)] for p in g["params"]]) for g in pq.param_groups(model, 0.1)]


def test_an_optimizer_for_a_loaded_model_has_the_groups_of_the_first() -> None:
    """Else its state would go to other scales: these have moved past powers of two."""
    model = prepared()
    first = groups_of(model)
    scales = [p for name, p in model.named_parameters() if "scale" in name]
    with torch.no_grad():
        for index, scale in enumerate(scales):
            scale.mul_(2.5 if index % 2 else 0.3)
    assert groups_of(model) == first
    other = fresh()
    other.load_state_dict(model.state_dict())
    assert groups_of(other) == first
    assert groups_of(copy.deepcopy(model)) == first
    assert groups_of(pickle.loads(pickle.dumps(model))) == first
    without = prepared()
    with torch.no_grad():
        for mine, theirs in zip(
            (p for n, p in without.named_parameters() if "scale" in n), scales, strict=True
        ):
            mine.copy_(theirs)
    assert groups_of(without) != first
    pq.calibrate(model, [4.0 * X], progress=False)
    assert groups_of(model) != first


def test_a_model_that_no_optimizer_was_made_for_keeps_no_sizes() -> None:
    model = prepared()
    assert torch.equal(model.state_dict()["_extra_state"], to_tensor(model.quant_config))
    pq.param_groups(model, 0.1, relative=False)
    assert torch.equal(model.state_dict()["_extra_state"], to_tensor(model.quant_config))
    pq.param_groups(model, 0.1)
    broken = to_tensor(model.quant_config, rates={"0": {"weight_scale": "much"}})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="cannot be read"):
        model.load_state_dict({**model.state_dict(), "_extra_state": broken})
