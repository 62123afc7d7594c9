"""Every way of writing a transformer reaches 100 % integer, and the engine gives the simulation's
integers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils._pytree as pytree

import pyquant as pq
from tests.graph.models import INTEGER_MODELS, batch_for, seeded

# Random models of this size (two blocks, 24 channels) lie 22 to 48 dB from float; a wrong mask, a swapped
# axis or a lost factor lies below 10.
LEAST_SQNR = 18.0


def tensors(output: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def sqnr(reference: torch.Tensor, other: torch.Tensor) -> float:
    noise = (reference - other).norm()
    return float("inf") if not noise else float(20 * torch.log10(reference.norm() / noise))


@pytest.mark.parametrize("name", INTEGER_MODELS)
def test_engine_equals_simulation(name: str) -> None:
    model = seeded(INTEGER_MODELS[name])
    before = copy.deepcopy(model.state_dict())
    prepared = pq.quantize(model, [batch_for(name, 6, s) for s in range(3)], strict=True, progress=False)
    engine = pq.convert(prepared)
    assert prepared.coverage().percent_integer == 100.0
    assert prepared.coverage() == engine.coverage()
    for batch in (1, 5):
        x = batch_for(name, batch, seed=9)
        found = pq.compare(prepared, engine, x)
        assert found.identical, f"{name}, batch {batch}\n{found}"
        with torch.no_grad():
            pairs = list(zip(tensors(model(x)), tensors(prepared(x)), strict=True))
        assert len(found.outputs) == len(pairs) > 0
        for real, simulated in pairs:
            assert real.shape == simulated.shape
            assert sqnr(real, simulated) > LEAST_SQNR
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("method", pq.methods.methods("softmax"))
def test_softmax_methods(method: str) -> None:
    """Alone, by each method, of int16 rows and of int8 rows."""
    for name, bits in (("softmax_head", 8), ("softmax_alone", 16)):
        config = pq.QuantConfig(base=pq.SiteConfig(softmax=method, residual_bits=bits))
        model = seeded(INTEGER_MODELS[name])
        prepared = pq.quantize(model, [batch_for(name, 6)], config, strict=True, progress=False)
        kinds = [row.site for row in prepared.coverage().rows if row.op == "softmax"]
        assert len(kinds) == {"softmax_head": 1, "softmax_alone": 2}[name]
        x = batch_for(name, 3, seed=9)
        found = pq.compare(prepared, pq.convert(prepared), x)
        assert found.identical, f"{name}\n{found}"
        if name == "softmax_head":
            y = prepared(x)
            assert (y.sum(-1) - 1).abs().max() < 0.35  # powers of two sum to no more than that off 1
            assert y.min() >= 0


def test_softmax_method_of_one_site() -> None:
    """A site's own method, beside that of attention."""
    config = pq.QuantConfig().override("softmax", softmax="index").override("*.context", softmax="sole")
    prepared = pq.prepare(seeded(INTEGER_MODELS["softmax_head"]), batch_for("softmax_head", 2), config)
    chosen = {name: site.config.softmax for name, site in prepared.sites().items() if "oftmax" in site.kind}
    assert chosen == {"softmax": "index"}
    assert prepared.sites("*.context")["model.blocks.0.attention.context"].config.softmax == "sole"


def test_compare_sees_a_difference() -> None:
    """A simulation whose scale moved after conversion is another model."""
    model = seeded(INTEGER_MODELS["mlp_relu"])
    prepared = pq.quantize(model, [batch_for("mlp_relu", 4)], progress=False)
    engine = pq.convert(prepared)
    x = batch_for("mlp_relu", 2, seed=5)
    assert pq.compare(prepared, engine, x) == pq.compare(prepared, engine, x)
    site = prepared.sites("blocks.0.mlp.0")["blocks.0.mlp.0"]
    site.output.scale.mul_(1.25)
    found = pq.compare(prepared, engine, x)
    assert not found.identical
    changed = [row.name for row in found.sites if row.differing]
    assert changed[0] == "blocks.0.mlp.0"
    assert "blocks.0.mlp.0: " in str(found)
    assert "blocks.0.norm2" not in changed
    with pytest.raises(TypeError, match="IntegerModel"):
        pq.compare(prepared, pq.convert(prepared, partial=True), x)  # type: ignore[arg-type]
    pq.set_mode(prepared, "float", "head")
    with pytest.raises(pq.CalibrationError, match="'head' is in mode 'float'"):
        pq.compare(prepared, engine, x)


def test_site_names() -> None:
    """The last module path, plus the op's kind where functional, plus the number of a repeated call."""
    prepared = pq.prepare(seeded(INTEGER_MODELS["vit"]), batch_for("vit", 2))
    assert {
        "pixel_values",
        "vit.embeddings.patch_embeddings.projection",
        "vit.embeddings.concat",
        "vit.embeddings.add",
        "vit.layers.1.attention.context",
        "vit.layers.1.mlp.fc1",
        "vit.layers.1.layernorm_before",
        "classifier",
    } <= set(prepared.sites())
    repeated = pq.prepare(seeded(INTEGER_MODELS["shared_block"]), batch_for("shared_block", 2))
    assert {"blocks.block.attention.context", "blocks.block.attention.context#1"} <= set(repeated.sites())
    fused = pq.prepare(seeded(INTEGER_MODELS["sdpa"]), batch_for("sdpa", 2))
    assert {f"blocks.0.attention.qkv.{part}" for part in "qkv"} <= set(fused.sites())


def test_trace_of_attention() -> None:
    """Sub-sites beside ``.context``, and the softmax they stand for."""
    model = seeded(INTEGER_MODELS["causal"])
    prepared = pq.quantize(model, [batch_for("causal", 4)], progress=False)
    traced = pq.convert(prepared).trace(batch_for("causal", 2))
    stem = "blocks.0.attention"
    scores, p, total = (traced[f"{stem}.{part}"].integers for part in ("scores", "softmax.p", "softmax.l"))
    assert scores.shape[-2:] == p.shape[-2:] == (10, 10)
    assert np.array_equal(p.astype(np.int64).sum(-1).ravel(), total.astype(np.int64).ravel())
    assert not np.triu(p.reshape(-1, 10, 10)[0], 1).any()
    assert traced[f"{stem}.context"].integers.shape == (2, 3, 10, 8)
