"""A DeiT-S-size ViT (384 wide, 12 deep, 6 heads, 197 tokens; random weights): float32 image, float32 logits.

All of it counts: quantizing the image, the integer program, dequantizing the logits. For each peer too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import pyquant as pq
from benchmarks import peers
from benchmarks.probe import multiply_add
from benchmarks.workload import OURS, Row, Settings
from pyquant import _C

__all__ = ["TITLE", "rows"]

TITLE = "ViT of DeiT-S size, W8A8, all integer"

BATCHES = (1, 8)
DEIT_S = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "num_labels": 1000,
}
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": 10,
    "image_size": 32,
}
TORCHAO = "torchao dynamic INT8, compiled"
APART = "pyquant, a program of its own for each thread"
SECONDS = 45.0  # for a row: one call takes as long as a hundred of the other workloads'


def rows(settings: Settings) -> dict[str, Callable[[], Row]]:
    """One row a batch size."""
    batches = BATCHES[:1] if settings.tiny else BATCHES
    return {f"batch {batch}": partial(row, settings, batch) for batch in batches}


def network(sizes: dict[str, int], attention: str = "sdpa") -> Any:
    """The ViT, as a function of the image alone; the same weights each time."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    class Logits(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x).logits

    torch.manual_seed(0)
    model = ViTForImageClassification(ViTConfig(**sizes, attn_implementation=attention)).eval()
    with torch.no_grad():
        for (
            parameter
        ) in model.parameters():  # biases and norms are initialized to 0 and 1: no work for scales
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return Logits(model).eval()


def multiply_adds(sizes: dict[str, int]) -> int:
    """Of one image: patches, layers with their attention, and the head."""
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    patch = sizes.get("patch_size", 16)
    patches = (sizes.get("image_size", 224) // patch) ** 2
    tokens = patches + 1
    layer = tokens * (4 * width * width + 2 * width * inner) + 2 * tokens * tokens * width
    return (
        patches * 3 * patch * patch * width + sizes["num_hidden_layers"] * layer + width * sizes["num_labels"]
    )


@cache
def engine_of(tiny: bool, config: str) -> tuple[Any, Any]:
    """The prepared model and its engine, calibrated on two images of noise; the same for all batch sizes."""
    import torch

    sizes = TINY if tiny else DEIT_S
    size = sizes.get("image_size", 224)
    torch.manual_seed(1)
    with torch.enable_grad():
        images = [torch.randn(2, 3, size, size)]
        prepared = pq.quantize(network(sizes), images, config=config, progress=False)
    return prepared, pq.convert(prepared)


def row(settings: Settings, batch: int) -> Row:
    """The engine with 8-bit and with 4-bit weights, beside whole-model peers."""
    import torch

    sizes = TINY if settings.tiny else DEIT_S
    size = sizes.get("image_size", 224)
    model = network(sizes)
    prepared, engine = engine_of(settings.tiny, "W8A8")
    engine.set_num_threads(settings.threads)
    torch.manual_seed(2)
    x = torch.randn(batch, 3, size, size)
    stored = engine.to_bytes()
    made = Row(
        f"batch {batch}",
        settings,
        work=batch * multiply_adds(sizes),
        unit="MAC",
        traffic=len(stored) + 4.0 * x.numel() + 4.0 * batch * sizes["num_labels"],
        limit=multiply_add(_C.isa_active(), 8),
        expected=model(x).numpy(),
        seconds=min(settings.seconds * 5, SECONDS),
    )
    y = engine(x)
    made.equal(y, prepared(x).numpy(), "the logits of the simulation, bit for bit")
    made.ours(lambda: engine(x), result=y)
    if settings.threads > 1:
        # The same engine would change its number of threads from call to call.
        single = pq.IntegerModel.from_bytes(stored)
        single.set_num_threads(1)
        made.ours(lambda: single(x), "pyquant, 1 thread")
        if batch % settings.threads == 0:
            made.ours(apart(stored, x.chunk(settings.threads)), APART)
    prepared4, engine4 = engine_of(settings.tiny, "W4A8")
    engine4.set_num_threads(settings.threads)
    y4 = engine4(x)
    made.equal(y4, prepared4(x).numpy(), "those of W4A8")
    made.ours(lambda: engine4(x), f"{OURS}, W4A8", result=y4)
    add_peers(made, sizes, model, x)
    return made


def apart(stored: bytes, parts: Sequence[Any]) -> Callable[[], object]:
    """Runs each part on a thread of its own, which shares nothing with the others but the machine: a control.

    What this loses to one thread is lost to clocks, caches and neighbours, not to how work is divided.
    """
    engines = [pq.IntegerModel.from_bytes(stored) for _ in parts]
    for engine in engines:
        engine.set_num_threads(1)
    pool = ThreadPoolExecutor(len(parts))
    return lambda: list(pool.map(lambda engine, part: engine(part), engines, parts))


def add_peers(row: Row, sizes: dict[str, int], model: Any, x: Any) -> None:
    """Whole models, converted by each library's own tools; calibrated on the image that is timed."""
    threads = row.settings.threads
    key = f"vit-{'-'.join(map(str, sizes.values()))}-{row.name.replace(' ', '')}"
    row.peer("torch float32", lambda: peers.torch_float.eager(model, x))
    if len(x) == 1:  # at seconds a call, and minutes to set up, these have their say once
        row.peer("torch float32, compiled", lambda: peers.torch_float.compiled(model, x), heavy=True)
        row.peer("FBGEMM dynamic INT8", lambda: peers.torch_int8.dynamic(model, x, "fbgemm"), heavy=True)
        row.peer(TORCHAO, lambda: peers.ao.dynamic_int8(model, x), heavy=True, max_rounds=2)
    else:
        for name in ("torch float32, compiled", "FBGEMM dynamic INT8", TORCHAO, "ONNX Runtime u8s8"):
            row.gaps[name] = "see batch 1"
    # Written-out attention: the exporter's form of SDPA tests each row for NaN, which costs time for nothing.
    written_out = partial(network, sizes, "eager")
    for name, weights in (("float32", None), ("u8u8", "u8"), ("u8s8", "s8")):
        if f"ONNX Runtime {name}" in row.gaps:
            continue
        row.peer(
            f"ONNX Runtime {name}",
            lambda weights=weights: peers.ort.module(written_out(), [x], key, weights, threads),
            heavy=True,
        )
    for name in ("float32", "INT8"):
        row.peer(
            f"OpenVINO {name}",
            lambda name=name: peers.ov.module(model, [x], key, name == "INT8", threads),
            heavy=True,
        )
