"""The joint pass against whole models run one after the other (`slow.py`): every score and kind of site."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor, nn

import pyquant as pq
from pyquant.graph.prepared import Prepared
from pyquant.metrics import ErrorMetrics
from tests.graph.models import INTEGER_MODELS, batch_for, seeded
from tests.sensitivity.slow import Seen, deployed, record, sqnr

MODEL = "vit"
DATA = [batch_for(MODEL, batch, seed) for seed, batch in enumerate((3, 2))]
CONFIG = pq.QuantConfig()
DB = 2e-4  # metrics.h bounds its own figure by 1e-4 dB; the slow one is float64

# A site of every kind, and candidates that change its bits, its scheme, or its method. Sites of one group do
# not follow each other, so that one model can hold a candidate of each.
GROUPS = (
    {
        "pixel_values": ["A6", "symmetric=true"],
        "vit.embeddings.concat": ["current", "R8"],
        "vit.layers.0.layernorm_before": ["A6", "observer=percentile+percentile=99.9"],
        "vit.layers.0.mlp.fc2": ["W4", "R8"],
        "vit.layers.1.attention.context": ["softmax=table8", "A6+softmax=ivit"],
        "vit.layers.1.mlp.activation_fn": ["observer=minmax", "A6"],
    },
    {
        "vit.embeddings.position_embeddings": ["R8", "current"],
        "vit.embeddings.patch_embeddings.projection": ["R8", "W4"],
        "vit.layers.0.attention.q_proj": ["W4+group_size=8", "W4+weight_observer=mse"],
        "vit.layers.0.add": ["R8", "current"],
        "vit.layers.0.mlp.activation_fn": ["symmetric=true+unary=ivit", "unary=nnlut"],
        "vit.layernorm": ["norm=ptf", "norm=ivit"],
    },
)
CASES = {site: names for group in GROUPS for site, names in group.items()}


@functools.cache
def model(name: str = MODEL) -> nn.Module:
    return seeded(INTEGER_MODELS[name])


@functools.cache
def prepared(name: str = MODEL) -> Prepared:
    return pq.quantize(model(name), data(name), CONFIG, progress=False)


def data(name: str) -> list[Tensor]:
    return DATA if name == MODEL else [batch_for(name, batch, seed) for seed, batch in enumerate((3, 2))]


@functools.cache
def seen(mode: str, name: str = MODEL) -> dict[str, Seen]:
    return record(prepared(name), mode, data(name))


@functools.cache
def table(name: str = MODEL) -> pq.SensitivityTable:
    assert name == MODEL
    return pq.sensitivity(prepared(), DATA, candidates=CASES, progress=False)


def real(site: str, mode: str) -> list[Tensor]:
    with torch.no_grad():
        return [prepared().sites()[site].real(*args) for args in seen(mode)[site].arguments]


@pytest.mark.parametrize("site", CASES)
def test_all_but_this_and_sqnr_in(site: str) -> None:
    row = next(row for row in table() if row.site == site)
    assert row.all_but_this == pytest.approx(sqnr(real(site, "float"), real(site, "quantized")), abs=DB)
    inputs = []
    for place in range(len(seen("float")[site].arguments[0])):
        pair = [[args[place] for args in seen(mode)[site].arguments] for mode in ("float", "quantized")]
        if isinstance(pair[0][0], tuple):
            inputs.append(sqnr(*([edge[0] for edge in edges] for edges in pair)))
    assert row.sqnr_in == pytest.approx(min(inputs, default=math.inf), abs=DB)


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("group", GROUPS)
def test_accumulated_and_isolated(group: dict[str, list[str]], column: int) -> None:
    """What is measured is what an override deploys: its integer op on the operands of the two streams."""
    tried = {site: names[column] for site, names in group.items()}
    other = deployed(model(), CONFIG, tried, DATA)
    for site, name in tried.items():
        row, expected = table().row(site, name), real(site, "float")
        with torch.no_grad():
            accumulated, isolated = (
                [other.sites()[site].integer_of(*args) for args in seen(mode)[site].arguments]
                for mode in ("quantized", "float")
            )
        errors = {"accumulated": ErrorMetrics(), "isolated": ErrorMetrics()}
        for x, a, b in zip(expected, accumulated, isolated, strict=True):
            errors["accumulated"].update(x, a)
            errors["isolated"].update(x, b)
        found = {score: each.compute() for score, each in errors.items()}
        assert row.accumulated == found["accumulated"].sqnr, site  # to the bit
        assert row.isolated == found["isolated"].sqnr, site
        for more in ("mse", "cosine", "max_error", "samples", "exact"):
            assert getattr(row, more) == getattr(found["accumulated"], more), site
        assert row.accumulated == pytest.approx(sqnr(expected, accumulated), abs=DB)
        assert row.isolated == pytest.approx(sqnr(expected, isolated), abs=DB)
        assert row.kind == prepared().sites()[site].kind
        assert list(prepared().sites())[row.index] == site


def test_accumulated_is_the_error_inside_the_deployed_model() -> None:
    site, name = "vit.layers.1.attention.context", "softmax=table8"
    inside = record(deployed(model(), CONFIG, {site: name}, DATA), "quantized", DATA)[site].results
    assert table().row(site, name).accumulated == pytest.approx(sqnr(real(site, "float"), inside), abs=DB)


def test_delta() -> None:
    rows = {row.site: row for row in table() if row.candidate in ("R8", "softmax=table8")}
    row = rows["vit.layers.1.attention.context"]
    assert row.sqnr_in is not None
    assert row.accumulated is not None
    assert row.delta == row.sqnr_in - row.accumulated
    assert rows["vit.embeddings.position_embeddings"].delta == math.inf  # its input is exact


def test_the_default_is_every_method_of_every_site_that_has_a_choice() -> None:
    from pyquant.methods import methods

    found = pq.sensitivity(prepared(), DATA[:1], progress=False)
    kinds = {site.name: site.kind for site in prepared().sites().values()}
    assert set(found.sites) == {n for n, k in kinds.items() if k in ("attention", "unary", "layer_norm")}
    tried = [row.candidate for row in found if row.kind == "attention"]
    assert tried[: len(methods("softmax"))] == [f"softmax={name}" for name in methods("softmax")]


def test_scores_may_be_left_out() -> None:
    found = pq.sensitivity(
        prepared(), DATA, candidates=["A6"], scores=["isolated"], select="*.activation_fn", progress=False
    )
    row = found.row("vit.layers.1.mlp.activation_fn", "A6")
    full = table().row("vit.layers.1.mlp.activation_fn", "A6")
    assert (row.isolated, row.accumulated, row.all_but_this, row.delta) == (full.isolated, None, None, None)
    assert row.mse is not None
    assert found.sites == ("vit.layers.0.mlp.activation_fn", "vit.layers.1.mlp.activation_fn")


def test_modes_are_neither_read_nor_changed() -> None:
    other = pq.quantize(model(), DATA, CONFIG, progress=False)
    pq.set_mode(other, "float", "*.attention.*")
    before = {name: site.mode for name, site in other.sites().items()}
    found = pq.sensitivity(other, DATA, candidates=CASES, progress=False)
    assert found.rows == table().rows
    assert {name: site.mode for name, site in other.sites().items()} == before


def test_a_module_is_quantized_first() -> None:
    found = pq.sensitivity(
        model(), iter(DATA), config=CONFIG, calibration=DATA, candidates=CASES, progress=False
    )
    assert found.rows == table().rows
    assert found.meta["samples"] == 5
    assert found.meta["model"] == "ViTForImageClassification"


# -- sequence-first models: the sample is not the first axis -------------------------------------------------


@pytest.mark.parametrize("name", ["encoder_post_sequence", "tied_head"])
def test_samples_wherever_the_batch_lies(name: str) -> None:
    """One batch of three and each sample alone agree, whatever axis holds the samples."""
    whole = pq.sensitivity(prepared(name), data(name)[:1], candidates=["current"], progress=False)
    alone = pq.sensitivity(prepared(name), data(name)[0].split(1), candidates=["current"], progress=False)
    kinds = {row.kind for row in whole}
    assert {"linear", "attention", "layer_norm", "add"} <= kinds
    assert ("requantize" in kinds) == (name != "tied_head")
    for a, b in zip(whole, alone, strict=True):
        assert b.samples == 3
        assert a.samples in (3, 1)  # a constant is one sample a batch
        for score in ("accumulated", "all_but_this", "sqnr_in"):
            # float results may differ in their last bits between batch sizes, and a step of a grid with them
            assert getattr(a, score) == pytest.approx(getattr(b, score), abs=0.3)


# -- the model's output --------------------------------------------------------------------------------------


def test_output_scope() -> None:
    """One site in integers, the rest in float, by modes."""
    targets = [torch.arange(len(x)) % 3 for x in DATA]
    models = (
        {
            "vit.layers.0.attention.q_proj": "W2",
            "vit.layers.1.attention.context": "A3",
            "vit.layernorm": "A3",
        },
        {"vit.layers.1.attention.context": "softmax=table8", "classifier": "W2"},
    )
    candidates = {
        site: [tried[site] for tried in models if site in tried] for tried in models for site in tried
    }
    batches = list(zip(DATA, targets, strict=True))
    found = pq.sensitivity(prepared(), batches, candidates=candidates, scope="output", progress=False)
    with pq.mode(prepared(), "float"), torch.no_grad():
        float_logits = [prepared()(x).logits for x in DATA]
    labels = torch.cat(targets)
    float_best = torch.cat(float_logits).argmax(1)
    assert found.meta["float_accuracy"] == pytest.approx(100 * float((float_best == labels).double().mean()))
    assert len(found) == 5
    for tried in models:
        other = deployed(model(), CONFIG, tried, DATA)
        for site, name in tried.items():
            row = found.row(site, name)
            with pq.mode(other, "float"), torch.no_grad():
                pq.set_mode(other, "quantized", site)
                logits = [other(x).logits for x in DATA]
            errors = ErrorMetrics()
            for x, y in zip(float_logits, logits, strict=True):
                errors.update(x, y)
            assert row.output_sqnr == errors.compute().sqnr
            kl = pq.metrics.kl_divergence(torch.cat(float_logits), torch.cat(logits))
            assert row.kl == pytest.approx(kl, rel=1e-9, abs=1e-15)
            best = torch.cat(logits).argmax(1)
            assert row.flips == pytest.approx(100 * float((best != float_best).double().mean()))
            assert row.accuracy == pytest.approx(100 * float((best == labels).double().mean()))
            assert (row.accumulated, row.delta, row.samples) == (None, None, 5)


def test_output_scope_without_targets_and_of_a_language_model() -> None:
    found = pq.sensitivity(
        prepared("tied_head"),
        data("tied_head"),
        candidates=["A4"],
        scope="output",
        select="norm",
        progress=False,
    )
    (row,) = found.rows
    assert row.accuracy is None
    assert row.kl is not None
    assert row.kl > 0
    assert "float_accuracy" not in found.meta


def test_memory_does_not_grow_with_batches() -> None:
    """What is kept between batches has one size."""
    from pyquant.graph.streams import Walk
    from pyquant.scoring import SITE_SCORES, SiteScores, make_trials

    walk = Walk(prepared())
    running = SiteScores(make_trials(prepared(), walk, "*", None), SITE_SCORES)
    sizes = []
    with torch.no_grad():
        for x in (*DATA, *DATA):
            running.update(walk, [x], None)
            sizes.append(sum(len(str(v)) > 0 for cell in running.state().values() for v in cell["trials"]))
    assert len(set(sizes)) == 1
