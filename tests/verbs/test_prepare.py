"""prepare and quantize: strictness, errors, and the example that the documentation shows."""

from __future__ import annotations

import doctest
import importlib

import pytest
import torch
from torch import Tensor, nn

import pyquant as pq
from tests.verbs.models import mlp

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


class Floats(nn.Module):
    """Two ops that have no integer form."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 4] -> [batch, 4]."""
        return torch.cumsum(torch.erfinv(torch.tanh(self.inner(x)) * 0.5), -1)


def test_strict_lists_every_leftover_in_one_error() -> None:
    with pytest.raises(pq.CoverageError) as caught:
        pq.prepare(Floats(), X, strict=True)
    message = str(caught.value)
    assert "2 ops would stay float" in message
    assert "erfinv" in message
    assert "cumsum" in message
    with pytest.raises(pq.CoverageError):
        pq.quantize(Floats(), [X], strict=True, progress=False)


def test_not_strict_names_them_in_coverage() -> None:
    prepared = pq.quantize(Floats(), [X], progress=False)
    assert {row.op for row in prepared.coverage().float_rows} == {"erfinv", "cumsum"}
    assert all(row.reason for row in prepared.coverage().float_rows)
    assert torch.isfinite(prepared(X)).all()


def test_strict_passes_where_nothing_is_left() -> None:
    assert not pq.quantize(mlp(), [X], strict=True, progress=False).coverage().float_rows


def test_calibration_in_one_call() -> None:
    one = pq.prepare(mlp(), X, calibration=[X])
    two = pq.quantize(mlp(), [X], progress=False)
    assert {site.mode for site in one.sites().values()} == {"quantized"}
    assert torch.equal(one(X), two(X))


def test_refusals() -> None:
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module, got function"):
        pq.prepare(lambda x: x, X)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="calib: expected at least one batch"):
        pq.quantize(mlp(), [], progress=False)
    with pytest.raises(ValueError, match="config: expected"):
        pq.prepare(mlp(), X, "W7A7")
    with pytest.raises(TypeError, match="batch: expected a tensor"):
        pq.prepare(mlp(), "x")


@pytest.mark.parametrize("module", ["prepare", "quantize", "calibrate", "evaluate", "modes"])
def test_examples_in_docstrings(module: str) -> None:
    found = importlib.import_module(f"pyquant.verbs.{module}")
    result = doctest.testmod(found, raise_on_error=False)
    assert result.failed == 0
    assert result.attempted > 0 or module != "quantize"


def test_an_input_keeps_its_name_where_it_is_a_builtin() -> None:
    """`nn.Sequential` calls its argument ``input``, a name that generated code may not use."""
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4)).eval()
    x = torch.randn(4, 8)
    prepared = pq.quantize(model, [x], progress=False)
    engine = pq.convert(prepared)
    assert engine.input_names == ("input",)
    with torch.no_grad():
        assert (engine(input=x) == prepared(input=x).numpy()).all()
