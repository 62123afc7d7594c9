"""GEMM: s8 activations times s8 weights, exact in int32, requantized per output column.

Explained in docs/numerics/gemm.md; contract: csrc/include/pyquant/gemm.h.
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
