"""Linear layers with 4-bit weights (W4A8), beside pyquant's own int8 weights and other 4-bit kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks import cases, peers
from benchmarks.bench_gemm import SHAPES, TINY, add_ours
from benchmarks.probe import multiply_add
from benchmarks.workload import FLAT8, Row, Settings
from pyquant import _C

__all__ = ["TITLE", "rows"]

TITLE = "GEMM, int8 x 4-bit weights -> int8, requantized per channel (named m x k x n)"

GROUP = 32


def rows(settings: Settings) -> dict[str, Callable[[], Row]]:
    """The shapes of the int8 workload."""
    shapes = TINY if settings.tiny else SHAPES
    return {f"{m}x{k}x{n}": partial(row, settings, m, k, n) for m, k, n in shapes}


def row(settings: Settings, m: int, k: int, n: int) -> Row:
    """A scale a channel; groups of 32 and int8 weights as candidates of their own."""
    threads = settings.threads
    case, grouped = cases.linear(m, n, k, 4), cases.linear(m, n, k, 4, GROUP)
    made = Row(
        f"{m}x{k}x{n}",
        settings,
        work=m * n * k,
        unit="MAC",
        traffic=m * k + n * k / 2 + m * n,
        float_traffic=4 * (m * k + n * k + m * n),
        limit=multiply_add(_C.isa_active(), 4),
        expected=case.y,
    )
    add_ours(made, case)
    if threads > 1:
        add_ours(made, case, "pyquant, 1 thread", threads=1)
    add_ours(made, grouped, f"pyquant, groups of {GROUP}")
    add_ours(made, cases.linear(m, n, k), "pyquant, int8 weights")
    add_ours(made, cases.linear(m, n, k, flat=True), FLAT8)
    made.peer("torch float32", lambda: peers.torch_float.linear(case))
    made.peer("FBGEMM, int8 weights", lambda: peers.torch_int8.linear([case], "FBGEMM"))
    made.peer("torch int4 weights", lambda: peers.torch_int8.int4_weights([grouped], GROUP), max_rounds=2)
    made.peer("ONNX Runtime 4 bits", lambda: peers.ort.nbits([grouped], 4, GROUP, threads), heavy=True)
    made.peer("OpenVINO INT4", lambda: peers.ov.linear([grouped], "int4", threads, GROUP), heavy=True)
    return made
