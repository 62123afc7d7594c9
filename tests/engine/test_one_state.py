"""One calibrated state gives one digest and the same outputs, whatever runs it and however it is split."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pyquant as pq
from tests.variants.calls import eligible_isas

ROOT = Path(__file__).resolve().parents[2]


class TinyViT(nn.Module):
    """Patches by convolution, class token, position table, two pre-norm blocks, odd sizes on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 30, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 30))
        self.position = nn.Parameter(torch.randn(1, 10, 30))
        layer = nn.TransformerEncoderLayer(30, 3, 67, batch_first=True, norm_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(30, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 3, 12, 12] -> [batch, 7]."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.position
        return self.head(self.encoder(tokens)[:, 0])


CONFIGS = {
    "W8A8": pq.QuantConfig(),
    "4-bit weights, most in groups": pq.QuantConfig(base=pq.SiteConfig(weight_bits=4, group_size=8))
    .override("*linear1*", group_size=0, weight_observer="mse")
    .override("head", weight_bits=3, group_size=12, weight_observer="mse"),
}


@pytest.fixture(scope="module", params=CONFIGS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of a calibrated state, its engine, and 64 inputs."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("state")
    data = [torch.randn(16, 3, 12, 12)]
    prepared = pq.quantize(TinyViT().eval(), data, CONFIGS[request.param], progress=False)
    engine = pq.convert(prepared)
    torch.save(prepared, folder / "state.pt")
    engine.save(folder / "engine.safetensors")
    np.save(folder / "inputs.npy", torch.randn(64, 3, 12, 12).numpy())
    return [str(folder / name) for name in ("state.pt", "engine.safetensors", "inputs.npy")]


def _run(saved: list[str], isa: str, threads: int, shim: bool) -> dict[str, object]:
    env = {
        **os.environ,
        "PYQUANT_ISA": isa,
        "PYQUANT_TORCH_SHIM": "1" if shim else "0",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.engine.one_state", *saved, str(threads)],
        capture_output=True,
        text=True,
        env=env,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    assert found.pop("isa") == isa
    assert found.pop("shim") is shim
    return found


def test_every_way_to_run_it_gives_the_same_bits(saved: list[str]) -> None:
    reference = _run(saved, "ref", 1, shim=False)
    assert reference["digest"] == reference["file digest"]
    assert reference["engine"] == reference["engine from file"] == reference["engine, batch 1"]
    assert reference["engine"] == reference["simulation"]
    assert reference["simulation, batch 1"] == reference["first three"]
    assert len(reference["sites"]) > 40  # type: ignore[arg-type]
    ways = [("ref", 2, True)]
    ways += [(isa, threads, True) for isa in eligible_isas() if isa != "ref" for threads in (1, 3)]
    for isa, threads, shim in ways:
        assert _run(saved, isa, threads, shim) == reference, (isa, threads, shim)
