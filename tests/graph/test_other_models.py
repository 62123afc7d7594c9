"""Any exportable model prepares and runs; what stays float is named, refused by strict and convert, and run
by a hybrid."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils._pytree as pytree

import pyquant as pq
from tests.graph.models import seeded
from tests.graph.other_models import OTHER_MODELS, ResNet20

# The worst of these models (an attention over six tokens with a mask) is at 24 dB.
LEAST_SQNR = 18.0


def tensors(output: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def sqnr(reference: torch.Tensor, other: torch.Tensor) -> float:
    return float(20 * torch.log10(reference.norm() / (reference - other).norm()))


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Float ops repeat bit for bit only for one number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SLOW = {"mobilevit"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in OTHER_MODELS]
)
def test_prepares_runs_and_converts_in_part(name: str) -> None:
    make, inputs, float_ops = OTHER_MODELS[name]
    model = seeded(make)
    before = copy.deepcopy(model.state_dict())
    prepared = pq.quantize(model, [inputs(4, seed) for seed in range(2)], progress=False)
    floats = prepared.coverage().float_rows
    assert {row.op for row in floats} == float_ops
    assert all(row.reason and row.site for row in floats)
    hybrid = pq.convert(prepared, partial=True)
    assert hybrid.segments
    assert hybrid.coverage() == prepared.coverage()
    for batch in (1, 5):
        x = inputs(batch, 9)
        with torch.no_grad():
            real, simulated, run = (tensors(m(**x)) for m in (model, prepared, hybrid))
        assert len(real) == len(simulated) == len(run)
        for a, b, c in zip(real, simulated, run, strict=True):
            assert a.shape == b.shape == c.shape
            assert torch.isfinite(b).all()
            assert sqnr(a, b) > LEAST_SQNR
            assert torch.equal(b, c)
    if floats:
        with pytest.raises(pq.CoverageError) as refused:
            pq.convert(prepared)
        assert all(row.site in str(refused.value) and row.op in str(refused.value) for row in floats)
        with pytest.raises(pq.CoverageError, match="cannot be saved") as unsaved:
            hybrid.save("anywhere")
        assert floats[0].site in str(unsaved.value)
        with pytest.raises(pq.CoverageError, match="cannot be saved"):
            pickle.dumps(hybrid)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_strict_lists_every_float_op_in_one_error() -> None:
    make, inputs, _ = OTHER_MODELS["resnet"]
    model = seeded(make)
    prepared = pq.prepare(model, inputs(2, 0))
    with pytest.raises(pq.CoverageError) as refused:
        pq.prepare(model, inputs(2, 0), strict=True)
    rows = prepared.coverage().float_rows
    assert len(rows) > 3
    assert all(f"{row.site} ({row.op}): {row.reason}" in str(refused.value) for row in rows)


def test_partial_of_an_integer_model_is_one_segment() -> None:
    make, inputs, _ = OTHER_MODELS["bert"]
    prepared = pq.quantize(seeded(make), [inputs(4, 0)], progress=False)
    assert len(pq.convert(prepared, partial=True).segments) == 1
    assert isinstance(pq.convert(prepared), pq.IntegerModel)


def test_sequence_first_output() -> None:
    """A program returns the batch first; a model that does not is refused, and runs as a hybrid."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Flatten(0, 1), torch.nn.Unflatten(0, (-1, 3)))

    class Transposed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x).transpose(0, 1)

    x = torch.randn(2, 3, 4)
    prepared = pq.quantize(seeded(Transposed), [x], progress=False)
    with pytest.raises(pq.CoverageError, match="batch as its first axis"):
        pq.convert(prepared)
    assert torch.equal(pq.convert(prepared, partial=True)(x), prepared(x))


def test_rows_merged_across_the_batch() -> None:
    """nn.MultiheadAttention's [tokens * batch, channels]: the merged axis keeps its order through copies."""

    class Merged(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(4, 6), torch.nn.Linear(3, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x).transpose(0, 1).reshape(-1, 6)[:, ::2]
            return self.second(y).view(3, -1, 5).transpose(0, 1)

    prepared = pq.quantize(seeded(Merged), [torch.randn(4, 3, 4)], progress=False)
    assert pq.compare(prepared, pq.convert(prepared), torch.randn(5, 3, 4)).identical


DATA = os.environ.get("PYQUANT_MODELS", "")


@pytest.mark.skipif(
    not Path(DATA, "resnet").is_dir(), reason="PYQUANT_MODELS names no folder with resnet/*.th"
)
def test_trained_resnet() -> None:
    model = ResNet20()
    (file,) = Path(DATA, "resnet").glob("resnet20-*.th")
    state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    prepared = pq.quantize(model.eval(), [x], progress=False)
    hybrid = pq.convert(prepared, partial=True)
    with torch.no_grad():
        assert sqnr(model(x), prepared(x)) > LEAST_SQNR
        assert torch.equal(prepared(x), hybrid(x))


class OtherSoftmax(torch.nn.Module):
    """Softmax over the tokens as they stand, and in another type."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x)
        return self.linear(torch.softmax(x, 1)) + torch.softmax(x, -1, dtype=torch.float64).float()


def test_softmax_that_stays_float_says_why() -> None:
    prepared = pq.prepare(seeded(OtherSoftmax), torch.randn(2, 5, 6))
    reasons = {row.reason for row in prepared.coverage().float_rows if row.op == "softmax"}
    assert reasons == {
        "a softmax over axis 1 of 3; integer rows lie along the last one",
        "a softmax of torch.float32 that gives torch.float64",
    }
