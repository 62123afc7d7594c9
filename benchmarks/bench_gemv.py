"""One row times a large matrix whose weights lie in memory, not in a cache: what decoding one token costs.

Several copies of the weights, four times the last-level cache together (on hosts with a very large one, less:
`MOST`), are used in turn. The limit is how fast the machine reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from benchmarks import cases, machine, peers
from benchmarks.bench_gemm import add_ours
from benchmarks.workload import FLAT, Row, Settings

__all__ = ["TITLE", "rows"]

TITLE = "GEMV with cold weights, int8 -> int8 (named by the matrix and its weights)"

SIZE, TINY = 4096, 64
GROUP = 32


def rows(settings: Settings) -> dict[str, Callable[[], Row]]:
    """8-bit weights, then 4-bit weights."""
    size = TINY if settings.tiny else SIZE
    return {
        f"{size}x{size} int8": partial(int8, settings, size),
        f"{size}x{size} int4": partial(int4, settings, size),
    }


# Bytes of one candidate's copies: a dozen candidates must fit beside each other. A virtual machine that sees
# the 300 MiB of its host has a small part of it for itself.
MOST = 512 << 20


def copies(size: int, bits: int) -> int:
    """How many matrices make four times the last-level cache."""
    wanted = min(4 * machine.last_level_cache(), MOST)
    return math.ceil(wanted / (size * size * bits / 8)) if size > TINY else 2


def start(settings: Settings, size: int, bits: int) -> tuple[Row, cases.Linear]:
    """A row with pyquant in it."""
    case = cases.linear(1, size, size, bits)
    made = Row(
        f"{size}x{size} int{bits}",
        settings,
        work=size * size,
        unit="MAC",
        traffic=size * size * bits / 8 + 2 * size,
        float_traffic=4 * (size * size + 2 * size),
        limit="read",
        expected=case.y,
    )
    add_ours(made, case, copies=copies(size, bits))
    if settings.threads > 1:
        add_ours(made, case, "pyquant, 1 thread", threads=1, copies=copies(size, bits))
    made.peer("torch float32", lambda: peers.torch_float.linear(*[case] * copies(size, 32)))
    return made, case


def int8(settings: Settings, size: int) -> Row:
    """8 bits a weight."""
    made, case = start(settings, size, 8)
    add_ours(made, cases.linear(1, size, size, flat=True), FLAT, copies=copies(size, 8))
    same, threads = [case] * copies(size, 8), settings.threads
    for name in ("FBGEMM", "oneDNN"):
        made.peer(name, lambda name=name: peers.torch_int8.linear(same, name))
    for weights in ("u8", "s8"):
        name = f"ONNX Runtime u8{weights}"
        made.peer(name, lambda weights=weights: peers.ort.linear(same, weights, threads), heavy=True)
    made.peer("OpenVINO INT8", lambda: peers.ov.linear(same, "int8", threads), heavy=True)
    return made


def int4(settings: Settings, size: int) -> Row:
    """4 bits a weight: a scale a channel, then groups of 32 as the peers have them."""
    made, _ = start(settings, size, 4)
    grouped = cases.linear(1, size, size, 4, GROUP)
    add_ours(made, grouped, f"pyquant, groups of {GROUP}", copies=copies(size, 4))
    whole = cases.linear(1, size, size)
    add_ours(made, whole, "pyquant, int8 weights", copies=copies(size, 8))
    same, threads = [grouped] * copies(size, 4), settings.threads
    made.peer("torch int4 weights", lambda: peers.torch_int8.int4_weights(same, GROUP), max_rounds=3)
    made.peer("ONNX Runtime 4 bits", lambda: peers.ort.nbits(same, 4, GROUP, threads), heavy=True)
    made.peer("OpenVINO INT4", lambda: peers.ov.linear(same, "int4", threads, GROUP), heavy=True)
    return made
