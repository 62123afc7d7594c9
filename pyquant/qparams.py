"""The map between floats and integers of one tensor, and how to choose it from a range."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["SCALE_MAX", "SCALE_MIN", "QParams", "qparams_from_range"]

SCALE_MIN = 2.0**-100
SCALE_MAX = 2.0**100


@dataclass(frozen=True)
class QParams:
    """``q = clamp(rne(x / scale) + zero_point, quant_min, quant_max)``, ``x ~ (q - zero_point) * scale``.

    Iterates as ``(scale, zero_point, quant_min, quant_max)``.

    Parameters
    ----------
    scale : float
        Real size of one step, in [2^-100, 2^100]. Kept as the nearest float32: it is what the integer
        constants are derived from, everywhere.
    zero_point : int
        The integer that stands for 0.0, in [quant_min, quant_max].
    quant_min, quant_max : int
        The integers in use, inside int16.

    Raises
    ------
    TypeError
        A field is not a number of its kind.
    ValueError
        A field is out of range; the message names it.

    Examples
    --------
    >>> QParams(0.5, 0, -128, 127).dtype
    'int8'
    """

    scale: float
    zero_point: int
    quant_min: int
    quant_max: int

    def __post_init__(self) -> None:
        for name in ("zero_point", "quant_min", "quant_max"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"expected {name} to be an int, got {value!r}")
            object.__setattr__(self, name, int(value))
        if not isinstance(self.scale, (int, float, np.floating)) or isinstance(self.scale, bool):
            raise TypeError(f"expected scale to be a float, got {self.scale!r}")
        if not SCALE_MIN <= float(self.scale) <= SCALE_MAX:
            raise ValueError(f"expected 2^-100 <= scale <= 2^100, got {self.scale!r}")
        if not -32768 <= self.quant_min < self.quant_max <= 32767:
            raise ValueError(
                "expected -32768 <= quant_min < quant_max <= 32767, "
                f"got quant_min = {self.quant_min}, quant_max = {self.quant_max}"
            )
        if not self.quant_min <= self.zero_point <= self.quant_max:
            raise ValueError(
                f"expected {self.quant_min} <= zero_point <= {self.quant_max}, got {self.zero_point}"
            )
        object.__setattr__(self, "scale", float(np.float32(self.scale)))

    def __iter__(self) -> Iterator[float | int]:
        return iter((self.scale, self.zero_point, self.quant_min, self.quant_max))

    @property
    def dtype(self) -> str:
        """``"int8"`` if the range fits, else ``"int16"``."""
        return "int8" if self.quant_min >= -128 and self.quant_max <= 127 else "int16"


def qparams_from_range(minimum: float, maximum: float, bits: int, symmetric: bool) -> QParams:
    """Choose the finest map that holds a range of real values and represents 0.0 exactly.

    Parameters
    ----------
    minimum, maximum : float
        The range, ``minimum <= maximum``; widened to contain 0. The empty range (0, 0) gets scale 1.
    bits : int
        Width of the integers, 2 to 16.
    symmetric : bool
        True: zero point 0 and the narrow range ``[-(2^(bits-1) - 1), 2^(bits-1) - 1]``. False: all
        ``2^bits`` integers, with the zero point that fits the range best.

    Returns
    -------
    QParams
        Its scale is clipped to [2^-100, 2^100].

    Raises
    ------
    ValueError
        The range is not finite or upside down, or `bits` is out of range.

    References
    ----------
    Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", CVPR 2018, section 2.1.

    Examples
    --------
    >>> qparams_from_range(-1.0, 3.0, 2, False)
    QParams(scale=1.3333333730697632, zero_point=-1, quant_min=-2, quant_max=1)
    >>> qparams_from_range(-1.0, 3.5, 4, True)
    QParams(scale=0.5, zero_point=0, quant_min=-7, quant_max=7)
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ValueError(f"expected 2 <= bits <= 16, got {bits!r}")
    if not (math.isfinite(minimum) and math.isfinite(maximum) and minimum <= maximum):
        raise ValueError(f"expected finite minimum <= maximum, got {minimum!r} and {maximum!r}")
    low, high = min(float(minimum), 0.0), max(float(maximum), 0.0)
    half = 2 ** (bits - 1)
    if symmetric:
        return QParams(_clip_scale(max(-low, high) / (half - 1)), 0, 1 - half, half - 1)
    # Divided apart: high - low may overflow.
    scale = _clip_scale(high / (2 * half - 1) - low / (2 * half - 1))
    zero_point = round(max(-half, min(half - 1, -half - low / scale)))
    return QParams(scale, zero_point, -half, half - 1)


def _clip_scale(scale: float) -> float:
    if scale == 0.0:
        return 1.0
    return float(np.float32(min(max(scale, SCALE_MIN), SCALE_MAX)))
