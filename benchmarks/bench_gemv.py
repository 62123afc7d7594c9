"""One row times a large matrix whose weights lie in memory, not in a cache: what decoding one token costs.

Several copies of the weights, four times the last-level cache together, are used in turn. The limit is how
fast the machine reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks import cases, machine, peers
from benchmarks.workload import Row, Settings
from pyquant import ops

__all__ = ["TITLE", "rows"]

TITLE = "GEMV, 4096 x 4096 with cold weights, int8 -> int8"

SIZE, TINY = 4096, 64


def rows(settings: Settings) -> dict[str, Callable[[], Row]]:
    """One row."""
    size = TINY if settings.tiny else SIZE
    return {
        f"{size}x{size} int8": partial(int8, settings, size),
    }


def copies(size: int, bits: int) -> int:
    """How many matrices make four times the last-level cache."""
    return math.ceil(4 * machine.last_level_cache() / (size * size * bits / 8)) if size > TINY else 2


def in_turn(
    packed: list[ops.PackedWeights], x: np.ndarray, y: np.ndarray, threads: int
) -> Callable[[], None]:
    """A call that takes the next matrix."""
    turn = [0]

    def run() -> None:
        turn[0] = (turn[0] + 1) % len(packed)
        ops.gemm(x, packed[turn[0]], out=y, threads=threads)

    return run


def int8(settings: Settings, size: int) -> Row:
    """8 bits a weight."""
    threads = settings.threads
    case = cases.linear(1, size, size)
    count = copies(size, 8)
    made = Row(
        f"{size}x{size} int8",
        settings,
        work=size * size,
        unit="MAC",
        traffic=size * size + 2 * size,
        limit="read",
        expected=case.y,
    )
    packed, y = [ops.pack_gemm(**case.keywords()) for _ in range(count)], np.empty((1, size), np.int8)
    ops.gemm(case.x_q, packed[0], out=y, threads=threads)
    with cases.definition():
        made.equal(y, ops.gemm(case.x_q, ops.pack_gemm(**case.keywords())), "the int8 outputs")
    made.ours(in_turn(packed, case.x_q, y, threads), result=case.real(y, case.y_zero_point))
    if threads > 1:
        made.ours(in_turn(packed, case.x_q, y, 1), "pyquant, 1 thread")
    same = [case] * count
    made.peer("torch float32", lambda: peers.torch_float.linear(*[case] * copies(size, 32)))
    for name in ("FBGEMM", "oneDNN"):
        made.peer(name, lambda name=name: peers.torch_int8.linear(same, name))
    for weights in ("u8", "s8"):
        name = f"ONNX Runtime u8{weights}"
        made.peer(name, lambda weights=weights: peers.ort.linear(same, weights, threads), heavy=True)
    made.peer("OpenVINO INT8", lambda: peers.ov.linear(same, "int8", threads), heavy=True)
    return made
