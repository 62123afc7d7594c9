"""Attention with its softmax inside: int8 q, k, v -> int8, beside float32 attention of the same operands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import cases, peers
from benchmarks.probe import multiply_add
from benchmarks.workload import OURS, Row, Settings
from pyquant import _C, numerics, ops

__all__ = ["TITLE", "rows"]

TITLE = "Attention, int8 -> int8, softmax inside (named heads x tokens x head size)"

# A DeiT-S block, and a language model's at 1,024 tokens.
SHAPES = ((6, 197, 64), (8, 1024, 64))
TINY = ((2, 17, 16),)


def rows(settings: Settings) -> dict[str, Callable[[], Row]]:
    """One row a shape."""
    shapes = TINY if settings.tiny else SHAPES
    return {f"{h}x{t}x{d}": partial(row, settings, h, t, d) for h, t, d in shapes}


def operands(heads: int, tokens: int, size: int) -> tuple[list[NDArray[np.int8]], float]:
    """q, k, v [1, heads, tokens, size] and their scale: scores spread as in a trained model."""
    rng = np.random.default_rng(0)
    scale = 4 / 127
    normal = rng.standard_normal((3, 1, heads, tokens, size))
    return list(np.clip(np.rint(normal / scale), -128, 127).astype(np.int8)), scale


def row(settings: Settings, heads: int, tokens: int, size: int) -> Row:
    """Both integer softmax methods, and float32 attention of other libraries."""
    import torch

    threads = settings.threads
    (q, k, v), scale = operands(heads, tokens, size)
    real = [torch.from_numpy(a.astype(np.float32) * np.float32(scale)) for a in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(*real).numpy()
    y_scale = float(np.abs(expected).max() / 127)
    made = Row(
        f"{heads}x{tokens}x{size}",
        settings,
        work=2 * heads * tokens * tokens * size,
        unit="MAC",
        traffic=4 * heads * tokens * size,
        limit=multiply_add(_C.isa_active(), 8),
        expected=expected,
    )
    x_grid, y_grid = (scale, 0, -128, 127), (y_scale, 0, -128, 127)
    for method in ("table16", "table8"):
        constants = numerics.derive_attention(
            method, x_grid, x_grid, x_grid, y_grid, size**-0.5, size, tokens
        ).keywords()
        y = np.empty(q.shape, np.int8)

        def run(constants: dict[str, Any] = constants, y: NDArray[Any] = y, threads: int = threads) -> None:
            ops.attention(q, k, v, **constants, out=y, threads=threads)

        run()
        with cases.definition():
            made.equal(y, ops.attention(q, k, v, **constants), f"the int8 outputs of {method}")
        name = OURS if method == "table16" else f"pyquant, {method}"
        made.ours(run, name, f"softmax {method}", result=y.astype(np.float32) * y_scale)
        if threads > 1 and name == OURS:
            made.ours(partial(run, threads=1), "pyquant, 1 thread", f"softmax {method}")
    add_peers(made, real)
    return made


def add_peers(row: Row, real: list[Any]) -> None:
    """scaled_dot_product_attention, as it is, compiled and exported."""
    import torch

    class Attention(torch.nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    sdpa, threads = torch.nn.functional.scaled_dot_product_attention, row.settings.threads
    row.peer("torch float32", lambda: peers.torch_float.eager(sdpa, *real))
    row.peer("torch float32, compiled", lambda: peers.torch_float.compiled(sdpa, *real), heavy=True)
    row.gaps["FBGEMM, oneDNN through torch"] = "torch has no quantized attention"
    key = f"attention-{row.name}"
    for name, weights in (("float32", None), ("u8u8", "u8"), ("u8s8", "s8")):
        row.peer(
            f"ONNX Runtime {name}",
            lambda weights=weights: peers.ort.module(Attention(), real, key, weights, threads),
            heavy=True,
        )
    for name in ("float32", "INT8"):
        row.peer(
            f"OpenVINO {name}",
            lambda name=name: peers.ov.module(Attention(), real, key, name == "INT8", threads),
            heavy=True,
        )
