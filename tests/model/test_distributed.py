"""DistributedDataParallel over gloo, two processes on one machine."""

from __future__ import annotations

import copy
import socket
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from tests.model.conftest import Case, make_case
from tests.model.zoo import ZOO, logits_of


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _step(rank: int, port: int, model_file: str, batch: dict[str, torch.Tensor], out: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        models = torch.load(model_file, weights_only=False)
        results = {}
        for name, model in models.items():
            for site in model.sites().values():  # what a rank saw is its own
                for buffer in site.observer.buffers():
                    buffer.fill_(rank + 1)
            wrapped = DistributedDataParallel(model)
            optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
            mine = {key: value[rank * 2 : rank * 2 + 2] for key, value in batch[name].items()}
            for _ in range(2):
                optimizer.zero_grad()
                F.cross_entropy(logits_of(wrapped(**mine)), torch.tensor([0, 1])).backward()
                optimizer.step()
            results[name] = {
                "parameters": {key: value.detach() for key, value in model.named_parameters()},
                "observers": [
                    float(b.flatten()[0]) for site in model.sites().values() for b in site.observer.buffers()
                ],
            }
        torch.save(results, f"{out}/{rank}.pt")
    finally:
        distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes(tmp_path: Path) -> None:
    """Two steps: parameters move, and agree across ranks; observers are not overwritten by rank 0's."""
    cases: dict[str, Case] = {name: make_case(name) for name in ZOO}
    models = {name: copy.deepcopy(case.prepared) for name, case in cases.items()}
    torch.save(models, tmp_path / "models.pt")
    batches = {name: {key: value[:4] for key, value in case.batch.items()} for name, case in cases.items()}
    multiprocessing.spawn(
        _step, args=(_free_port(), str(tmp_path / "models.pt"), batches, str(tmp_path)), nprocs=2
    )
    zero, one = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, case in cases.items():
        moved = False
        for key, value in case.prepared.named_parameters():
            assert torch.equal(zero[name]["parameters"][key], one[name]["parameters"][key]), key
            moved |= not torch.equal(zero[name]["parameters"][key], value)
        assert moved
        assert set(zero[name]["observers"]) == {1.0}
        assert set(one[name]["observers"]) == {2.0}
