"""Configurations: presets, overrides, round trips, and one clear error for each mistake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import pyquant as pq
from pyquant.config import PRESETS, resolve_config
from tests.verbs.models import mlp


def test_presets() -> None:
    w8a8, w4a8, w6a6 = (resolve_config(name).base for name in ("W8A8", "W4A8", "W6A6"))
    assert (w8a8.weight_bits, w8a8.activation_bits, w8a8.residual_bits) == (8, 8, 16)
    assert (w4a8.weight_bits, w4a8.activation_bits, w4a8.residual_bits) == (4, 8, 16)
    assert (w6a6.weight_bits, w6a6.activation_bits, w6a6.residual_bits) == (6, 6, 16)
    assert resolve_config("W8A8") == pq.QuantConfig()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_runs(name: str) -> None:
    prepared = pq.quantize(mlp(), [torch.randn(16, 4)], name, progress=False)
    assert prepared(torch.randn(3, 4)).shape == (3, 6)
    first, config = prepared.sites()["first"], resolve_config(name).base
    assert first.output.bits == config.activation_bits


def test_the_last_override_that_matches_wins() -> None:
    config = (
        pq.QuantConfig()
        .override("vit.layers.*", weight_bits=4, symmetric=True)
        .override("vit.layers.3.*", weight_bits=6)
    )
    three, other, outside = (config.for_site(n) for n in ("vit.layers.3.fc", "vit.layers.2.fc", "head"))
    assert (three.weight_bits, three.symmetric) == (6, True)  # settings that the later one lacks stay
    assert (other.weight_bits, other.symmetric) == (4, True)
    assert outside == config.base
    assert config.override("vit.*", weight_bits=2).for_site("vit.layers.3.fc").weight_bits == 2


def test_overrides_reach_the_sites() -> None:
    config = pq.QuantConfig().override("first", activation_bits=5, observer="percentile")
    prepared = pq.prepare(mlp(), torch.randn(2, 4), config)
    sites = prepared.sites()
    assert sites["first"].output.bits == 5
    assert sites["first"].observer.name == "percentile"
    assert sites["act"].output.bits == 8
    assert prepared.quant_config == config


def test_keep_float_is_listed() -> None:
    config = pq.QuantConfig().override("act", keep_float=True)
    prepared = pq.quantize(mlp(), [torch.randn(16, 4)], config, progress=False)
    (row,) = prepared.coverage().float_rows
    assert (row.site, row.reason) == ("act", "kept in float by the configuration")


def test_a_glob_without_a_match_gives_examples() -> None:
    config = pq.QuantConfig().override("no.such.*", weight_bits=4)
    with pytest.raises(ValueError, match=r"'no\.such\.\*' matches no site; .*first, act, last"):
        pq.prepare(mlp(), torch.randn(2, 4), config)


@pytest.mark.parametrize("suffix", ["yaml", "yml", "json"])
def test_files_round_trip(tmp_path: Path, suffix: str) -> None:
    config = pq.QuantConfig(base=pq.SiteConfig(weight_bits=5, percentile=99.0)).override(
        "a.*", softmax="table8", keep_float=False
    )
    path = tmp_path / f"config.{suffix}"
    config.save(path)
    assert pq.QuantConfig.load(path) == config
    assert resolve_config(str(path)) == config


def test_plain_data_round_trips() -> None:
    config = pq.QuantConfig().override("a", weight_bits=3)
    data = config.to_dict()
    assert data["overrides"] == [{"select": "a", "weight_bits": 3}]
    assert pq.QuantConfig.from_dict(data) == config
    assert resolve_config({}) == pq.QuantConfig()
    assert resolve_config({"base": {"weight_bits": 4}}).base == pq.SiteConfig(weight_bits=4)


BAD_FIELDS: dict[str, Any] = {
    "weight_bits": (1, 9, 8.0, "8", True, None),
    "group_size": (-4, 6, 4.0, "32", True, None),
    "activation_bits": (1, 9, 16),
    "residual_bits": (1, 17),
    "symmetric": (0, "yes"),
    "observer": ("max", 3, None),
    "residual_observer": ("max",),
    "weight_observer": ("minmax",),
    "quantizer": ("LSQ", None, 1, "log3(bits=4)", "dorefa"),
    "weight_quantizer": ("absmax", True, "tqt(bits=9)"),
    "percentile": (50.0, 100.5, "99", float("nan"), True),
    "momentum": (-0.1, 1.0, "0.9"),
    "lp_norm": (0.9, 10.5, "2", float("nan"), True),
    "softmax": ("exact", "table8(bits=4)", 3),
    "unary": ("exact",),
    "norm": ("table16", None),
    "gradient": ("approximate", True, None),
    "keep_float": (1, None),
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in BAD_FIELDS.items() for v in values])
def test_bad_fields(field: str, value: Any) -> None:
    """Each is a ValueError that names the field, whichever way the value arrives."""
    with pytest.raises(ValueError, match=rf"^{field}: expected .* got "):
        pq.SiteConfig(**{field: value})
    with pytest.raises(ValueError, match=field):
        pq.QuantConfig().override("*", **{field: value})
    with pytest.raises(ValueError, match=field):
        pq.QuantConfig.from_dict({"base": {field: value}})


def test_groups_are_for_weights_of_few_bits() -> None:
    message = (
        r"group_size: expected 0, or a multiple of 4 with weight_bits up to 4, got 32 with weight_bits 8"
    )
    with pytest.raises(ValueError, match=message):
        pq.SiteConfig(group_size=32)
    grouped = pq.QuantConfig(base=pq.SiteConfig(weight_bits=4)).override("a.*", group_size=32)
    assert grouped.for_site("a.b") == pq.SiteConfig(weight_bits=4, group_size=32)
    assert grouped.for_site("b").group_size == 0
    mixed = grouped.override("*", weight_bits=8)
    with pytest.raises(ValueError, match=message):
        mixed.for_site("a.b")
    assert mixed.override("*", group_size=0).for_site("a.b").weight_bits == 8


def test_every_field_is_tried() -> None:
    assert set(BAD_FIELDS) == set(pq.QuantConfig().to_dict()["base"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected a mapping, got list"),
        ({"bases": {}}, "unknown key 'bases'"),
        ({"base": {"bits": 8}}, "unknown setting 'bits' in base"),
        ({"base": 8}, "expected base to be a mapping, got 8"),
        ({"overrides": {"select": "a"}}, "expected overrides to be a list"),
        ({"overrides": [{"weight_bits": 8}]}, "each override needs a select"),
        ({"overrides": ["a"]}, "each override needs a select"),
        ({"overrides": [{"select": "a", "bits": 8}]}, "unknown setting 'bits'"),
        ({"overrides": [{"select": ""}]}, "expected a glob"),
    ],
)
def test_bad_data(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        pq.QuantConfig.from_dict(data)


@pytest.mark.parametrize("config", ["W9A9", 8, None])
def test_bad_configs(config: Any) -> None:
    with pytest.raises(ValueError, match="config: expected"):
        resolve_config(config)


def test_a_bad_file_is_a_value_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("base: [")
    with pytest.raises(ValueError, match=r"config: .*bad\.yaml"):
        pq.QuantConfig.load(path)


def test_gradient_of_the_approximation_is_for_grids_that_ops_know() -> None:
    with pytest.raises(ValueError, match=r"^gradient: expected float with quantizer 'pact', .* got 'approx"):
        pq.SiteConfig(quantizer="pact", gradient="approximation")
    pq.SiteConfig(quantizer="lsq", gradient="approximation")
