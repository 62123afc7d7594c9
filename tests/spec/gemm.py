"""GEMM: s8 activations times s8 or s4 weights, exact in int32, requantized per output column.

Explained in docs/numerics/gemm.md; contracts: csrc/include/pyquant/gemm.h and gemm_s8s4.h.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.spec.numbers import INT32_MAX, Clamp, Dyadic, fits_int32, requantize

Matrix = Sequence[Sequence[int]]


def check_accumulator(w: Matrix, bias: Sequence[int]) -> None:
    """|bias| + 255 * sum |w| <= 2^31 - 1 per column, so no accumulator can overflow (gemm.h)."""
    for column, (row, b) in enumerate(zip(w, bias, strict=True)):
        if abs(b) + 255 * sum(abs(v) for v in row) > INT32_MAX:
            raise OverflowError(f"column {column} may overflow int32")


def accumulate(x: Matrix, x_zero_point: int, w: Matrix, bias: Sequence[int]) -> list[list[int]]:
    """acc[i][j] = sum_p (x[i][p] - z_x) * w[j][p] + bias[j]; x is [m][k], w is [n][k] (gemm.h)."""
    check_accumulator(w, bias)
    return [
        [
            fits_int32(sum((a - x_zero_point) * b for a, b in zip(row, column, strict=True)) + offset)
            for column, offset in zip(w, bias, strict=True)
        ]
        for row in x
    ]


def gemm(
    x: Matrix, x_zero_point: int, w: Matrix, bias: Sequence[int], requant: Sequence[Dyadic], out: Clamp
) -> list[list[int]]:
    """y[i][j] = requantize(acc[i][j]) with the multiplier and shift of column j (gemm.h)."""
    return [
        [requantize(acc, dyadic, out) for acc, dyadic in zip(row, requant, strict=True)]
        for row in accumulate(x, x_zero_point, w, bias)
    ]


def pack_s4(row: Sequence[int]) -> list[int]:
    """Two weights in [-8, 7] to a byte, the even k in its low half; an odd k leaves a 0 (gemm_s8s4.h)."""
    assert all(-8 <= v <= 7 for v in row)
    halves = [v & 15 for v in row] + [0] * (len(row) % 2)
    return [low | high << 4 for low, high in zip(halves[::2], halves[1::2], strict=True)]


def unpack_s4(row: Sequence[int], k: int) -> list[int]:
    """The k weights that `pack_s4` packed. ValueError for the wrong length, or anything behind them."""
    if len(row) != (k + 1) // 2 or (k % 2 == 1 and row[-1] >> 4 != 0):
        raise ValueError(f"expected {k} weights in {(k + 1) // 2} bytes and nothing behind them")
    halves = [half for byte in row for half in (byte & 15, byte >> 4)]
    return [half - 16 if half > 7 else half for half in halves[:k]]


def group_of(p: int, group_size: int) -> int:
    """Which group k = p lies in; all in one without groups (gemm_s8s4.h)."""
    return p // group_size if group_size else 0


def accumulate_s8s4(
    x: Matrix, x_zero_point: int, w: Matrix, bias: Sequence[int], group_size: int, factors: Matrix | None
) -> list[list[int]]:
    """acc[i][j] = sum_g f[j][g] * (sum over p in g of (x[i][p] - z_x) * w[j][p]) + bias[j] (gemm_s8s4.h).

    w are the weights in [-8, 7], factors the group multipliers [n][groups] in [1, 255], None without groups.
    """
    if group_size % 4 != 0 or (factors is None) != (group_size == 0):
        raise ValueError("group_size is a multiple of 4 and goes with group multipliers")
    acc = []
    for row in x:
        sums = []
        for column, b in enumerate(bias):
            groups: dict[int, int] = {}
            size = 0
            for p, (a, q) in enumerate(zip(row, w[column], strict=True)):
                g = group_of(p, group_size)
                factor = factors[column][g] if factors is not None else 1
                assert 1 <= factor <= 255
                groups[g] = groups.get(g, 0) + (a - x_zero_point) * q
                size += factor * abs(q)
            if abs(b) + 255 * size > INT32_MAX:
                raise OverflowError(f"column {column} may overflow int32")
            total = sum((factors[column][g] if factors is not None else 1) * s for g, s in groups.items())
            sums.append(fits_int32(total + b))
        acc.append(sums)
    return acc


def gemm_s8s4(
    x: Matrix,
    x_zero_point: int,
    w: Matrix,
    bias: Sequence[int],
    group_size: int,
    factors: Matrix | None,
    requant: Sequence[Dyadic],
    out: Clamp,
) -> list[list[int]]:
    """y[i][j] = requantize(acc[i][j]) with the multiplier and shift of column j (gemm_s8s4.h)."""
    return [
        [requantize(acc, dyadic, out) for acc, dyadic in zip(row, requant, strict=True)]
        for row in accumulate_s8s4(x, x_zero_point, w, bias, group_size, factors)
    ]
