"""The constants of an integer softmax: what ``pq_derive_softmax`` computes (``derive.h``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pyquant import _C
from pyquant.torch_ops.integer import Dyadic, bit_length

from .fqvit import FQVit
from .ibert import IBert
from .index import Index
from .ivit import IVit
from .method import INT32_MAX, SoftmaxMethod
from .octaves import Octaves
from .shifts import Iptq, QFlash, Sole

__all__ = ["SoftmaxConstants", "check_method", "normalizer", "softmax_constants", "softmax_weights"]

_FAR = 1 << 20  # at this distance every exponential is what it stays at
_ENTRIES_MAX = 8192

# How a method's parameters (in the order of its registry) make it.
_MAKERS: dict[str, Callable[..., SoftmaxMethod]] = {
    "ibert": lambda bits, n, fraction, _: IBert(int(bits), int(n), int(fraction)),
    "ivit": lambda bits, n, step, _: IVit(int(bits), int(n), step),
    "fqvit": lambda bits, n, fraction, _: FQVit(int(bits), int(n), int(fraction)),
    "iptq": lambda bits, fraction, *_: Iptq(int(bits), int(fraction)),
    "qflash": lambda bits, fraction, *_: QFlash(int(bits), int(fraction)),
    "index": lambda bits, clip, *_: Index(int(bits), clip),
    "sole": lambda fraction, *_: Sole(int(fraction)),
}


class SoftmaxConstants(NamedTuple):
    """``u = min((Delta * multiplier + 2^(shift-1)) >> shift, end)``, then ``exponentials[u]``."""

    delta_max: int
    multiplier: int
    shift: int
    method: SoftmaxMethod
    exponentials: tuple[int, ...]


def check_method(op: str, text: str) -> None:
    """RuntimeError unless `text` is a softmax method."""
    try:
        _C.method_parse("softmax", text)
    except ValueError as error:
        raise RuntimeError(f"{op}: {error}") from None


@lru_cache(maxsize=256)
def softmax_constants(
    op: str, text: str, unit: float, distance: int, keys: int, vmax: int
) -> SoftmaxConstants:
    """Derive the constants.

    Parameters
    ----------
    op : str
        Begins the messages.
    text : str
        The method.
    unit : float
        What one unit of the score is worth in the exponent of e.
    distance : int
        A bound on the distance of two scores.
    keys, vmax : int
        Most scores of a row; most that a weight is multiplied by.
    """
    canonical, _, parameters = _C.method_parse("softmax", text)
    name = canonical.partition("(")[0]
    if name in _MAKERS:
        method = _MAKERS[name](*parameters)
        exponentials = _exponentials(op, method)
        most = max(exponentials)
        if most * keys > method.sum_limit:
            raise RuntimeError(
                f"{op}: expected at most {method.sum_limit // most} keys with exponentials up to {most}, "
                f"got {keys}"
            )
        if method.weights_most(keys) > INT32_MAX // vmax:
            raise RuntimeError(
                f"{op}: expected at most {INT32_MAX // (vmax * method.pmax)} keys with method {name}, "
                f"got {keys}"
            )
        step = unit * method.per_nat
    else:
        method = Octaves(op, name, keys, vmax)
        exponentials = tuple(method.exponentials(torch.arange(481)).tolist())
        step = unit * 1.4426950408889634074 * 32.0  # in the order of derive.h
    slope = _index_multiplier(op, step, len(exponentials) - 1, distance)
    return SoftmaxConstants(*slope, method, exponentials)


def softmax_weights(score: Tensor, kept: Tensor | None, constants: SoftmaxConstants) -> tuple[Tensor, Tensor]:
    """P of integer scores [.., keys] (int64), and L [.., 1]; where `kept` is False a key weighs nothing."""
    candidates = score if kept is None else torch.where(kept, score, torch.iinfo(torch.int64).min)
    row_max = candidates.amax(dim=-1, keepdim=True)
    # an excluded key may lie above the maximum, and a row without keys has none: both get no weight
    delta = torch.where(score < row_max, row_max - score, 0).clamp(max=constants.delta_max)
    index = (delta * constants.multiplier + (1 << (constants.shift - 1))) >> constants.shift
    table = torch.tensor(constants.exponentials, device=score.device)
    e = table[index.clamp(max=len(constants.exponentials) - 1)]
    if kept is not None:
        e = torch.where(kept, e, 0)
    total = e.sum(dim=-1, keepdim=True)
    whole = total.clamp(min=1)
    divisor = torch.where(total > 0, constants.method.divisor(whole), 1)
    return constants.method.weights(e, whole), divisor


def normalizer(requant: Dyadic, divisor: Tensor) -> tuple[Tensor, Tensor]:
    """(multiplier, shift) of ``requant / L``, to 31 bits."""
    t = torch.div(requant.multiplier << 32, divisor, rounding_mode="floor")
    bits = bit_length(t)
    return torch.bitwise_right_shift(t, bits - 31), requant.shift + 63 - bits


def _exponentials(op: str, method: SoftmaxMethod) -> tuple[int, ...]:
    """The table up to where it no longer changes."""
    values = method.exponentials(torch.arange(_ENTRIES_MAX))
    last = method.exponentials(torch.tensor([_FAR]))
    ends = (values == last).nonzero()
    if len(ends) == 0:
        raise RuntimeError(f"{op}: expected a softmax method of at most {_ENTRIES_MAX} exponentials")
    return tuple(values[: int(ends[0]) + 1].tolist())


def _index_multiplier(op: str, real: float, end: int, largest: int) -> tuple[int, int, int]:
    """(delta_max, m, s) with the largest s in [1, 31] for which everything fits in 32 bits."""
    for shift in range(31, 0, -1):
        scaled = real * 2.0**shift
        if not scaled < 2.0**33:
            continue
        multiplier = round(scaled)
        if multiplier == 0 and shift == 31:
            return 0, 0, 31
        if not 1 <= multiplier < 1 << 32:
            continue
        delta_max = min(-((-end << shift) // multiplier), largest)
        if delta_max * multiplier + (1 << (shift - 1)) < 1 << 32:
            return delta_max, multiplier, shift
    raise RuntimeError(
        f"{op}: expected the scale of the scores (x_scale, or q_scale * k_scale * scale) below 2^31 steps of "
        f"the softmax method, got {real!r}"
    )
