"""Error metrics between two arrays, per element of one: one pass over both, so reading is the limit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import cases, peers
from benchmarks.workload import Peer, Row, Settings, rows_by_size
from pyquant import metrics, ops

__all__ = ["TITLE", "rows"]

TITLE = "Error metrics of a batch of 64: all sums in one pass, SQNR from them; peers do SQNR alone"

SAMPLES = 64
SIZES = (1_182, 131_072)  # 0.3 MB, in cache, and 32 MB of float32 in each array
TINY = (40,)
GRID = (8 / 127, 3, -128, 127)


def rows(settings: Settings) -> dict[str, Callable[[], Row]]:
    """SQNR against float32 and against stored int8, and KL of logits."""
    return rows_by_size(settings, OPS, SAMPLES, TINY if settings.tiny else SIZES)


def values(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Normal activations, and the same with an error of one percent."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, size), np.float32)
    return x, x + rng.standard_normal((SAMPLES, size), np.float32) * np.float32(0.01)


def start(settings: Settings, name: str, operands: tuple[NDArray[Any], NDArray[Any]], **grid: Any) -> Row:
    """A row with pyquant in it; all its sums are checked, not the figure alone."""
    x, y = operands

    def run(threads: int = settings.threads) -> metrics.ErrorMetrics:
        errors = metrics.ErrorMetrics()
        errors.update(x, y, threads=threads, **grid)
        return errors

    with cases.definition():
        definition = run()
    figure = np.array([definition.compute().sqnr])
    traffic = x.nbytes + y.nbytes
    made = Row(name, settings, work=x.size, unit="element", traffic=traffic, limit="read", expected=figure)
    sums = [np.array(errors.state()["sums"]) for errors in (run(), definition)]
    made.equal(sums[0], sums[1], "all sums")
    made.ours(run, result=figure)
    if settings.threads > 1:
        made.ours(partial(run, 1), "pyquant, 1 thread")
    return made


def float32(settings: Settings, name: str, size: int) -> Row:
    """Both arrays in float32."""
    import torch

    x, y = values(size)
    made = start(settings, name, (x, y))
    made.peer("NumPy float32", lambda: numpy_call(sqnr_numpy, x, y))
    made.peer("torch float32", lambda: peers.torch_float.eager(sqnr_torch, *map(torch.from_numpy, (x, y))))
    return made


def int8(settings: Settings, name: str, size: int) -> Row:
    """The approximation as stored integers, which a peer has to make real first."""
    import torch

    x, _ = values(size)
    q = ops.quantize(x, *GRID, dtype="int8")
    made = start(settings, name, (x, q), scale=GRID[0], zero_point=GRID[1])

    def torch_call(x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return sqnr_torch(x, (q.float() - GRID[1]) * GRID[0])

    made.peer("torch float32", lambda: peers.torch_float.eager(torch_call, *map(torch.from_numpy, (x, q))))
    return made


def divergence(settings: Settings, name: str, size: int) -> Row:
    """KL of the softmax of rows, in float64 here and in float32 there."""
    import torch

    x, y = values(size)

    def run(threads: int = settings.threads) -> NDArray[np.float64]:
        return np.array([metrics.kl_divergence(x, y, threads=threads)])

    result = run(1)
    made = Row(
        name, settings, work=x.size, unit="element", traffic=2 * x.nbytes, limit="read", expected=result
    )
    made.equal(run(), result, "the mean, on one thread and on all")
    made.ours(run, result=result)

    def torch_call(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        logs = [torch.log_softmax(v, -1) for v in (y, x)]
        return torch.nn.functional.kl_div(*logs, log_target=True, reduction="batchmean")

    made.peer("torch float32", lambda: peers.torch_float.eager(torch_call, *map(torch.from_numpy, (x, y))))
    return made


def sqnr_numpy(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[Any]:
    """SQNR as one writes it down."""
    ratio = np.linalg.norm(x, axis=1) / np.linalg.norm(x - y, axis=1)
    return np.atleast_1d(20 * np.log10(ratio.mean()))


def sqnr_torch(x: Any, y: Any) -> Any:
    """The same in torch."""
    return 20 * (x.norm(dim=1) / (x - y).norm(dim=1)).mean().log10()


def numpy_call(function: Callable[..., NDArray[Any]], *arguments: NDArray[Any]) -> Peer:
    """A peer of NumPy calls."""
    last: list[Any] = [None]

    def run() -> None:
        last[0] = function(*arguments)

    return Peer(run, lambda: last[0], "one thread")


OPS: dict[str, Callable[[Settings, str, int], Row]] = {
    "SQNR float32": float32,
    "SQNR int8": int8,
    "KL divergence": divergence,
}
