"""One step of training a ViT of the size trained on CIFAR-10: forward, backward and optimizer.

In ours every op computes integers in the forward pass. The peers quantize the linear layers and leave the
rest in float, as their tools do. Weights are random: time does not depend on them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyquant as pq
from benchmarks.bench_vit import TINY, multiply_adds, network
from benchmarks.peers.ao import prepared_for_training
from benchmarks.workload import OURS, Peer, Row, Settings

__all__ = ["CIFAR", "FLOAT", "PRESETS", "TITLE", "fake_quantized", "images", "rows", "stepper"]

TITLE = "A training step of a ViT of 6 blocks, 96 wide, 65 tokens, batch 64"

CIFAR = {
    "hidden_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 3,
    "intermediate_size": 384,
    "num_labels": 10,
    "image_size": 32,
    "patch_size": 4,
}
BATCH = 64
PRESETS = {OURS: "W8A8", f"{OURS}, W8A8-lsq": "W8A8-lsq", f"{OURS}, W4A8-lsq": "W4A8-lsq"}
FLOAT = "torch float32"
RATE = 1e-7  # as much work as any other, and the model stays what it was


def images(sizes: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Noise, and a label each."""
    generator = torch.Generator().manual_seed(3)
    batch = 4 if sizes is TINY else BATCH
    side = sizes["image_size"]
    x = torch.randn(batch, 3, side, side, generator=generator)
    return x, torch.randint(0, sizes["num_labels"], (batch,), generator=generator)


def stepper(model: nn.Module, groups: Any, sizes: dict[str, int]) -> Callable[[], Tensor]:
    """A call that trains for one step of AdamW, and returns the logits."""
    x, labels = images(sizes)
    model.train()
    optimizer = torch.optim.AdamW(groups, lr=RATE)

    @torch.enable_grad()
    def step() -> Tensor:
        logits: Tensor = model(x)
        optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
        return logits.detach()

    return step


class _FakeQuantizedLinear(nn.Module):
    """A linear layer behind torch's fake-quantization of input (per tensor) and weight (per channel)."""

    def __init__(self, linear: nn.Linear, x: Tensor) -> None:
        super().__init__()
        self.linear = linear
        self.scale = float((x.max() - x.min()) / 255)
        self.zero_point = int(torch.clamp(-128 - x.min() / self.scale, -128, 127))
        self.zeros = torch.zeros(linear.out_features, dtype=torch.int32)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, -128, 127)
        weight = self.linear.weight
        scale = weight.detach().abs().amax(dim=1) / 127
        weight = torch.fake_quantize_per_channel_affine(weight, scale, self.zeros, 0, -127, 127)
        return F.linear(x, weight, self.linear.bias)


def fake_quantized(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy whose linear layers are fake-quantized with torch's ops, their ranges from `x`."""
    made = copy.deepcopy(model)
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0].detach()}))
        for name, module in made.named_modules()
        if isinstance(module, nn.Linear)
    ]
    with torch.no_grad():
        made(x)
    for hook in hooks:
        hook.remove()
    for name, given in seen.items():
        parent, _, last = name.rpartition(".")
        linear = made.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        setattr(made.get_submodule(parent), last, _FakeQuantizedLinear(linear, given))
    return made


def rows(settings: Settings) -> dict[str, Callable[[], Row]]:
    """One."""
    return {"step": partial(row, settings)}


def row(settings: Settings) -> Row:
    """Ours with fixed and with learned scales, beside float training and the peers' tools."""
    sizes = TINY if settings.tiny else CIFAR
    x, _ = images(sizes)
    model = network(sizes)
    with torch.no_grad():
        expected = model(x).numpy()
    made = Row(
        "step",
        settings,
        work=3.0 * len(x) * multiply_adds(sizes),
        unit="MAC",
        traffic=3.0 * sum(p.nbytes for p in model.parameters()),
        limit=None,
        expected=expected,
        seconds=settings.seconds * 5,
    )
    for name, preset in PRESETS.items():
        with torch.enable_grad():
            prepared = pq.quantize(model, [x], config=preset, progress=False)
        with torch.no_grad():
            made.equal(prepared(x).numpy(), pq.convert(prepared)(x), f"the logits of {preset} and its engine")
        step = stepper(prepared, pq.param_groups(prepared, RATE), sizes)
        made.ours(step, name, result=step().numpy())

    def peer(build: Callable[[], nn.Module], text: str) -> Peer:
        network = build()
        step = stepper(network, network.parameters(), sizes)
        last: list[Tensor] = []

        def run() -> None:
            last[:] = [step()]

        def result() -> Any:
            return np.asarray(last[0])

        return Peer(run, result, text)

    made.peer(FLOAT, lambda: peer(lambda: copy.deepcopy(model), "eager"))
    made.peer(
        "torch fake-quantization, linear layers",
        lambda: peer(
            lambda: fake_quantized(model, x), "fake_quantize_per_tensor/channel_affine, fixed ranges"
        ),
    )
    made.peer(
        "torchao QAT, linear layers",
        lambda: peer(lambda: prepared_for_training(model), "QATConfig: int8 per token, int8 per channel"),
        heavy=True,
    )
    return made
