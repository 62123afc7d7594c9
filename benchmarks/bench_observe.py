"""What calibration does to each tensor, per element: one pass of reading."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.workload import Row, Settings, rows_by_size
from pyquant.torch_ops import HISTOGRAM_BINS, new_histogram, new_minmax, observe

__all__ = ["TITLE", "rows"]

TITLE = "Observers in torch (named channels x elements)"

CHANNELS = 512
SIZES = (256, 16_384)  # 0.5 MB, in cache, and 32 MB
TINY = (40,)

_pyquant: Any = torch.ops.pyquant  # ops have no annotations
State = tuple[Tensor, Tensor]
Observer = Callable[[Tensor, Tensor, Tensor], None]


def rows(settings: Settings) -> dict[str, Callable[[], Row]]:
    """Ranges of a tensor and of channels, and the histogram that the searches for a range read."""
    return rows_by_size(settings, OPS, CHANNELS, TINY if settings.tiny else SIZES)


def normal(size: int) -> Tensor:
    """Activations of one standard deviation."""
    return torch.randn((CHANNELS, size), generator=torch.Generator().manual_seed(0))


def start(
    settings: Settings, name: str, x: Tensor, new: Callable[[], State], op: Observer, definition: Observer
) -> Row:
    """A row whose state after one batch is that of the pure-torch body, which defines it."""
    states = [new(), new()]
    op(x, *states[0])
    definition(x, *states[1])
    found = states[0][0].reshape(-1).double().numpy()
    made = Row(name, settings, x.numel(), "element", x.nbytes, "read", expected=found)
    for index, (mine, theirs) in enumerate(zip(*states, strict=True)):
        made.equal(mine.numpy(), theirs.numpy(), f"state {index}")
    state = states[0]
    made.ours(lambda: op(x, *state), result=found)
    return made


def minmax(settings: Settings, name: str, size: int, per_channel: bool) -> Row:
    """Minimum and maximum."""
    x = normal(size)
    new = partial(new_minmax, (CHANNELS, 1) if per_channel else ())
    made = start(settings, name, x, new, _pyquant.observe_minmax, observe.minmax_body)

    def theirs() -> Tensor:
        found = torch.aminmax(x, dim=1) if per_channel else torch.aminmax(x)
        minimum: Tensor = found.min
        return minimum

    made.peer("torch float32", lambda: peers.torch_float.eager(theirs))
    return made


def histogram(settings: Settings, name: str, size: int) -> Row:
    """Counts in 2048 bins; torch's op takes the ends of the range, which have to be found first."""
    x = normal(size)
    made = start(settings, name, x, new_histogram, _pyquant.observe_histogram, observe.histogram_body)
    _, meta = new_histogram()
    _pyquant.observe_histogram(x, new_histogram()[0], meta)
    end = 2.0 ** float(meta[3])

    def theirs() -> Tensor:
        torch.aminmax(x)
        return torch.histc(x, HISTOGRAM_BINS, -end, end)

    made.peer("torch float32", lambda: peers.torch_float.eager(theirs))
    return made


OPS: dict[str, Callable[[Settings, str, int], Row]] = {
    "min-max": partial(minmax, per_channel=False),
    "min-max per channel": partial(minmax, per_channel=True),
    f"histogram of {HISTOGRAM_BINS} bins": histogram,
}
