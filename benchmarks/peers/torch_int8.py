"""FBGEMM and oneDNN through torch's quantized linear, weights packed before; and torch._int_mm."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks.cases import Linear
from benchmarks.peers.torch_float import eager
from benchmarks.workload import Peer

__all__ = ["ENGINES", "call", "dynamic", "int4_weights", "int_mm", "linear"]

# "x86" chooses between the other two by shape and CPU.
ENGINES = {"FBGEMM": "fbgemm", "oneDNN": "onednn", "torch x86": "x86"}


def pack(case: Linear, engine: str) -> object:
    """Weights in the layout of an engine."""
    if engine not in torch.backends.quantized.supported_engines:
        raise ImportError(f"torch was built without {engine}")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        zeros = torch.zeros(case.w.shape[0], dtype=torch.long)
        w = torch.quantize_per_channel(
            torch.from_numpy(case.w), torch.from_numpy(case.w_scale), zeros, 0, torch.qint8
        )
        return torch.ops.quantized.linear_prepack(w, torch.from_numpy(case.bias))
    finally:
        torch.backends.quantized.engine = before


def linear(cases: Sequence[Linear], name: str) -> Peer:
    """Static quint8 activations, qint8 weights per channel; the cases in rotation on the first one's x.

    The op has no ``out``; the allocator is told to keep its blocks.
    """
    first, engine = cases[0], ENGINES[name]
    packed = [pack(case, engine) for case in cases]
    x = torch.quantize_per_tensor(
        torch.from_numpy(first.x), first.x_scale, first.x_zero_point + 128, torch.quint8
    )
    last = [torch.empty(0)]
    turn = [0]

    def run() -> None:
        turn[0] = (turn[0] + 1) % len(packed)
        last[0] = torch.ops.quantized.linear(x, packed[turn[0]], first.y_scale, first.y_zero_point + 128)

    def result() -> np.ndarray:
        turn[0] = -1
        run()
        return last[0].dequantize().numpy()

    return Peer(run, result, f"quantized.linear, engine {engine}, u8 x s8 -> u8, prepacked")


def call(function: Callable[..., torch.Tensor], *arguments: torch.Tensor) -> Peer:
    """A function that returns a quantized tensor."""
    last = [torch.empty(0)]

    def run() -> None:
        last[0] = function(*arguments)

    return Peer(run, lambda: last[0].dequantize().numpy())


def dynamic(model: torch.nn.Module, x: torch.Tensor, engine: str) -> Peer:
    """A copy of the model with its linear layers quantized; activations at run time, float32 between."""
    from torch.ao.quantization import quantize_dynamic

    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the function is deprecated
            quantized = quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    finally:
        torch.backends.quantized.engine = before
    made = eager(quantized, x)
    return Peer(made.run, made.result, f"quantize_dynamic, engine {engine}, linear layers only")


def int4_weights(cases: Sequence[Linear], group: int) -> Peer:
    """Weights of 4 bits in groups, float32 activations and sums: torch's own 4-bit kernel."""
    first = cases[0]
    packed = []
    for case in cases:
        n, k = case.w.shape
        blocks = torch.from_numpy(case.w).reshape(n, k // group, group)
        scale = (blocks.abs().amax(2, keepdim=True) / 7).clamp(min=1e-12)
        stored = (torch.round(blocks / scale) + 8).to(torch.int32).reshape(n, k)
        scales = torch.stack([scale[:, :, 0].t(), torch.zeros(k // group, n)], 2).contiguous()
        packed.append((torch.ops.aten._convert_weight_to_int4pack_for_cpu(stored, 1), scales))
    x, bias = torch.from_numpy(first.x), torch.from_numpy(first.bias)
    last = [torch.empty(0)]
    turn = [0]

    def run() -> None:
        turn[0] = (turn[0] + 1) % len(packed)
        weights, scales = packed[turn[0]]
        last[0] = torch.ops.aten._weight_int4pack_mm_for_cpu(x, weights, group, scales).add_(bias)

    return Peer(
        run, lambda: last[0].numpy(), f"_weight_int4pack_mm_for_cpu, groups of {group}, float32 inside"
    )


def int_mm(case: Linear) -> Peer:
    """The int8 product alone: no bias, no requantization, int32 out."""
    x = torch.from_numpy(case.x_q)
    w = torch.from_numpy(np.rint(case.w / case.w_scale[:, None]).astype(np.int8)).t()
    out = torch.empty(case.y.shape, dtype=torch.int32)

    def run() -> None:
        torch._int_mm(x, w, out=out)

    def result() -> np.ndarray:
        acc = out.double().numpy() - case.x_zero_point * w.double().sum(0).numpy()
        return acc * case.x_scale * case.w_scale + case.bias

    return Peer(run, result, "int32 out, no requantization")
