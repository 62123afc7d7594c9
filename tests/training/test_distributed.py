"""DistributedDataParallel over gloo: gradient checkpointing, learned scales and the count of passes."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from tests.training.blocks import blocks, images


def _train(rank: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        found = []
        for enable in (False, True):
            model = blocks(count=2)
            if rank == 0:  # a checkpoint that one rank has loaded
                model.pq_training_passes.fill_(10)
            if enable:
                model.gradient_checkpointing_enable()
            wrapped = DistributedDataParallel(model)
            optimizer = torch.optim.SGD(wrapped.parameters(), lr=1e-3)
            for _ in range(2):
                optimizer.zero_grad()
                wrapped(images()[rank * 2 : rank * 2 + 2])["logits"].square().sum().backward()
                optimizer.step()
            found.append({name: value.detach() for name, value in model.state_dict().items()})
        torch.save(found, f"{out}/{rank}.pt")
    finally:
        distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    multiprocessing.spawn(_train, args=(port, str(tmp_path)), nprocs=2)
    zero, one = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    plain, checkpointed = zero
    before = blocks(count=2).state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in plain.items())
    for name, value in plain.items():
        assert torch.equal(value, checkpointed[name]), name
        assert torch.equal(value, one[1][name]), name
    assert int(plain["pq_training_passes"]) == 12
