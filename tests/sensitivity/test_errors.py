"""Each mistake is one clear error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import pyquant as pq
from tests.sensitivity.small import Small, batches, prepared


def run(data: Any = None, model: nn.Module | None = None, **options: Any) -> pq.SensitivityTable:
    given = {"candidates": ["A6"], "select": "[!s]*", **options}
    chosen = prepared() if model is None else model
    return pq.sensitivity(chosen, batches() if data is None else data, progress=False, **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": ["ibert8"]}, "candidate 'ibert8': expected 'current', bits such as"),
        ({"candidates": ["table16"]}, "a method is written 'softmax=table16'"),
        ({"candidates": ["norm=wrong"]}, "norm: expected a method"),
        ({"candidates": ["A9"]}, r"activation_bits: expected an integer in \[2, 8\], got 9"),
        ({"candidates": ["softmax=table8"]}, "'softmax=table8' fits none of the .* sites of '\\*'"),
        ({"candidates": ["R4"], "select": "act"}, r"'R4' fits none .* is activation_bits, lp_norm, observer"),
        ({"candidates": {"act": ["W4"]}}, "'W4' fits none of the 1 sites of 'act'"),
        ({"candidates": {"nothing*": ["A6"]}}, r"'nothing\*' matches no selected site"),
        ({"candidates": []}, "expected at least one candidate, got none"),
        ({"candidates": None, "select": "first"}, "no selected site has a choice of methods"),
        ({"candidates": [{"keep_float": True}]}, "keep_float is no candidate"),
        ({"candidates": ["group_size=64"]}, "'group_size=64' at site 'first': group_size: expected 0, or"),
        ({"candidates": ["observer=ema"]}, "at site .*did not keep what 'ema' needs"),
        ({"select": "nothing"}, "select: 'nothing' matches no site"),
        ({"scope": "layer"}, "scope: expected one of site, output, got 'layer'"),
        ({"scores": ["delta"]}, r"scores: expected some of .*, got \['delta'\]"),
        ({"scores": []}, r"scores: expected some of"),
        ({"scores": "isolated"}, r"scores: expected some of .*, got 'isolated'"),
        ({"config": "W8A8"}, "this one keeps its own"),
        ({"data": []}, "batches: expected at least one batch, got none"),
        ({"data": [], "model": Small()}, "batches: expected at least one batch, got none"),
        ({"data": iter(batches()), "model": Small()}, "an iterator can be read once"),
    ],
)
def test_bad_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(**options)


@pytest.mark.parametrize("candidates", ["W4", [3], {"*": "W4"}, {"weight_bits": 4}])
def test_bad_types(candidates: Any) -> None:
    with pytest.raises(TypeError, match=r"candidates?: expected"):
        run(candidates=candidates)
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module or a Prepared, got int"):
        pq.sensitivity(3, batches())  # type: ignore[arg-type]


def test_a_batch_with_nan() -> None:
    data = batches()
    data[1] = data[1].clone()
    data[1][2, 3] = float("nan")
    with pytest.raises(ValueError, match="sensitivity: batch 1: input 'x' holds NaN"):
        run(data)


def test_values_that_are_not_finite_inside() -> None:
    """An infinite input passes the quantizer, and not the float stream."""
    data = batches()
    data[1] = torch.full((3, 4), float("inf"))
    with pytest.raises(ValueError, match=r"sensitivity: batch 1, site 'x': .*infinity"):
        run(data)


def test_a_site_that_never_ran() -> None:
    with pytest.raises(pq.CalibrationError, match="no batch reached site 'spare'"):
        run(select="*")
    full = [{"x": x, "spare": x} for x in batches()]
    assert "spare" in run([*batches(), *full], select="*").sites  # some batches suffice


def test_a_model_without_scales() -> None:
    raw = pq.prepare(Small(), batches()[0])
    with pytest.raises(pq.CalibrationError, match="candidate 'A6': site 'x' has observed nothing"):
        run(model=raw, select="*")
    with pytest.raises(pq.CalibrationError, match="site 'x' has no scale yet; calibrate first"):
        run(model=raw, select="*", candidates=["current"])


def test_targets_that_do_not_fit() -> None:
    data = [(x, torch.arange(2)) for x in batches()]
    with pytest.raises(ValueError, match=r"batch 0, site .*expected one label a prediction"):
        run(data, scope="output")
    real_valued = [(x, torch.zeros(3)) for x in batches()]
    assert run(real_valued, scope="output").rows[0].accuracy is None


def test_a_batch_that_does_not_fit() -> None:
    with pytest.raises(TypeError, match="batch: expected a tensor"):
        run([3])
