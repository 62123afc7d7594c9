"""Operands that workloads share, and the definition that pyquant's integers are checked against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyquant import _C, numerics

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

    x float32 [m, k], x_q int8 of it; w float32 [n, k], bias float32 [n]; y float32 [m, n], the real result
    of the operands as they lie on their grids.
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
    constants: numerics.GemmConstants

    def keywords(self) -> dict[str, Any]:
        """Arguments of `pyquant.ops.pack_gemm`."""
        grids = {"x_zero_point": self.x_zero_point, "zero_point": self.y_zero_point}
        return {**self.constants.keywords(), **grids}

    def real(self, y_q: NDArray[Any], zero_point: int) -> NDArray[np.float32]:
        """Stored outputs as real numbers."""
        return ((y_q.astype(np.float32) - zero_point) * self.y_scale).astype(np.float32)


def linear(m: int, n: int, k: int, seed: int = 0) -> Linear:
    """Normal operands: activations clamped at 4 standard deviations, weights at their channel's maximum."""
    rng = np.random.default_rng(seed)
    x_scale, x_zero_point, y_zero_point = 4 / 127, 3, -5
    x_q = np.clip(np.rint(rng.standard_normal((m, k)) / x_scale) + x_zero_point, -128, 127).astype(np.int8)
    w = (rng.standard_normal((n, k)) / np.sqrt(k)).astype(np.float32)
    bias = (rng.standard_normal(n) / 10).astype(np.float32)
    w_scale = numerics.derive_weight_scale(w, bias, x_scale)
    on_grid = np.rint(w / w_scale[:, None]) * w_scale[:, None]
    x = ((x_q.astype(np.float32) - x_zero_point) * x_scale).astype(np.float32)
    y = (x.astype(np.float32) @ on_grid.T.astype(np.float32) + bias).astype(np.float32)
    y_scale = float(np.float32(np.abs(y).max() / 122))
    constants = numerics.derive_gemm(w, bias, w_scale, x_scale, y_scale)
    return Linear(
        x,
        x_q,
        on_grid.astype(np.float32),
        w_scale,
        bias,
        y,
        x_scale,
        x_zero_point,
        y_scale,
        y_zero_point,
        constants,
    )
