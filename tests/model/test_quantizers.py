"""Quantizers of the registry on every edge and weight of transformers, and under DistributedDataParallel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

import pyquant as pq
from tests.graph.models import INTEGER_MODELS, batch_for, seeded
from tests.graph.quantized import configured, data, learned, quantized
from tests.model.test_distributed import _free_port

MODELS = ["vit", "sdpa", "shared_block", "softmax_alone", "encoder_post_batch"]
RESIDUAL = [8, 16]


def everywhere(quantizer: str, weight_quantizer: str, residual_bits: int) -> pq.QuantConfig:
    settings = {"quantizer": quantizer, "weight_quantizer": weight_quantizer, "residual_bits": residual_bits}
    return pq.QuantConfig(base=pq.SiteConfig(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", RESIDUAL)
@pytest.mark.parametrize("name", MODELS)
def test_learned_grids_of_a_whole_model_deploy(name: str, bits: int) -> None:
    model = seeded(INTEGER_MODELS[name])
    x = batch_for(name, 6)
    prepared = pq.quantize(model, [x], everywhere("tqt", "pow2", bits), strict=True, progress=False)
    optimizer = torch.optim.Adam(pq.param_groups(prepared, 1e-3))
    for _ in range(2):
        optimizer.zero_grad()
        output = prepared(x)
        output = output if isinstance(output, torch.Tensor) else next(iter(output.values()))
        output.square().sum().backward()
        optimizer.step()
    found = pq.compare(prepared, pq.convert(prepared), batch_for(name, 3, seed=9))
    assert found.identical, str(found)


@pytest.mark.parametrize("bits", RESIDUAL)
@pytest.mark.parametrize("name", MODELS)
def test_what_has_no_grid_runs_in_torch_between_programs(name: str, bits: int) -> None:
    """With 8 bits every edge is without one; with 16 the residual stream has one, and so have programs."""
    model = seeded(INTEGER_MODELS[name])
    config = everywhere("lsq_plus", "fixed", bits)
    prepared = pq.quantize(model, [batch_for(name, 6)], config, progress=False)
    with pytest.raises(pq.CoverageError, match="sites are simulated"):
        pq.convert(prepared)
    x = batch_for(name, 3, seed=9)
    hybrid = pq.convert(prepared, partial=True)
    assert bool(hybrid.segments) == (bits == 16)
    with torch.no_grad():
        want, got = prepared(x), hybrid(x)
    if isinstance(want, torch.Tensor):
        want, got = {"y": want}, {"y": got}
    for key in want:
        assert torch.equal(got[key], want[key]), key


def _step(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        model = torch.load(f"{folder}/model.pt", weights_only=False)
        wrapped = DistributedDataParallel(model)
        optimizer = torch.optim.Adam(pq.param_groups(wrapped, lr=0.01))
        x, labels = data(16, seed=rank)
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(wrapped(x), labels).backward()
            optimizer.step()
        refused = ""
        try:
            pq.calibrate(model, [x], process_group=True, progress=False)
        except pq.CalibrationError as error:
            refused = str(error)
        torch.save(({k: p.detach() for k, p in model.named_parameters()}, refused), f"{folder}/{rank}.pt")
    finally:
        distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_learn_the_same(tmp_path: Path) -> None:
    config = configured(quantizer="pact", weight_quantizer="tqt")
    config = config.override("softmax", quantizer="adalog(learn_scale=true)")
    model = quantized(config)
    torch.save(model, tmp_path / "model.pt")
    multiprocessing.spawn(_step, args=(_free_port(), str(tmp_path)), nprocs=2)
    (zero, refused), (one, also) = (torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in (0, 1))
    assert refused == also
    assert "calibrate: site 'softmax': its quantizer begins with the first batches" in refused
    assert all(torch.equal(value, one[key]) for key, value in zero.items())
    assert any(not torch.equal(value, zero[key]) for key, value in learned(model).items())
