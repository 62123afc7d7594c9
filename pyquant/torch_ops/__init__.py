"""The quantized ops of ``torch.ops.pyquant``: float32 edges outside, integers inside.

Importing this package registers every op (schema, fake, autograd, autocast rule, pure-torch body)
and loads the C shim where it was built. Each op takes float32 tensors on a grid, runs the integer
arithmetic that the engine runs, and returns float32 values on the output grid, bit for bit the same
from the shim and from pure torch. Wrong dtypes, devices, shapes, grids and NaN raise ``RuntimeError``
with the name of the op first. See ``docs/architecture.md`` for the signatures.
"""

from __future__ import annotations

from . import (
    add,
    approximations,
    attention,
    edge,
    fake,
    layer_norm,
    levels,
    linear,
    lookup,
    mean,
    observe,
    quantize,
    quantize_weight,
    requantize,
    softmax_rows,
    unary,
)
from .observe import HISTOGRAM_BINS, HISTOGRAM_EMPTY, new_histogram, new_minmax
from .shim import load, shim_loaded, shim_path
from .unary import FUNCTIONS

__all__ = [
    "FUNCTIONS",
    "HISTOGRAM_BINS",
    "HISTOGRAM_EMPTY",
    "add",
    "approximations",
    "attention",
    "edge",
    "fake",
    "layer_norm",
    "levels",
    "linear",
    "lookup",
    "mean",
    "new_histogram",
    "new_minmax",
    "observe",
    "quantize",
    "quantize_weight",
    "requantize",
    "shim_loaded",
    "shim_path",
    "softmax_rows",
    "unary",
]

load()
