"""Published approximations in integer tensor arithmetic: one file a paper, on any device.

``csrc/include/pyquant/unary.h`` is the contract; every function here gives the bits of the C function of its
name. Operands are int64 tensors of ``v = q - zero_point``, constants the integers of `numerics.derive_unary`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyquant.numerics import UnaryConstants
from pyquant.torch_ops.grid import Grid, saturate
from pyquant.torch_ops.integer import rnu

from . import ibert, ivit, nnlut, poly
from .common import Constants, Gate

__all__ = ["apply", "table"]

_CURVES: dict[str, Callable[[Constants, Tensor], Tensor]] = {
    "ibert_exp": ibert.exp,
    "ivit_exp": ivit.exp,
    "nnlut": nnlut.line,
}
_GATES: dict[str, Callable[[Constants, Tensor], Gate]] = {
    "ibert_erf": ibert.erf_gate,
    "ibert_exp": ibert.sigmoid_gate,
    "ivit_exp": ivit.sigmoid_gate,
    "poly": poly.odd_gate,
}


def apply(constants: UnaryConstants, v: Tensor) -> Tensor:
    """The function at centred int64 values, in the unit of its requantization."""
    k = constants.values
    if constants.shape == "curve":
        return _CURVES[constants.curve](k, v)
    gate, whole = _GATES[constants.curve](k, v)
    if constants.shape == "product":
        return v * gate
    return gate if constants.shape == "gate" else 2 * gate - whole


def table(constants: UnaryConstants, x: Grid, y: Grid) -> Tensor:
    """Stored results for q = -128..127, int64 [256]."""
    v = torch.arange(-128, 128) - x.zero_point
    return saturate(rnu(apply(constants, v), constants.multiplier, constants.shift), y) + y.zero_point
