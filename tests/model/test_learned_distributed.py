"""Learned scales under DistributedDataParallel over gloo: two processes train what one would."""

from __future__ import annotations

import socket
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

import pyquant as pq

pytestmark = pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")

STEPS = 6
MODES = {0: "float", 1: "weights", 2: "quantized", 4: "frozen", 5: "quantized"}


class Model(nn.Module):
    """A residual add, attention with tokens first, a norm: edges with the batch in other places."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Linear(6, 8)
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 5, 6] -> [batch, 3]."""
        x = F.gelu(self.inward(x)) + self.position
        y = x.transpose(0, 1)
        x = x + self.attention(y, y, y, need_weights=False)[0].transpose(0, 1)
        found: Tensor = self.head(self.norm(x).mean(dim=1))
        return found


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(8, 5, 6, generator=torch.Generator().manual_seed(0))
    return x, x[:, :, :3].sum(dim=1).argmax(dim=1)


def prepared() -> pq.Prepared:
    torch.manual_seed(0)
    return pq.quantize(Model(), [data()[0]], config="W4A8-lsq", progress=False)


def record(model: pq.Prepared) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def train(called: nn.Module, model: pq.Prepared, x: Tensor, labels: Tensor) -> dict[str, Any]:
    """The first output and gradients, parameters after one step and after all; plain SGD keeps differences
    what they are, where Adam makes steps of rounding noise."""
    optimizer = torch.optim.SGD(pq.param_groups(model, 0.05, scale_lr=0.002, relative=False))
    found: dict[str, Any] = {"ranges": record(model)}
    for step in range(STEPS):
        output = called(x)
        optimizer.zero_grad()
        F.cross_entropy(output, labels).backward()
        if step == 0:
            found["output"] = output.detach()
            found["gradients"] = {
                n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None
            }
        optimizer.step()
    found["end"] = record(model)
    return found


def switch(called: nn.Module, model: pq.Prepared, x: Tensor, labels: Tensor) -> list[dict[str, Tensor]]:
    """Parameters after each step of a schedule."""
    optimizer = torch.optim.SGD(pq.param_groups(model, 0.05, scale_lr=0.002, relative=False))
    schedule, found = pq.Schedule(model, MODES), [record(model)]
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(called(x), labels).backward()
        optimizer.step()
        schedule.step()
        found.append(record(model))
    return found


def caught(called: nn.Module, model: pq.Prepared, x: Tensor, labels: Tensor) -> str:
    try:
        switch(called, model, x, labels)
    except RuntimeError as error:
        return str(error)
    return "no error"


def rewrapped(x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Made anew after the switch, and so without the flag."""
    model = prepared()
    optimizer = torch.optim.SGD(pq.param_groups(model, 0.05, scale_lr=0.002, relative=False))
    for mode in ("float", "quantized"):
        pq.set_mode(model, mode)
        called = DistributedDataParallel(model)
        optimizer.zero_grad()
        F.cross_entropy(called(x), labels).backward()
        optimizer.step()
    return record(model)


def warned(x: Tensor) -> list[str]:
    """Made in float, then switched: what is said, and whether it is said again."""
    model = prepared()
    pq.set_mode(model, "float")
    called = DistributedDataParallel(model)
    called(x).sum().backward()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pq.set_mode(model, "frozen")
        pq.set_mode(model, "quantized")
        DistributedDataParallel(model)
        pq.set_mode(model, "quantized")
    return [str(each.message) for each in said]


def _rank(rank: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        mine = [part[4 * rank : 4 * rank + 4] for part in data()]
        results: dict[str, Any] = {}
        model = prepared()
        results["trained"] = train(DistributedDataParallel(model), model, *mine)
        model = prepared()
        called = DistributedDataParallel(model, find_unused_parameters=True)
        results["switched"] = switch(called, model, *mine)
        model = prepared()
        results["without the flag"] = caught(DistributedDataParallel(model), model, *mine)
        results["rewrapped"] = rewrapped(*mine)
        results["warned"] = warned(mine[0])
        torch.save(results, f"{out}/{rank}.pt")
    finally:
        distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    out = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(_rank, args=(_free_port(), str(out)), nprocs=2)
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    assert [name for name, value in want.items() if not torch.equal(got[name], value)] == []


def assert_close(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    """Sums in another order: two halves of four samples each. 1e-5 of a tensor's length is a hundred
    roundings of float32; what is 0 but for rounding (the bias of k) is measured by the longest."""
    longest = max(float(value.norm()) for value in want.values())
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert float((got[name] - value).norm()) <= 1e-5 * float(value.norm()) + 1e-7 * longest, name


def test_the_first_forward_has_the_bits_of_one_process(ranks: list[dict[str, Any]]) -> None:
    model = prepared()
    with torch.no_grad():
        output = model(data()[0])
    assert torch.equal(torch.cat([rank["trained"]["output"] for rank in ranks]), output)
    for rank in ranks:
        assert_same(rank["trained"]["ranges"], record(model))


def test_gradients_and_scales_are_those_of_one_process(ranks: list[dict[str, Any]]) -> None:
    """LSQ's factor leaves the batch out, so the mean over ranks is that of the whole batch."""
    model = prepared()
    expected = train(model, model, *data())
    scales = [name for name in expected["end"] if "scale" in name]
    assert len(scales) > 10
    for name in scales:
        assert not torch.equal(expected["end"][name], expected["ranges"][name]), name
    for key in ("gradients", "end"):
        assert_same(ranks[0]["trained"][key], ranks[1]["trained"][key])
        assert_close(ranks[0]["trained"][key], expected[key])


def test_a_schedule_switches_modes(ranks: list[dict[str, Any]]) -> None:
    """With the flag, and as one process does it; frozen scales stay."""
    model = prepared()
    expected = switch(model, model, *data())
    for step, want in enumerate(expected):
        for rank in ranks:
            assert_same(rank["switched"][step], ranks[0]["switched"][step])
        assert_close(ranks[0]["switched"][step], want)
    found = ranks[0]["switched"]
    for name in found[0]:
        if "scale" in name:
            learning = [
                step for step in range(STEPS) if not torch.equal(found[step][name], found[step + 1][name])
            ]
            assert learning == ([1, 2, 3, 5] if name.endswith("weight_scale") else [2, 3, 5]), name


def test_without_the_flag_torch_says_so(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert "find_unused_parameters=True" in rank["without the flag"]


def test_made_anew_after_a_switch_it_needs_no_flag(ranks: list[dict[str, Any]]) -> None:
    before = record(prepared())
    assert_same(ranks[0]["rewrapped"], ranks[1]["rewrapped"])
    assert [n for n, v in before.items() if "scale" in n and torch.equal(v, ranks[0]["rewrapped"][n])] == []


def test_made_while_scales_do_not_learn_it_is_warned_of(ranks: list[dict[str, Any]]) -> None:
    """Gradients would not be averaged, and ranks part without a word."""
    for rank in ranks:
        assert len(rank["warned"]) == 1
        assert "DistributedDataParallel was made while learned scales did not learn (x: " in rank["warned"][0]
