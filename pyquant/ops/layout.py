"""Moving elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from pyquant import _C
from pyquant.ops.common import check_axis, dense

__all__ = ["concat", "copy", "gather"]


def copy(
    x: ArrayLike,
    shape: Sequence[int],
    strides: Sequence[int],
    offset: int = 0,
    *,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """``y[i0, i1, ..] = x.flat[offset + i0 * strides[0] + i1 * strides[1] + ..]`` (layout.h).

    Any transpose, slice, flip, expansion or cut into patches, as a new array.

    Parameters
    ----------
    x : any integer type, any shape
    shape, strides : up to 8 ints each
        Strides in elements; negative and zero are allowed.

    Examples
    --------
    >>> import numpy as np
    >>> copy(np.arange(6, dtype=np.int8), (3, 2), (1, 3)).tolist()
    [[0, 3], [1, 4], [2, 5]]
    """
    return _C.copy(dense(x), shape, strides, offset, out, threads)


def concat(arrays: Sequence[ArrayLike], axis: int = 0, *, threads: int | None = None) -> NDArray[Any]:
    """Join up to 8 arrays of one integer type along an axis (layout.h).

    Examples
    --------
    >>> import numpy as np
    >>> concat([np.array([[1], [2]], np.int8), np.array([[3], [4]], np.int8)], axis=1).tolist()
    [[1, 3], [2, 4]]
    """
    parts = [dense(array) for array in arrays]
    if not parts or parts[0].ndim == 0:
        raise ValueError("concat: expected at least 1 array of at least 1 axis")
    at = check_axis("concat", axis, parts[0].ndim)
    before, after = parts[0].shape[:at], parts[0].shape[at + 1 :]
    for part in parts:
        if part.ndim != parts[0].ndim or (part.shape[:at], part.shape[at + 1 :]) != (before, after):
            raise ValueError(
                f"concat: expected arrays that agree on every axis but {at}, "
                f"got shapes {parts[0].shape} and {part.shape}"
            )
    outer, inner = math.prod(before), math.prod(after)
    y = _C.concat([part.reshape(outer, part.shape[at] * inner) for part in parts], outer, None, threads)
    return y.reshape(*before, sum(part.shape[at] for part in parts), *after)


def gather(table: ArrayLike, index: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
    """``table[index]`` along the first axis (layout.h).

    Parameters
    ----------
    table : any integer type [rows, ...]
    index : int32, any shape

    Raises
    ------
    IndexError
        An index is outside [0, rows); negative ones do not count from the end.
    """
    rows, where = dense(table), dense(index)
    if rows.ndim < 1:
        raise ValueError("gather: expected table of at least 1 axis, got 0")
    inner = rows.shape[1:]
    y = _C.gather(rows.reshape(rows.shape[0], math.prod(inner)), where.reshape(-1), None, threads)
    return y.reshape(*where.shape, *inner)
