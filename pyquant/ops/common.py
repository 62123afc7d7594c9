"""What the functions of all families do with their arguments."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["Integers", "check_axis", "dense", "limits"]

Integers: TypeAlias = NDArray[np.signedinteger[Any]]


def dense(value: ArrayLike) -> NDArray[Any]:
    """An array in C order, copied only where it is not; dtype and byte order stay, and are checked in C."""
    array = np.asarray(value)
    return array if array.flags.c_contiguous else array.copy(order="C")


def limits(dtype: DTypeLike, quant_min: int | None, quant_max: int | None) -> tuple[np.dtype[Any], int, int]:
    """The dtype, and the limits with their defaults."""
    kind = np.dtype(dtype)
    if kind not in (np.int8, np.int16):
        raise TypeError(f"expected dtype to be int8 or int16, got {kind}")
    info = np.iinfo(kind)
    low = int(info.min) if quant_min is None else quant_min
    high = int(info.max) if quant_max is None else quant_max
    return kind, low, high


def check_axis(op: str, axis: int, ndim: int) -> int:
    """The axis counted from the front."""
    if not -ndim <= axis < ndim:
        raise ValueError(f"{op}: expected {-ndim} <= axis < {ndim}, got {axis}")
    return axis % ndim
