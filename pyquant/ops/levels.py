"""Floats onto a codebook of unequal steps."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyquant import _C
from pyquant.ops.common import dense

__all__ = ["levels"]


@overload
def levels(
    x: ArrayLike,
    scale: ArrayLike,
    levels: ArrayLike,
    thresholds: ArrayLike,
    *,
    axis: int | None = None,
    codes: Literal[False] = False,
    threads: int | None = None,
) -> NDArray[np.float32]: ...
@overload
def levels(
    x: ArrayLike,
    scale: ArrayLike,
    levels: ArrayLike,
    thresholds: ArrayLike,
    *,
    axis: int | None = None,
    codes: Literal[True],
    threads: int | None = None,
) -> NDArray[np.uint8]: ...
def levels(
    x: ArrayLike,
    scale: ArrayLike,
    levels: ArrayLike,
    thresholds: ArrayLike,
    *,
    axis: int | None = None,
    codes: bool = False,
    threads: int | None = None,
) -> NDArray[Any]:
    """``levels[code] * scale``, the code being the number of thresholds ``<= x / scale`` (levels.h).

    Parameters
    ----------
    x : float32, any shape
        Infinities saturate; NaN is a ValueError that names the index.
    scale : float, or float32 [channels] with `axis`
        In ``[2**-100, 2**100]``.
    levels : float32 [m]
        Strictly ascending, 1 to 256 of them.
    thresholds : float32 [m - 1]
        Strictly ascending; a value on a threshold belongs above it.
    codes : bool
        Give uint8 codes instead of values.

    Returns
    -------
    ndarray
        float32 or uint8, of the shape of `x`.

    Examples
    --------
    >>> levels(np.array([0.1, 0.4, 3.0], np.float32), 1.0, [0.25, 0.5, 1.0], [0.375, 0.75]).tolist()
    [0.25, 0.5, 1.0]
    """
    scales, table, limits = (
        np.ascontiguousarray(part, np.float32).reshape(-1) for part in (scale, levels, thresholds)
    )
    return _C.levels(dense(x), scales, table, limits, axis=axis, codes=codes, threads=threads)
