"""Operands that workloads share, and the definition that pyquant's integers are checked against."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyquant import _C, numerics, ops

__all__ = ["Linear", "definition", "linear"]


@contextmanager
def definition() -> Iterator[None]:
    """Inside, `pyquant.ops` runs the reference kernels, which are the definition of the results."""
    active = _C.isa_active()
    _C.isa_limit("ref")
    try:
        yield
    finally:
        _C.isa_limit(active)


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear layer on grids: float operands, the same as integers, and pyquant's constants.

    x float32 [m, k], x_q int8 of it; w float32 [n, k], w_scale float32 [n] on which int8 peers store it, bias
    float32 [n]; y float32 [m, n], the real result of the operands as they lie on their grids.
    """

    x: NDArray[np.float32]
    x_q: NDArray[np.int8]
    w: NDArray[np.float32]
    w_scale: NDArray[np.float32]
    bias: NDArray[np.float32]
    y: NDArray[np.float32]
    x_scale: float
    x_zero_point: int
    y_scale: float
    y_zero_point: int
    constants: numerics.GemmConstants | numerics.GemmS8S4Constants

    def pack(self) -> ops.PackedWeights:
        """The layer as `pyquant.ops.gemm` takes it."""
        grids = {"x_zero_point": self.x_zero_point, "zero_point": self.y_zero_point}
        if isinstance(self.constants, numerics.GemmConstants):
            return ops.pack_gemm(**self.constants.keywords(), **grids)
        return ops.pack_gemm_s8s4(k=self.x.shape[1], **self.constants.keywords(), **grids)

    def real(self, y_q: NDArray[Any], zero_point: int) -> NDArray[np.float32]:
        """Stored outputs as real numbers."""
        return ((y_q.astype(np.float32) - zero_point) * self.y_scale).astype(np.float32)


X_SCALE, X_ZERO_POINT, Y_ZERO_POINT = 4 / 127, 3, -5


def linear(m: int, n: int, k: int, bits: int = 8, group: int = 0, flat: bool = False) -> Linear:
    """Normal operands: activations clamped at 4 standard deviations, weights at their channel's maximum.

    `flat` weights are as often large as small, as those of no trained layer: the worst case of kernels that
    profit from small ones. Weights of 4 bits have a scale a channel, or a small multiplier of it for each
    `group` of them.
    """
    rng = np.random.default_rng(0)
    x_q = np.clip(np.rint(rng.standard_normal((m, k)) / X_SCALE) + X_ZERO_POINT, -128, 127).astype(np.int8)
    x = ((x_q.astype(np.float32) - X_ZERO_POINT) * np.float32(X_SCALE)).astype(np.float32)
    drawn = rng.uniform(-math.sqrt(3), math.sqrt(3), (n, k)) if flat else rng.standard_normal((n, k))
    w = (drawn / np.sqrt(k)).astype(np.float32)
    bias = (rng.standard_normal(n) / 10).astype(np.float32)
    y_scale = float(np.float32(np.abs(x @ w.T + bias).max() / 120))
    constants: numerics.GemmConstants | numerics.GemmS8S4Constants
    if bits == 8:
        w_scale = numerics.derive_weight_scale(w, bias, X_SCALE)
        constants = numerics.derive_gemm(w, bias, w_scale, X_SCALE, y_scale)
        on_grid = constants.w * w_scale[:, None]
    else:
        if group:
            scale = numerics.derive_group_scale(w, bias, X_SCALE, group)
            factors = scale.group_multiplier.repeat(group, 1)[:, :k] * scale.w_scale[:, None]
        else:
            scale = numerics.derive_weight_scale(w, bias, X_SCALE, bits)
            factors = scale[:, None]
        constants = numerics.derive_gemm_s8s4(w, bias, scale, X_SCALE, y_scale, bits, group)
        on_grid = ops.unpack_s4(constants.w, k) * factors
        w_scale = (np.abs(on_grid).max(1) / 127).astype(np.float32)
    on_grid = on_grid.astype(np.float32)
    y = (x @ on_grid.T + bias).astype(np.float32)
    return Linear(x, x_q, on_grid, w_scale, bias, y, X_SCALE, X_ZERO_POINT, y_scale, Y_ZERO_POINT, constants)
