"""From scales, zero points and float weights to the integer constants of an op.

One C routine makes each of them, in float64; calibration, training, simulation and conversion all call
it, hence agree. The fields of a result have the names of the arguments of `pyquant.ops`, so that
``ops.add(a, b, **derive_add(...).keywords())`` works.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyquant import _C
from pyquant.methods import canonical, methods
from pyquant.qparams import QParams

__all__ = [
    "NORM_METHODS",
    "UNARY_NAMES",
    "AddConstants",
    "AttentionConstants",
    "Dyadic",
    "GemmConstants",
    "GemmS8S4Constants",
    "Grid",
    "GroupScale",
    "LayerNormConstants",
    "MaskConstants",
    "SoftmaxConstants",
    "UnaryConstants",
    "derive_add",
    "derive_attention",
    "derive_dyadic",
    "derive_gemm",
    "derive_gemm_s8s4",
    "derive_group_scale",
    "derive_layernorm",
    "derive_mask",
    "derive_softmax",
    "derive_table",
    "derive_table_values",
    "derive_unary",
    "derive_weight_scale",
    "unary_functions",
    "unary_value",
]

Grid: TypeAlias = QParams | tuple[float, int, int, int]
"""``(scale, zero_point, quant_min, quant_max)``, as a value or a plain tuple."""

NORM_METHODS: dict[str, int] = {name: code for code, name in enumerate(methods("norm"))}
"""Integer methods of LayerNorm and RMSNorm and their codes in a program."""

UNARY_NAMES: tuple[str, ...] = _C.unary_names()
"""Functions that `derive_table` knows."""


class _Constants:
    """Results whose fields are arguments of an op."""

    def keywords(self) -> dict[str, Any]:
        """The fields by name, for ``**``."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Dyadic(_Constants):
    """``multiplier / 2**shift``, multiplier in [2^30, 2^31), shift in [1, 62]."""

    multiplier: int
    shift: int


@dataclass(frozen=True)
class UnaryConstants:
    """A published approximation on two grids (``csrc/include/pyquant/unary.h``).

    Attributes
    ----------
    curve : str
        ``ibert_erf``, ``ibert_exp``, ``ivit_exp``, ``poly`` or ``nnlut``.
    shape : str
        What is made of the curve: itself (``curve``), its ``gate``, the ``product`` of x and the gate, or
        ``odd``, 2 gate - 1.
    values : dict
        The curve's integers by name.
    multiplier, shift : int
        Requantization of the result.
    """

    curve: str
    shape: str
    values: dict[str, int | list[int]]
    multiplier: int
    shift: int


@dataclass(frozen=True, eq=False)
class GemmConstants(_Constants):
    """w int8 [n, k], bias int32 [n], multiplier int32 [n], shift uint8 [n]."""

    w: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class GroupScale(_Constants):
    """w_scale float32 [n], group_multiplier uint8 [n, groups]: a group's weights lie their product apart."""

    w_scale: NDArray[np.float32]
    group_multiplier: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class GemmS8S4Constants(_Constants):
    """As `GemmConstants`, w uint8 [n, ceil(k / 2)] of two weights a byte (`pyquant.ops.unpack_s4`), and
    group_multiplier uint8 [n, ceil(k / group_size)], None where group_size is 0."""

    w: NDArray[np.uint8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.uint8]
    group_size: int
    group_multiplier: NDArray[np.uint8] | None


@dataclass(frozen=True, eq=False)
class SoftmaxConstants(_Constants):
    """Of a softmax and of the output's requantization.

    table is int16 [32] for the methods table16 and table8, and int32 [n] for others: the exponentials of each
    distance from the row's maximum. method is the name, without parameters.
    """

    table: NDArray[Any]
    method: str
    delta_max: int
    softmax_multiplier: int
    softmax_shift: int
    pmax: int
    softmax_bits: int
    multiplier: int
    shift: int


class AttentionConstants(SoftmaxConstants):
    """Of the softmax sub-site, and of the requantization of the values."""


@dataclass(frozen=True, eq=False)
class MaskConstants:
    """An additive float mask as integers; each part is None where no element needs it.

    keep uint8 (0 excludes the key) and mask_add int32, of the mask's shape.
    """

    keep: NDArray[np.uint8] | None
    mask_add: NDArray[np.int32] | None


@dataclass(frozen=True, eq=False)
class LayerNormConstants(_Constants):
    """epsilon in squared units of C * x, gain int32 [C], offset int64 [C], shift; the rest by method.

    method is a name in `NORM_METHODS`; iterations are ivit's; alpha and exponent uint8 [C], and ptf_*, are
    ptf's (layernorm.h).
    """

    epsilon: int
    gain: NDArray[np.int32]
    offset: NDArray[np.int64]
    shift: int
    method: str = "exact"
    iterations: int = 0
    alpha: NDArray[np.uint8] | None = None
    exponent: NDArray[np.uint8] | None = None
    ptf_multiplier: int = 0
    ptf_shift: int = 0
    ptf_zero_point: int = 0


@dataclass(frozen=True)
class AddConstants(_Constants):
    """Multipliers of both operands on one shift."""

    a_multiplier: int
    b_multiplier: int
    shift: int


def _float32(name: str, value: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"expected {name} of real numbers, got dtype {array.dtype}")
    return np.ascontiguousarray(array, np.float32).reshape(array.shape)


def _optional_float32(name: str, value: ArrayLike | None) -> NDArray[np.float32] | None:
    return None if value is None else _float32(name, value)


def _grid(grid: Grid) -> tuple[float, int, int, int]:
    return tuple(grid)  # type: ignore[return-value]  # checked in C


def derive_dyadic(real: float) -> Dyadic:
    """Encode a positive real as ``multiplier / 2**shift`` with 31 significant bits.

    Raises
    ------
    ValueError
        `real` is not positive and finite.
    OverflowError
        `real` is 2^30 or more.

    Examples
    --------
    >>> derive_dyadic(0.75)
    Dyadic(multiplier=1610612736, shift=31)
    """
    return Dyadic(*_C.derive_dyadic(real))


def derive_weight_scale(
    w: ArrayLike, bias: ArrayLike | None, x_scale: float, bits: int = 8
) -> NDArray[np.float32]:
    """Scale of each output channel: ``max(absmax / quant_max, |bias| / (x_scale * 2^30))``, 1 if both are 0.

    Parameters
    ----------
    w : array_like of float32 [n, k]
    bias : array_like of float32 [n], optional
    x_scale : float
        Scale of the activations.
    bits : int
        Width of the weights, 2 to 8.

    Returns
    -------
    ndarray of float32 [n]

    Raises
    ------
    ValueError
        A weight or a bias is NaN, a scale or `bits` is out of range, or shapes disagree.
    """
    return _C.derive_weight_scale(_float32("w", w), _optional_float32("bias", bias), x_scale, bits)


def derive_gemm(
    w: ArrayLike,
    bias: ArrayLike | None,
    w_scale: ArrayLike,
    x_scale: float,
    y_scale: float,
    bits: int = 8,
) -> GemmConstants:
    """Integer weights, biases and requantization of a linear layer.

    Parameters
    ----------
    w : array_like of float32 [n, k]
    bias : array_like of float32 [n], optional
    w_scale : array_like of float32 [n]
        As `derive_weight_scale` gives.
    x_scale, y_scale : float
        Scales of the activations and of the output.
    bits : int
        Width of the weights, 2 to 8.

    Raises
    ------
    ValueError
        NaN, a scale or `bits` out of range, or shapes that disagree.
    OverflowError
        A bias or an accumulator does not fit in int32, or a multiplier is too large.
    """
    return GemmConstants(
        *_C.derive_gemm(
            _float32("w", w),
            _optional_float32("bias", bias),
            _float32("w_scale", w_scale),
            x_scale,
            y_scale,
            bits,
        )
    )


def derive_group_scale(
    w: ArrayLike,
    bias: ArrayLike | None,
    x_scale: float,
    group_size: int,
    bits: int = 4,
    wanted: ArrayLike | None = None,
) -> GroupScale:
    """One scale a column, and a small integer multiplier for each of its groups of weights.

    A group's own scale, ``absmax / quant_max`` or `wanted`, becomes a multiple in [1, 255] of its column's,
    which is chosen so that the widest group has the largest multiplier. Products and bias together fit int32.

    Parameters
    ----------
    w : array_like of float32 [n, k]
    bias : array_like of float32 [n], optional
    x_scale : float
        Scale of the activations.
    group_size : int
        A multiple of 4; the last group may be short.
    bits : int
        Width of the weights, 2 to 4.
    wanted : array_like of float32 [n, ceil(k / group_size)], optional
        Scales of the groups.

    Raises
    ------
    ValueError
        NaN, a scale, `bits` or `group_size` out of range, or shapes that disagree.

    Examples
    --------
    >>> scale = derive_group_scale([[1785.0, 0, 0, 0, -7.0, 0, 0, 0]], None, 0.5, 4)
    >>> scale.w_scale.tolist(), scale.group_multiplier.tolist()
    ([1.0], [[255, 1]])
    """
    return GroupScale(
        *_C.derive_group_scale(
            _float32("w", w),
            _optional_float32("bias", bias),
            x_scale,
            group_size,
            bits,
            _optional_float32("wanted", wanted),
        )
    )


def derive_gemm_s8s4(
    w: ArrayLike,
    bias: ArrayLike | None,
    scale: ArrayLike | GroupScale,
    x_scale: float,
    y_scale: float,
    bits: int = 4,
    group_size: int = 0,
) -> GemmS8S4Constants:
    """`derive_gemm` for weights of at most four bits, stored two to a byte.

    Parameters
    ----------
    w : array_like of float32 [n, k]
    bias : array_like of float32 [n], optional
    scale : array_like of float32 [n], or GroupScale
        As `derive_weight_scale` gives, or `derive_group_scale` for groups of `group_size`.
    x_scale, y_scale : float
        Scales of the activations and of the output.
    bits : int
        Width of the weights, 2 to 4.
    group_size : int
        0 for one scale a column.

    Raises
    ------
    ValueError
        NaN, a scale, `bits` or `group_size` out of range, or shapes that disagree.
    OverflowError
        A bias or an accumulator does not fit in int32, or a multiplier is too large.
    """
    factors = scale.group_multiplier if isinstance(scale, GroupScale) else None
    constants = _C.derive_gemm_s8s4(
        _float32("w", w),
        _optional_float32("bias", bias),
        scale.w_scale if isinstance(scale, GroupScale) else _float32("scale", scale),
        x_scale,
        y_scale,
        bits,
        group_size,
        factors,
    )
    return GemmS8S4Constants(*constants, group_size, factors)


def softmax_method_code(method: str) -> int:
    """The number of a softmax method in a program, by its name; ValueError for an unknown name."""
    return list(methods("softmax")).index(_name(canonical("softmax", method)))


def _name(method: str) -> str:
    return method.partition("(")[0]


def derive_attention(
    method: str,
    q: Grid,
    k: Grid,
    v: Grid,
    y: Grid,
    softmax_scale: float,
    head_dim: int,
    keys: int,
    has_mask: bool = False,
) -> AttentionConstants:
    """Constants of an integer attention.

    Parameters
    ----------
    method : str
        Integer softmax, as `pyquant.methods` lists them: ``"table16"``, ``"ibert(bits=8)"``.
    q, k, v, y : QParams or (scale, zero_point, quant_min, quant_max)
    softmax_scale : float
        Factor of the scores, usually ``head_dim ** -0.5``.
    head_dim, keys : int
        Elements of a head; the most keys a query will ever see.
    has_mask : bool
        Whether an additive mask widens the scores.

    Raises
    ------
    ValueError
        An argument is out of range.
    OverflowError
        No integer constants exist for scales this large, or for so many keys.
    """
    table, *numbers = _C.derive_attention(
        method,
        _grid(q),
        _grid(k),
        _grid(v),
        _grid(y),
        softmax_scale,
        head_dim,
        keys,
        has_mask,
    )
    return AttentionConstants(table, _name(canonical("softmax", method)), *numbers)


def derive_softmax(method: str, x: Grid, y: Grid, n: int) -> SoftmaxConstants:
    """Constants of an integer softmax over rows.

    Parameters
    ----------
    method : str
        Integer softmax, as `pyquant.methods` lists them: ``"table16"``, ``"ibert(bits=8)"``.
    x, y : QParams or (scale, zero_point, quant_min, quant_max)
        int8 or int16 each.
    n : int
        The most elements a row will ever have.

    Raises
    ------
    ValueError
        An argument is out of range.
    OverflowError
        No integer constants exist for scales this large, or for rows this long.
    """
    table, *numbers = _C.derive_softmax(method, _grid(x), _grid(y), n)
    return SoftmaxConstants(table, _name(canonical("softmax", method)), *numbers)


def derive_mask(mask: ArrayLike, q_scale: float, k_scale: float, softmax_scale: float) -> MaskConstants:
    """Split an additive float mask into exclusions (at or below -1e30) and integers in units of a score.

    Raises
    ------
    ValueError
        The mask holds NaN, or a scale is out of range.
    """
    add, keep, any_add, any_excluded = _C.derive_mask(_float32("mask", mask), q_scale, k_scale, softmax_scale)
    return MaskConstants(keep if any_excluded else None, add if any_add else None)


def derive_layernorm(
    channels: int,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    epsilon: float,
    x_scale: float,
    y_scale: float,
    method: str = "exact",
    x_range: ArrayLike | None = None,
) -> LayerNormConstants:
    """Constants of an integer LayerNorm or RMSNorm over `channels` elements.

    Parameters
    ----------
    gamma, beta : array_like of float32 [channels], optional
        Ones and zeros if None.
    epsilon : float
        In real units, as the float layer has it. Only ``exact`` has one.
    method : str
        One of ``pyquant.methods.methods("norm")``, with its parameters.
    x_range : array_like of float32 [2, channels], optional
        The least and the greatest value of each channel, in real units, for ``ptf``.

    Raises
    ------
    ValueError
        NaN, a number out of range, shapes that disagree, no such method, or ``ptf`` without ranges.
    OverflowError
        epsilon, gamma or beta is too large for the scales.
    """
    epsilon_q, gain, offset, shift, code, iterations, alpha, exponent, *ptf = _C.derive_norm(
        method,
        channels,
        _optional_float32("gamma", gamma),
        _optional_float32("beta", beta),
        epsilon,
        x_scale,
        y_scale,
        _optional_float32("x_range", x_range),
    )
    name = list(NORM_METHODS)[code]
    return LayerNormConstants(epsilon_q, gain, offset, shift, name, iterations, alpha, exponent, *ptf)


def derive_add(a_scale: float, b_scale: float, y_scale: float) -> AddConstants:
    """Constants of a residual add: ``a_scale / y_scale`` and ``b_scale / y_scale`` on one shift."""
    return AddConstants(*_C.derive_add(a_scale, b_scale, y_scale))


def derive_table(function: str, x: Grid, y: Grid, method: str = "table") -> NDArray[np.int8]:
    """Tabulate a named function over the int8 grid `x`, exactly or by a published approximation.

    Parameters
    ----------
    function : str
        One of `UNARY_NAMES`; a method other than ``table`` and ``nnlut`` has only some (`unary_functions`).
    x, y : QParams or (scale, zero_point, quant_min, quant_max)
        Grids of the operand and of the result, inside int8.
    method : str
        A method of ``pyquant.methods.methods("unary")``, for example ``"ibert"`` or ``"ivit(bits=16)"``.

    Returns
    -------
    ndarray of int8 [256]
        Entry ``q + 128`` is the result for the stored integer q.

    Raises
    ------
    ValueError
        A name is unknown, the method does not have the function, or a grid is not valid for int8.

    References
    ----------
    docs/numerics/unary_methods.md derives each method.
    """
    return _C.derive_table(function, _grid(x), _grid(y), method)


def derive_unary(function: str, x: Grid, y: Grid, method: str) -> UnaryConstants:
    """The integers by which a method computes a function, from which `derive_table` makes its table.

    Parameters and errors are those of `derive_table`; ``table`` has no such integers.
    """
    return UnaryConstants(*_C.derive_unary(function, _grid(x), _grid(y), method))


@lru_cache(maxsize=1024)
def unary_functions(method: str) -> tuple[str, ...]:
    """Names of the functions that a method has, in the order of `UNARY_NAMES`.

    Raises
    ------
    ValueError
        `method` names no method of element-wise functions.
    """
    return _C.unary_names(method)


def derive_table_values(values: ArrayLike, y: Grid) -> NDArray[np.int8]:
    """The same from 256 real values f((q - zero_point) * scale), q = -128..127, of any function."""
    array = np.ascontiguousarray(values, np.float64)
    return _C.derive_table_values(array, _grid(y))


def unary_value(function: str, x: float) -> float:
    """A named function at `x`, in float64."""
    return _C.unary_value(function, x)
