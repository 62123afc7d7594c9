"""Integers of a site's operands and results as arrays, for what asks the kernels themselves.

Candidates of one site (`Site.outcomes`) share their operands: recovering these from float edges once, and
leaving results in integers, saves what takes as long as many a kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyquant import ops
from pyquant.qparams import QParams

__all__ = ["integers_of", "on_cpu", "threads"]


def threads() -> int:
    """As many as torch's own ops use."""
    return torch.get_num_threads()


def on_cpu(*values: Any) -> bool:
    """Whether all tensors among the values are in host memory."""
    return all(value.device.type == "cpu" for value in values if isinstance(value, Tensor))


def integers_of(x: Tensor, grid: QParams) -> NDArray[Any]:
    """The integers of an edge, in its shape; memory stays in the order in which the edge lies.

    Raises
    ------
    ValueError
        `x` holds NaN.
    """
    strides = x.stride()
    order = sorted(range(x.dim()), key=lambda axis: -strides[axis])
    lying = x.detach().to(torch.float32).permute(order).numpy()
    q = ops.quantize(lying, *grid, dtype=grid.dtype, threads=threads())
    found: NDArray[Any] = q.transpose(np.argsort(order).tolist())
    return found
