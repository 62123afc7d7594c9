"""Linear layers with int8 weights: int8 in, int8 out, requantized, against the limit of the exact product."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks import cases, peers
from benchmarks.probe import multiply_add
from benchmarks.workload import FLAT, OURS, Row, Settings
from pyquant import _C, ops

__all__ = ["TITLE", "add_ours", "rows"]

TITLE = "GEMM, int8 x int8 -> int8, requantized per channel (m x k by n x k, named m x k x n)"

# (m, k, n): the layers of a ViT with 197 tokens, 384 or 768 wide.
SHAPES = ((197, 384, 384), (197, 384, 1152), (197, 384, 1536), (197, 1536, 384), (197, 768, 768))
TINY = ((17, 32, 48),)


def rows(settings: Settings) -> dict[str, Callable[[], Row]]:
    """One row a shape."""
    shapes = TINY if settings.tiny else SHAPES
    return {f"{m}x{k}x{n}": partial(row, settings, m, k, n) for m, k, n in shapes}


def row(settings: Settings, m: int, k: int, n: int) -> Row:
    """pyquant, and everybody who has an int8 or float32 linear layer."""
    case = cases.linear(m, n, k)
    made = Row(
        f"{m}x{k}x{n}",
        settings,
        work=m * n * k,
        unit="MAC",
        traffic=m * k + n * k + m * n,
        limit=multiply_add(_C.isa_active(), 8),
        expected=case.y,
    )
    add_ours(made, case)
    if settings.threads == 1:
        add_ours(made, cases.linear(m, n, k, flat=True), FLAT)
    else:
        add_ours(made, case, "pyquant, 1 thread", threads=1)
    add_peers(made, case)
    return made


def add_ours(
    row: Row, case: cases.Linear, name: str = OURS, threads: int | None = None, copies: int = 1
) -> None:
    """pyquant with these weights, checked; several copies of them are used in turn."""
    threads = row.settings.threads if threads is None else threads
    packed = [case.pack() for _ in range(copies)]
    y = np.empty(case.y.shape, np.int8)
    turn = [0]

    def run() -> None:
        turn[0] = (turn[0] + 1) % copies
        ops.gemm(case.x_q, packed[turn[0]], out=y, threads=threads)

    run()
    with cases.definition():
        row.equal(y, ops.gemm(case.x_q, case.pack()), f"the int8 outputs of {name}")
    row.ours(run, name, result=case.real(y, case.y_zero_point))


def add_peers(row: Row, case: cases.Linear) -> None:
    """Float32 and INT8 linear layers of other libraries."""
    threads = row.settings.threads
    row.peer("torch float32", lambda: peers.torch_float.linear(case))
    row.peer("torch float32, compiled", lambda: peers.torch_float.linear_compiled(case), heavy=True)
    for name in ("FBGEMM", "oneDNN", "torch x86"):
        row.peer(name, lambda name=name: peers.torch_int8.linear([case], name))
    row.peer("torch._int_mm", lambda: peers.torch_int8.int_mm(case), max_rounds=3)
    for weights in ("u8", "s8"):
        name = f"ONNX Runtime u8{weights}"
        row.peer(name, lambda weights=weights: peers.ort.linear([case], weights, threads), heavy=True)
    row.peer("OpenVINO INT8", lambda: peers.ov.linear([case], "int8", threads), heavy=True)
    row.peer("torchao dynamic INT8, compiled", lambda: peers.ao.linear(case), heavy=True, max_rounds=3)
