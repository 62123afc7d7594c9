"""``pyquant::observe_minmax`` and ``observe_histogram``: calibration state, updated in place (``observe.h``).

The state is exact and does not depend on the order or the split of the batches. It has no gradient;
pass detached inputs where the graph should not be kept alive.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .grid import check_float, reject_nonfinite
from .library import define

__all__ = ["HISTOGRAM_BINS", "HISTOGRAM_EMPTY", "new_histogram", "new_minmax"]

HISTOGRAM_BINS = 2048
#: Exponent of a histogram that has seen nothing but zeros.
HISTOGRAM_EMPTY = -(2**31)


def new_minmax(shape: tuple[int, ...] = (), device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Empty state of ``observe_minmax``: (minimum, maximum), +inf and -inf, float32.

    Parameters
    ----------
    shape : tuple of int
        ``()`` for one range of the whole tensor; for one a channel, a shape that broadcasts to the
        observed tensors and has one axis longer than 1, e.g. ``(n, 1)`` for the rows of a weight.
    device : torch.device or str
        Where the observed tensors live.
    """
    return torch.full(shape, math.inf, device=device), torch.full(shape, -math.inf, device=device)


def new_histogram(device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Empty state of ``observe_histogram``.

    Returns
    -------
    counts : Tensor
        int64 [2048], bins of equal width over [-2^e, 2^e).
    meta : Tensor
        float64 [4]: number of elements, minimum, maximum, exponent e (`HISTOGRAM_EMPTY` until the
        first nonzero element; zeros seen by then are in the number of elements only).
    """
    counts = torch.zeros(HISTOGRAM_BINS, dtype=torch.int64, device=device)
    meta = torch.tensor(
        [0.0, math.inf, -math.inf, float(HISTOGRAM_EMPTY)], dtype=torch.float64, device=device
    )
    return counts, meta


def _channel_axis(x: Tensor, state: Tensor) -> int | None:
    """The axis of `x` along which `state` holds one value each; None for a single one."""
    offset = x.dim() - state.dim()
    axes = [d + offset for d, size in enumerate(state.shape) if size != 1]
    if offset < 0 or len(axes) > 1 or any(x.shape[d] != state.shape[d - offset] for d in axes):
        raise RuntimeError(
            f"observe_minmax: expected minimum of shape () or one that broadcasts to {tuple(x.shape)} "
            f"with a single axis longer than 1, got {tuple(state.shape)}"
        )
    return axes[0] if axes else None


def _check_minmax(x: Tensor, minimum: Tensor, maximum: Tensor) -> int | None:
    check_float("observe_minmax", "x", x)
    for name, state in (("minimum", minimum), ("maximum", maximum)):
        check_float("observe_minmax", name, state, x)
        if state.shape != minimum.shape:
            raise RuntimeError(
                f"observe_minmax: expected minimum and maximum of one shape, "
                f"got {tuple(minimum.shape)} and {tuple(maximum.shape)}"
            )
    return _channel_axis(x, minimum)


def minmax_body(x: Tensor, minimum: Tensor, maximum: Tensor) -> None:
    axis = _check_minmax(x, minimum, maximum)
    reject_nonfinite("observe_minmax", x=x)
    if x.numel() == 0:
        return
    others = [d for d in range(x.dim()) if d != axis]
    low, high = (x, x) if not others else (x.amin(dim=others), x.amax(dim=others))
    minimum.copy_(torch.minimum(minimum, low.reshape(minimum.shape)))
    maximum.copy_(torch.maximum(maximum, high.reshape(maximum.shape)))


def _minmax_fake(x: Tensor, minimum: Tensor, maximum: Tensor) -> None:
    _check_minmax(x, minimum, maximum)


define("observe_minmax(Tensor x, Tensor(a!) minimum, Tensor(b!) maximum) -> ()", minmax_body, _minmax_fake)


def _check_histogram(x: Tensor, counts: Tensor, meta: Tensor) -> None:
    check_float("observe_histogram", "x", x)
    for name, state, shape, dtype in (
        ("counts", counts, (HISTOGRAM_BINS,), torch.int64),
        ("meta", meta, (4,), torch.float64),
    ):
        if tuple(state.shape) != shape or state.dtype != dtype or state.device != x.device:
            raise RuntimeError(
                f"observe_histogram: expected {name} {shape} of {dtype} on {x.device}, "
                f"got {tuple(state.shape)} of {state.dtype} on {state.device}"
            )


def histogram_body(x: Tensor, counts: Tensor, meta: Tensor) -> None:
    _check_histogram(x, counts, meta)
    reject_nonfinite("observe_histogram", x=x)
    if x.numel() == 0:
        return
    low, high = (float(v) for v in torch.aminmax(x))
    total, minimum, maximum, exponent = meta.tolist()
    e, grown = int(exponent), counts
    largest = max(abs(low), abs(high))
    needed = math.frexp(largest)[1] if largest > 0 else HISTOGRAM_EMPTY
    if needed > e:
        grown = _grow(grown, e, needed, int(total))
        e = needed
    if e != HISTOGRAM_EMPTY:
        # scaled by a power of two in float64: exact, hence so is the floor
        position = torch.floor(x.reshape(-1).double() * (HISTOGRAM_BINS / 2) * 2.0**-e)
        index = (position + HISTOGRAM_BINS // 2).long()
        grown = grown + torch.bincount(index, minlength=HISTOGRAM_BINS)
    counts.copy_(grown)
    state = [total + x.numel(), min(minimum, low), max(maximum, high), float(e)]
    meta.copy_(torch.tensor(state, dtype=torch.float64, device=meta.device))


def _grow(counts: Tensor, exponent: int, needed: int, total: int) -> Tensor:
    """Counts over [-2^needed, 2^needed): neighbouring bins merge in pairs around 0."""
    if exponent == HISTOGRAM_EMPTY:
        counts = counts.clone()
        counts[HISTOGRAM_BINS // 2] = total  # the zeros that waited for a bin
        return counts
    half = HISTOGRAM_BINS // 2
    for _ in range(min(needed - exponent, HISTOGRAM_BINS.bit_length())):
        merged = torch.zeros_like(counts)
        merged[half - half // 2 : half + half // 2] = counts.reshape(-1, 2).sum(dim=1)
        counts = merged
    return counts


define(
    "observe_histogram(Tensor x, Tensor(a!) counts, Tensor(b!) meta) -> ()",
    histogram_body,
    _check_histogram,
)
