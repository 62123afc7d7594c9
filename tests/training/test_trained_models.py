"""What was trained is what the engine runs: families of models, bits, and methods site by site."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils._pytree as pytree
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pyquant as pq
from pyquant.config import resolve_config
from tests.graph.models import INTEGER_MODELS, batch_for, seeded

# Each way in which an edge, a weight or a parameter takes part: fused and separate projections, tokens first,
# expanded and tied parameters, norms of both kinds, masks, biases that are learned, softmax alone.
FAMILIES = (
    "vit",
    "deit_distilled",
    "encoder_pre_sequence",
    "mha_no_bias",
    "rms_norm",
    "scale_both",
    "causal",
    "learned_bias",
    "shared_block",
    "tied_head",
    "softmax_alone",
)
PRESETS = ("W8A8-lsq", "W6A6-lsq", "W4A8-lsq", "W4A4-lsq")
EXAMPLES = settings(max_examples=2, deadline=None, derandomize=True, database=None)


@cache
def choices(family: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The sites that have a choice: setting and methods."""
    sites = pq.prepare(seeded(INTEGER_MODELS[family]), batch_for(family, 2)).sites()
    return {name: (site.method, site.methods()) for name, site in sites.items() if site.methods()}


@st.composite
def configurations(draw: st.DrawFn, family: str) -> pq.QuantConfig:
    """A preset, or few bits in groups or with coarse residuals; then a method for each site."""
    base = draw(
        st.sampled_from(PRESETS).map(resolve_config)
        | st.builds(
            lambda bits, group, residual, observer: pq.QuantConfig(
                base=pq.SiteConfig(
                    weight_bits=bits,
                    activation_bits=bits + 2,
                    group_size=group,
                    residual_bits=residual,
                    weight_observer=observer,
                    quantizer="lsq",
                    weight_quantizer="lsq",
                )
            ),
            st.sampled_from([2, 3, 4]),
            st.sampled_from([0, 8]),
            st.sampled_from([8, 16]),
            st.sampled_from(["absmax", "mse"]),
        )
    )
    for name, (setting, methods) in choices(family).items():
        base = base.override(name, **{setting: draw(st.sampled_from(methods))})
    return base


def error_of(output: Any) -> Tensor:
    """Distance of every output from numbers of no meaning."""
    leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
    generator = torch.Generator().manual_seed(0)
    return sum((y - torch.randn(y.shape, generator=generator)).square().mean() for y in leaves)  # type: ignore[return-value]


@pytest.mark.parametrize(
    "family", [name if name == "vit" else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_the_engine_runs_what_was_trained(family: str, tmp_path: Path) -> None:
    @EXAMPLES
    @given(config=configurations(family))
    def check(config: pq.QuantConfig) -> None:
        model = seeded(INTEGER_MODELS[family])
        qmodel = pq.quantize(model, [batch_for(family, 6)], config=config, strict=True, progress=False)
        untrained = pq.convert(qmodel).digest()
        optimizer = torch.optim.AdamW(pq.param_groups(qmodel, lr=3e-3, weight_decay=0.01))
        before = {name: value.detach().clone() for name, value in qmodel.named_parameters()}
        for step in range(3):
            optimizer.zero_grad()
            error_of(qmodel(batch_for(family, 4, seed=step))).backward()
            optimizer.step()
        assert any(not torch.equal(v, before[n]) for n, v in qmodel.named_parameters() if "scale" in n)
        engine = pq.convert(qmodel)
        assert engine.digest() != untrained
        for batch in (1, 5):
            found = pq.compare(qmodel, engine, batch_for(family, batch, seed=9))
            assert found.identical, str(found)

        torch.save(qmodel.state_dict(), tmp_path / "state.pt")
        fresh = pq.prepare(model, batch_for(family, 2), config=config)
        fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert pq.convert(fresh).digest() == engine.digest()
        engine.save(tmp_path / "engine.safetensors")
        assert pq.IntegerModel.load(tmp_path / "engine.safetensors").digest() == engine.digest()

    check()
