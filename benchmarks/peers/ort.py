"""ONNX Runtime: graphs with quantize / dequantize pairs, which it fuses; buffers bound once.

Weights are u8 or s8. Without dot-product instructions its u8s8 kernels may saturate and its u8u8 kernels do
not; which is faster depends on the CPU, so both are measured. Activations are u8 in both.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.cases import Linear
from benchmarks.machine import BUILD
from benchmarks.peers.torch_float import fingerprint
from benchmarks.workload import Peer

__all__ = ["dequantize", "linear", "module", "nbits", "quantize"]

OPSET = 21


def session(model: bytes | Path, threads: int) -> onnxruntime.InferenceSession:
    """All optimizations, a fixed pool that stops to spin at the end of a run (others need the core)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def bound(made: onnxruntime.InferenceSession, inputs: Sequence[NDArray[Any]], out: NDArray[Any]) -> Any:
    """A binding of the session to these buffers, with what keeps them alive: it holds addresses only."""
    binding = made.io_binding()
    kept = []
    for place, array in zip(made.get_inputs(), inputs, strict=True):
        value = onnxruntime.OrtValue.ortvalue_from_numpy(array)
        binding.bind_ortvalue_input(place.name, value)
        kept.append(value)
    binding.bind_output(
        made.get_outputs()[0].name, "cpu", 0, out.dtype.type, list(out.shape), out.ctypes.data
    )
    return binding, kept, inputs, out


def peer(
    models: Sequence[bytes | Path],
    inputs: Sequence[NDArray[Any]],
    out: NDArray[Any],
    threads: int,
    settings: str,
    real: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray,
) -> Peer:
    """Sessions that are run in rotation on the same input."""
    made = [session(model, threads) for model in models]
    bindings = [bound(s, inputs, out) for s in made]
    turn = [0]

    def run() -> None:
        turn[0] = (turn[0] + 1) % len(made)
        made[turn[0]].run_with_iobinding(bindings[turn[0]][0])

    def result() -> NDArray[Any]:
        turn[0] = -1
        run()
        return real(out)

    return Peer(run, result, settings)


def _graph(nodes: list[Any], constants: dict[str, NDArray[Any]], x: NDArray[Any], y: NDArray[Any]) -> bytes:
    def info(name: str, array: NDArray[Any]) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    initializers = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    graph = helper.make_graph(nodes, "row", [info("x", x)], [info("y", y)], initializers)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return made


def _quantized_linear(case: Linear, weights: str, x: NDArray[Any], y: NDArray[Any]) -> bytes:
    w_zero, dtype = (0, np.int8) if weights == "s8" else (128, np.uint8)
    n = len(case.bias)
    b_scale = (case.w_scale.astype(np.float64) * case.x_scale).astype(np.float32)
    constants: dict[str, Any] = {
        "x_scale": np.float32(case.x_scale),
        "x_zero": np.uint8(case.x_zero_point + 128),
        "y_scale": np.float32(case.y_scale),
        "y_zero": np.uint8(case.y_zero_point + 128),
        "w": (np.rint(case.w / case.w_scale[:, None]) + w_zero).astype(dtype),
        "w_scale": case.w_scale,
        "w_zero": np.full(n, w_zero, dtype),
        "b": np.rint(case.bias / b_scale).astype(np.int32),
        "b_scale": b_scale,
        "b_zero": np.zeros(n, np.int32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["x_f"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_f"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "b_scale", "b_zero"], ["b_f"], axis=0),
        helper.make_node("Gemm", ["x_f", "w_f", "b_f"], ["y_f"], transB=1),
        helper.make_node("QuantizeLinear", ["y_f", "y_scale", "y_zero"], ["y"]),
    ]
    return _graph(nodes, constants, x, y)


def linear(cases: Sequence[Linear], weights: str, threads: int) -> Peer:
    """A static QDQ linear layer, u8 in and out, fused by the session into one QGemm."""
    first = cases[0]
    x = (first.x_q.astype(np.int16) + 128).astype(np.uint8)
    y = np.empty(first.y.shape, np.uint8)
    models = [_quantized_linear(case, weights, x, y) for case in cases]
    return peer(
        models,
        [x],
        y,
        threads,
        f"static QDQ, u8{weights} -> u8, bound buffers",
        lambda out: first.real(out, first.y_zero_point + 128),
    )


def nbits(cases: Sequence[Linear], bits: int, block: int, threads: int) -> Peer:
    """MatMulNBits with int8 activations (accuracy level 4), float32 in and out."""
    first = cases[0]
    out = np.empty(first.y.shape, np.float32)
    models = []
    for case in cases:
        n, k = case.w.shape
        blocks = case.w.reshape(n, k // block, block)
        top = 2 ** (bits - 1) - 1
        scale = np.maximum(np.abs(blocks).max(2, keepdims=True) / top, 1e-12).astype(np.float32)
        q = (np.rint(blocks / scale) + 2 ** (bits - 1)).astype(np.uint8)
        packed = q[..., 0::2] | (q[..., 1::2] << 4) if bits == 4 else q
        constants = {"w": packed, "s": scale.reshape(-1), "b": case.bias}
        node = helper.make_node(
            "MatMulNBits",
            ["x", "w", "s", "", "", "b"],
            ["y"],
            domain="com.microsoft",
            K=k,
            N=n,
            bits=bits,
            block_size=block,
            accuracy_level=4,
        )
        models.append(_graph([node], constants, first.x, out))
    settings = f"MatMulNBits, {bits} bits, blocks of {block}, int8 inside, f32 edges"
    return peer(models, [first.x], out, threads, settings)


def quantize(x: NDArray[np.float32], grid: tuple[float, int, int, int], threads: int) -> Peer:
    """QuantizeLinear to int8."""
    y = np.empty(x.shape, np.int8)
    constants = {"scale": np.float32(grid[0]), "zero": np.int8(grid[1])}
    model = _graph([helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])], constants, x, y)
    real = partial(_real, grid=grid)
    return peer([model], [x], y, threads, "QuantizeLinear, bound buffers", real)


def dequantize(q: NDArray[np.int8], grid: tuple[float, int, int, int], threads: int) -> Peer:
    """DequantizeLinear of int8."""
    y = np.empty(q.shape, np.float32)
    constants = {"scale": np.float32(grid[0]), "zero": np.int8(grid[1])}
    model = _graph([helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["y"])], constants, q, y)
    return peer([model], [q], y, threads, "DequantizeLinear, bound buffers")


def _real(q: NDArray[Any], grid: tuple[float, int, int, int]) -> NDArray[np.float32]:
    return ((q.astype(np.float32) - grid[1]) * grid[0]).astype(np.float32)


def module(
    model: torch.nn.Module, example: Sequence[torch.Tensor], key: str, weights: str | None, threads: int
) -> Peer:
    """A torch module, exported: in float32, or quantized after training with u8 or s8 weights.

    The files are kept under the name `key`, with what they were made of and by which versions.
    """
    inputs = [np.ascontiguousarray(value.numpy()) for value in example]
    with torch.no_grad():
        out = np.empty(tuple(model(*example).shape), np.float32)
    versions = f"torch{torch.__version__}-onnx{onnx.__version__}-ort{onnxruntime.__version__}"
    source = BUILD / f"{key}-{fingerprint(model)}-{versions}.onnx"
    if not source.is_file():
        export(model, tuple(example), source)
    if weights is None:
        return peer([source], inputs, out, threads, "exported, bound buffers")
    target = source.with_suffix(f".u8{weights}.onnx")
    if not target.is_file():
        names = [place.name for place in onnx.load(str(source), load_external_data=False).graph.input]
        static_int8(source, target, dict(zip(names, inputs, strict=True)), weights)
    settings = f"static QDQ u8{weights}, per channel, f32 edges, bound buffers"
    return peer([target], inputs, out, threads, settings)


def export(model: torch.nn.Module, example: tuple[torch.Tensor, ...], target: Path) -> None:
    """Write an ONNX file with static shapes, whole or not at all."""
    program = torch.onnx.export(model, example, dynamo=True, verbose=False)
    assert program is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(f".{os.getpid()}.tmp")
    program.save(str(unfinished))
    os.replace(unfinished, target)


def static_int8(source: Path, target: Path, sample: dict[str, NDArray[Any]], weights: str) -> None:
    """Post-training quantization to QDQ: linear layers, matrix products and convolutions, per channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter([sample])

        def get_next(self) -> Any:
            return next(self.left, None)

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it warns of each normalization weight
    prepared, unfinished = (target.with_suffix(f".{os.getpid()}.{i}.onnx") for i in range(2))
    try:
        quant_pre_process(str(source), str(prepared))
        quantize_static(
            str(prepared),
            str(unfinished),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8 if weights == "s8" else QuantType.QUInt8,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        )
        os.replace(unfinished, target)
    finally:
        root.setLevel(level)
        prepared.unlink(missing_ok=True)
