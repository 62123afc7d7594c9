"""The integer kernels on NumPy arrays.

All functions check everything, raise one clear error for a bad argument, release the GIL, and answer
Ctrl-C. Results do not depend on `threads` or on the instruction set.

Arguments that come back everywhere:

threads : int, optional
    Threads to use; None is ``OMP_NUM_THREADS``, else the processors of this process.
out : ndarray, optional
    Where the result goes: C-contiguous, of the result's shape and dtype. It may not overlap an operand,
    except that element-wise functions may write over an operand exactly.
zero_point, quant_min, quant_max : int
    The output's map: the rounded value plus `zero_point`, clamped. The limits default to all of `dtype`.
dtype : {"int8", "int16"}
    Of the output.
multiplier, shift : int
    The factor ``multiplier / 2**shift``; see `pyquant.numerics.derive_dyadic`.

The exact integer definitions are in the C headers named by each function; where the constants come from
is in `pyquant.numerics`.

Raises, all functions: TypeError for a dtype or kind of argument, ValueError for a shape, range, layout
or overlap, OverflowError where a constant or a size does not fit, MemoryError, KeyboardInterrupt.
"""

from __future__ import annotations

from pyquant.ops.attend import AttentionTrace, attention, attention_online64, attention_trace
from pyquant.ops.boundary import Histogram, dequantize, minmax, quantize
from pyquant.ops.elementwise import add, layernorm, mean, requantize, softmax, table
from pyquant.ops.fake import fake_quantize, fake_quantize_backward, fake_quantize_learned_backward
from pyquant.ops.layout import concat, copy, gather
from pyquant.ops.levels import levels
from pyquant.ops.linear import (
    PackedWeights,
    gemm,
    gemm_s8s4,
    pack_gemm,
    pack_gemm_s8s4,
    pack_s4,
    unpack_s4,
)

__all__ = [
    "AttentionTrace",
    "Histogram",
    "PackedWeights",
    "add",
    "attention",
    "attention_online64",
    "attention_trace",
    "concat",
    "copy",
    "dequantize",
    "fake_quantize",
    "fake_quantize_backward",
    "fake_quantize_learned_backward",
    "gather",
    "gemm",
    "gemm_s8s4",
    "layernorm",
    "levels",
    "mean",
    "minmax",
    "pack_gemm",
    "pack_gemm_s8s4",
    "pack_s4",
    "quantize",
    "requantize",
    "softmax",
    "table",
    "unpack_s4",
]
