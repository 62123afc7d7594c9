"""Online attention, memory free of the number of keys, beside the exact op and float32 attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import cases, peers
from benchmarks.bench_attention import operands
from benchmarks.probe import multiply_add
from benchmarks.workload import OURS, Row, Settings
from pyquant import _C, numerics, ops

__all__ = ["TITLE", "rows"]

TITLE = "Attention in its online form, int8 -> int8 (named heads x queries x keys x head size)"

# From a DeiT-S block to a long text, where the exact op's packed keys and scores leave the caches; then a
# few queries and one, as when a text is written, where the exact op packs keys for little use, or not at all.
SHAPES = (
    (6, 197, 197, 64),
    (2, 1024, 1024, 64),
    (1, 1024, 4096, 64),
    (1, 1024, 16384, 64),
    (4, 16, 16384, 64),
    (8, 1, 16384, 64),
)
TINY = ((2, 7, 70, 16), (1, 1, 70, 16))
EXACT = "pyquant, exact attention"


def rows(settings: Settings) -> dict[str, Callable[[], Row]]:
    """One row a shape."""
    shapes = TINY if settings.tiny else SHAPES
    return {f"{h}x{n}x{m}x{d}": partial(row, settings, h, n, m, d) for h, n, m, d in shapes}


def row(settings: Settings, heads: int, queries: int, keys: int, size: int) -> Row:
    """The online and the exact op on one set of operands and constants, and torch."""
    import torch

    (q, k, v), scale = operands(heads, keys, size)
    q = np.ascontiguousarray(q[:, :, :queries])
    real: list[Any] = [torch.from_numpy(a.astype(np.float32) * np.float32(scale)) for a in (q, k, v)]
    sdpa = torch.nn.functional.scaled_dot_product_attention
    expected = sdpa(*real).numpy()
    y_scale = float(np.abs(expected).max() / 127)
    made = Row(
        f"{heads}x{queries}x{keys}x{size}",
        settings,
        work=2 * heads * queries * keys * size,
        unit="MAC",
        traffic=2 * heads * (queries + keys) * size,
        limit=multiply_add(_C.isa_active(), 8),
        expected=expected,
    )
    x_grid, y_grid = (scale, 0, -128, 127), (y_scale, 0, -128, 127)
    constants = numerics.derive_attention(
        "table16", x_grid, x_grid, x_grid, y_grid, size**-0.5, size, keys
    ).keywords()
    for name, op in ((OURS, ops.attention_online64), (EXACT, ops.attention)):
        y = np.empty(q.shape, np.int8)

        def run(op: Callable[..., Any] = op, y: NDArray[Any] = y, threads: int = settings.threads) -> None:
            op(q, k, v, **constants, out=y, threads=threads)

        run()
        with cases.definition():
            made.equal(y, op(q, k, v, **constants), f"the int8 outputs of {op.__name__}")
        made.ours(run, name, f"{op.__name__}, table16", result=y.astype(np.float32) * y_scale)
        if settings.threads > 1 and name == OURS:
            made.ours(partial(run, threads=1), "pyquant, 1 thread", f"{op.__name__}, table16")
    made.peer("torch float32", lambda: peers.torch_float.eager(sdpa, *real))
    return made
