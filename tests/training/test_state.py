"""A checkpoint goes into the model that it is of, and into no other."""

from __future__ import annotations

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
