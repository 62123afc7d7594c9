"""4-bit weights from the configuration to the engine: what is simulated is what is stored and run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pyquant as pq
from pyquant.ops import unpack_s4
from tests.graph.models import INTEGER_MODELS, batch_for, seeded


def config(**settings: object) -> pq.QuantConfig:
    return pq.QuantConfig(base=pq.SiteConfig(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["vit", "mlp_relu"])
@pytest.mark.parametrize(
    "settings",
    [
        {"weight_bits": 4},
        {"weight_bits": 4, "weight_observer": "mse"},
        {"weight_bits": 4, "group_size": 8},
        {"weight_bits": 3, "group_size": 20, "weight_observer": "mse"},
        {"weight_bits": 2, "group_size": 64},
    ],
    ids=str,
)
def test_engine_equals_simulation(name: str, settings: dict[str, object], tmp_path: Path) -> None:
    model = seeded(INTEGER_MODELS[name])
    prepared = pq.quantize(
        model, [batch_for(name, 6, s) for s in range(2)], config(**settings), strict=True, progress=False
    )
    engine = pq.convert(prepared)
    x = batch_for(name, 5, seed=9)
    assert pq.compare(prepared, engine, x).identical
    ops = {step.op for step in engine.spec.instructions}
    assert "gemm_s8s4" in ops
    assert "gemm" not in ops
    engine.save(tmp_path / "model.safetensors")
    loaded = pq.IntegerModel.load(tmp_path / "model.safetensors")
    assert loaded.digest() == engine.digest()
    assert pq.compare(prepared, loaded, x).identical


def test_wider_weights_stay_bytes() -> None:
    model = seeded(INTEGER_MODELS["mlp_relu"])
    mixed = config(weight_bits=4).override("head", weight_bits=5)
    engine = pq.convert(pq.quantize(model, [batch_for("mlp_relu", 4)], mixed, progress=False))
    ops = [step.op for step in engine.spec.instructions if step.op.startswith("gemm")]
    assert ops.count("gemm") == 1
    assert ops.count("gemm_s8s4") == len(ops) - 1 > 0


def test_groups_follow_their_own_range() -> None:
    """A layer whose second half of weights is a hundred times smaller, and the only one that has inputs: a
    common scale rounds it to nothing."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 16, bias=False)
    with torch.no_grad():
        layer.weight[:, 32:] *= 0.01
    x = torch.randn(32, 64)
    x[:, :32] = 0
    errors = []
    for group_size in (0, 32):
        prepared = pq.quantize(
            nn.Sequential(layer).eval(), [x], config(weight_bits=4, group_size=group_size), progress=False
        )
        engine = pq.convert(prepared)
        with torch.no_grad():
            errors.append(float((torch.from_numpy(engine(x.numpy())) - layer(x)).norm() / layer(x).norm()))
    assert errors[0] == 1
    assert errors[1] < 0.2


def test_what_is_stored() -> None:
    """Two weights a byte, a multiplier a group, and their product with the column's scale near the weight."""
    torch.manual_seed(0)
    layer = nn.Linear(21, 5)
    prepared = pq.quantize(
        nn.Sequential(layer).eval(),
        [torch.randn(9, 21)],
        config(weight_bits=4, group_size=8),
        progress=False,
    )
    spec, constants = prepared_program(prepared)
    by_name = {value.name: constants[value.index] for value in spec.values if value.kind == "const"}
    stored, factors = by_name["0.weight"], by_name["0.group_multiplier"]
    assert (stored.dtype, stored.shape) == (np.uint8, (5, 11))
    assert (factors.dtype, factors.shape) == (np.uint8, (5, 3))
    assert (factors.max(axis=1) == 255).all()
    w = layer.weight.detach().numpy()
    step = np.repeat(factors, 8, axis=1)[:, :21].astype(np.float64)
    column = np.abs(w).max(axis=1, keepdims=True) / (7 * 255)
    np.testing.assert_allclose(unpack_s4(stored, 21) * step * column, w, atol=float((step * column).max()))


def prepared_program(prepared: pq.Prepared) -> tuple[object, dict[int, np.ndarray]]:
    from pyquant.engine.file import loads

    return loads(pq.convert(prepared).to_bytes())
