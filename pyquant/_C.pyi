# ruff: noqa: N999
"""Types of the C module; what the functions promise is in csrc/include/pyquant."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_Grid = tuple[float, int, int, int]
_Array = NDArray[Any]

HISTOGRAM_BINS: int
HISTOGRAM_EMPTY: int
MASK_ADD_LIMIT: int
MAX_ATTRS: int
MAX_CONCAT: int
MAX_DIMS: int
MAX_INPUTS: int
MAX_VALUES: int
METRICS_STATE: int
SOFTMAX_TABLE_SIZE: int

class ProgramError(ValueError):
    """A program or its file is malformed; the message names the place and the rule."""

class GemmWeights:
    def __new__(
        cls,
        w: _Array,
        bias: _Array | None = None,
        multiplier: _Array | None = None,
        shift: _Array | None = None,
        x_zero_point: int = 0,
        zero_point: int = 0,
        quant_min: int = -128,
        quant_max: int = 127,
        dtype: DTypeLike = "int8",
        *,
        chains: bool = False,
    ) -> GemmWeights: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def kernel(self) -> tuple[str, str]: ...

class Program:
    def __new__(
        cls,
        values: NDArray[np.int64],
        instructions: NDArray[np.int64],
        constants: Sequence[_Array | None],
        outputs: NDArray[np.int64],
    ) -> Program: ...
    def run(
        self,
        batch: int,
        inputs: Sequence[_Array],
        outputs: Sequence[_Array] | None = None,
        threads: int | None = None,
    ) -> tuple[_Array, ...]: ...
    def trace(
        self,
        batch: int,
        inputs: Sequence[_Array],
        values: Sequence[int],
        attention: Sequence[int],
        threads: int | None = None,
    ) -> tuple[tuple[_Array, ...], tuple[_Array, ...], tuple[tuple[_Array, _Array, _Array], ...]]: ...
    def steps(self, batch: int, /) -> list[tuple[int, int, int, int, int]]: ...
    def profile(
        self, batch: int, inputs: Sequence[_Array], threads: int | None = None
    ) -> tuple[int, ...]: ...
    @property
    def arena_size(self) -> int: ...
    @property
    def context_count(self) -> int: ...

def pack_gemm_s8s4(
    w: _Array,
    k: int,
    bias: _Array | None = None,
    multiplier: _Array | None = None,
    shift: _Array | None = None,
    group_size: int = 0,
    group_multiplier: _Array | None = None,
    x_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    dtype: DTypeLike = "int8",
) -> GemmWeights: ...
def gemm(
    x: _Array, weights: GemmWeights, out: _Array | None = None, threads: int | None = None
) -> _Array: ...
def attention(
    q: _Array,
    k: _Array,
    v: _Array,
    table: _Array,
    method: int,
    delta_max: int,
    softmax_multiplier: int,
    softmax_shift: int,
    pmax: int,
    multiplier: int,
    shift: int,
    q_zero_point: int = 0,
    k_zero_point: int = 0,
    v_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    keep: _Array | None = None,
    mask_add: _Array | None = None,
    causal: bool = False,
    out: _Array | None = None,
    threads: int | None = None,
    softmax_bits: int = 0,
) -> NDArray[np.int8]: ...
def attention_online64(
    q: _Array,
    k: _Array,
    v: _Array,
    table: _Array,
    method: int,
    delta_max: int,
    softmax_multiplier: int,
    softmax_shift: int,
    pmax: int,
    multiplier: int,
    shift: int,
    q_zero_point: int = 0,
    k_zero_point: int = 0,
    v_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    keep: _Array | None = None,
    mask_add: _Array | None = None,
    causal: bool = False,
    out: _Array | None = None,
    threads: int | None = None,
    softmax_bits: int = 0,
) -> NDArray[np.int8]: ...
def attention_trace(
    q: _Array,
    k: _Array,
    v: _Array,
    table: _Array,
    method: int,
    delta_max: int,
    softmax_multiplier: int,
    softmax_shift: int,
    pmax: int,
    multiplier: int,
    shift: int,
    q_zero_point: int = 0,
    k_zero_point: int = 0,
    v_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    keep: _Array | None = None,
    mask_add: _Array | None = None,
    causal: bool = False,
    out: _Array | None = None,
    threads: int | None = None,
    softmax_bits: int = 0,
) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.uint16], NDArray[np.uint32]]: ...
def layernorm(
    x: _Array,
    gain: _Array,
    offset: _Array,
    epsilon: int,
    shift: int,
    rms: bool = False,
    x_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    dtype: DTypeLike = "int8",
    out: _Array | None = None,
    threads: int | None = None,
    method: int = 0,
    iterations: int = 0,
    alpha: NDArray[np.uint8] | None = None,
    exponent: NDArray[np.uint8] | None = None,
    ptf_multiplier: int = 0,
    ptf_shift: int = 0,
    ptf_zero_point: int = 0,
) -> _Array: ...
def softmax(
    x: _Array,
    table: _Array,
    method: int,
    delta_max: int,
    softmax_multiplier: int,
    softmax_shift: int,
    pmax: int,
    multiplier: int,
    shift: int,
    softmax_bits: int = 0,
    zero_point: int = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    dtype: DTypeLike = "int8",
    out: _Array | None = None,
    threads: int | None = None,
) -> _Array: ...
def table(
    x: _Array, table: _Array, out: _Array | None = None, threads: int | None = None
) -> NDArray[np.int8]: ...
def requantize(
    x: _Array,
    multiplier: int,
    shift: int,
    x_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    dtype: DTypeLike = "int8",
    out: _Array | None = None,
    threads: int | None = None,
) -> _Array: ...
def add(
    a: _Array,
    b: _Array,
    a_multiplier: int,
    b_multiplier: int,
    shift: int,
    a_zero_point: int = 0,
    b_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int = -32768,
    quant_max: int = 32767,
    dtype: DTypeLike = "int16",
    out: _Array | None = None,
    threads: int | None = None,
) -> _Array: ...
def mean(
    x: _Array,
    multiplier: int,
    shift: int,
    x_zero_point: int = 0,
    zero_point: int = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    dtype: DTypeLike = "int8",
    out: _Array | None = None,
    threads: int | None = None,
) -> _Array: ...
def copy(
    x: _Array,
    shape: Sequence[int],
    strides: Sequence[int],
    offset: int = 0,
    out: _Array | None = None,
    threads: int | None = None,
) -> _Array: ...
def concat(
    arrays: Sequence[_Array], outer: int, out: _Array | None = None, threads: int | None = None
) -> _Array: ...
def gather(table: _Array, index: _Array, out: _Array | None = None, threads: int | None = None) -> _Array: ...
def quantize(
    x: _Array,
    scale: NDArray[np.float32],
    zero_point: int = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    axis: int | None = None,
    dtype: DTypeLike = "int8",
    out: _Array | None = None,
    threads: int | None = None,
) -> _Array: ...
def dequantize(
    q: _Array,
    scale: NDArray[np.float32],
    zero_point: int = 0,
    axis: int | None = None,
    out: _Array | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]: ...
def fake_quantize(
    x: _Array,
    scale: NDArray[np.float32],
    zero_point: int = 0,
    quant_min: int = -128,
    quant_max: int = 127,
    axis: int | None = None,
    out: _Array | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]: ...
def levels(
    x: _Array,
    scale: NDArray[np.float32],
    levels: NDArray[np.float32],
    thresholds: NDArray[np.float32],
    axis: int | None = None,
    codes: bool = False,
    threads: int | None = None,
) -> NDArray[np.float32] | NDArray[np.uint8]: ...
def fake_quantize_mask(
    x: _Array,
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
    quant_min: int = -128,
    quant_max: int = 127,
    axis: int | None = None,
    threads: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]: ...
def fake_quantize_backward(
    g: _Array, mask: NDArray[np.uint8], threads: int | None = None
) -> NDArray[np.float32]: ...
def fake_quantize_learned_backward(
    x: _Array,
    g: _Array,
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
    quant_min: int = -128,
    quant_max: int = 127,
    axis: int | None = None,
    threads: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]: ...
def observe_minmax(
    x: _Array,
    minimum: NDArray[np.float32],
    maximum: NDArray[np.float32],
    axis: int | None = None,
    threads: int | None = None,
) -> None: ...
def observe_histogram(
    x: _Array, counts: NDArray[np.int64], meta: NDArray[np.float64], threads: int | None = None
) -> None: ...
def histogram_merge(
    counts: NDArray[np.int64],
    meta: NDArray[np.float64],
    other_counts: NDArray[np.int64],
    other_meta: NDArray[np.float64],
) -> None: ...
def metrics_update(
    x: NDArray[np.float32],
    y: _Array,
    states: NDArray[np.float64],
    samples: int,
    pieces: int,
    groups: int,
    length: int,
    scale: float = 1.0,
    zero_point: int = 0,
    threads: int | None = None,
) -> None: ...
def metrics_merge(states: NDArray[np.float64], other: NDArray[np.float64]) -> None: ...
def metrics_kl(
    x: NDArray[np.float32], y: NDArray[np.float32], threads: int | None = None
) -> NDArray[np.float64]: ...
def derive_dyadic(real: float) -> tuple[int, int]: ...
def derive_weight_scale(
    w: NDArray[np.float32], bias: NDArray[np.float32] | None, x_scale: float, bits: int = 8
) -> NDArray[np.float32]: ...
def derive_gemm(
    w: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    w_scale: NDArray[np.float32],
    x_scale: float,
    y_scale: float,
    bits: int = 8,
) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]: ...
def derive_group_scale(
    w: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    x_scale: float,
    group_size: int,
    bits: int = 4,
    wanted: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]: ...
def derive_gemm_s8s4(
    w: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    w_scale: NDArray[np.float32],
    x_scale: float,
    y_scale: float,
    bits: int = 4,
    group_size: int = 0,
    group_multiplier: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]: ...
def derive_attention(
    method: str,
    q: _Grid,
    k: _Grid,
    v: _Grid,
    y: _Grid,
    softmax_scale: float,
    head_dim: int,
    keys: int,
    has_mask: bool = False,
) -> tuple[NDArray[Any], int, int, int, int, int, int, int]: ...
def derive_softmax(
    method: str, x: _Grid, y: _Grid, n: int
) -> tuple[NDArray[Any], int, int, int, int, int, int, int]: ...
def derive_mask(
    mask: NDArray[np.float32], q_scale: float, k_scale: float, softmax_scale: float
) -> tuple[NDArray[np.int32], NDArray[np.uint8], bool, bool]: ...
def derive_layernorm(
    channels: int,
    gamma: NDArray[np.float32] | None,
    beta: NDArray[np.float32] | None,
    epsilon: float,
    x_scale: float,
    y_scale: float,
) -> tuple[int, NDArray[np.int32], NDArray[np.int64], int]: ...
def derive_norm(
    method: str,
    channels: int,
    gamma: NDArray[np.float32] | None,
    beta: NDArray[np.float32] | None,
    epsilon: float,
    x_scale: float,
    y_scale: float,
    x_range: NDArray[np.float32] | None,
) -> tuple[
    int,
    NDArray[np.int32],
    NDArray[np.int64],
    int,
    int,
    int,
    NDArray[np.uint8] | None,
    NDArray[np.uint8] | None,
    int,
    int,
    int,
]: ...
def derive_add(a_scale: float, b_scale: float, y_scale: float) -> tuple[int, int, int]: ...
def derive_table(function: str, x: _Grid, y: _Grid, method: str = "table") -> NDArray[np.int8]: ...
def derive_unary(
    function: str, x: _Grid, y: _Grid, method: str
) -> tuple[str, str, dict[str, int | list[int]], int, int]: ...
def derive_table_values(values: NDArray[np.float64], y: _Grid) -> NDArray[np.int8]: ...
def unary_names(method: str = "table", /) -> tuple[str, ...]: ...
def unary_value(function: str, x: float, /) -> float: ...
def method_rows(op: str, /) -> list[tuple[str, str, list[tuple[str, float, float, float, bool, str]]]]: ...
def method_parse(op: str, text: str, /) -> tuple[str, int, tuple[float, ...]]: ...
def isa_names() -> tuple[str, ...]: ...
def isa_active() -> str: ...
def isa_limit(name: str | None = None, /) -> None: ...
def cpu_features() -> tuple[str, ...]: ...
def kernels() -> list[tuple[str, str, tuple[str, ...], bool]]: ...
def instructions() -> list[tuple[str, int, int, str]]: ...
def num_threads() -> int: ...
def probe_multiply_add(threads: int | None = None) -> tuple[str, int, int]: ...
def probe_read(bytes: int, threads: int | None = None) -> tuple[int, int]: ...
def _alloc_fail_after(calls: int, /) -> None: ...
def _alloc_live() -> int: ...
