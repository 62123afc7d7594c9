"""OpenVINO: float32, INT8 by NNCF post-training quantization, and INT4 / INT8 weight compression."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray

from benchmarks.cases import Linear
from benchmarks.machine import BUILD
from benchmarks.peers.torch_float import fingerprint, linear_module
from benchmarks.workload import Peer

__all__ = ["compress", "convert", "int8", "linear", "module", "peer"]


def convert(module: Any, example: Sequence[Any]) -> Any:
    """A torch module with static shapes."""
    shapes = [list(value.shape) for value in example]
    return openvino.convert_model(module, example_input=tuple(example), input=shapes)


def int8(model: Any, samples: Sequence[Any], transformer: bool = False) -> Any:
    """NNCF post-training quantization; asymmetric activations, symmetric weights per channel."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(io.StringIO()):  # progress bars
        return nncf.quantize(
            model,
            nncf.Dataset(list(samples)),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
            subset_size=len(samples),
            fast_bias_correction=True,
        )


def compress(model: Any, bits: int, group: int) -> Any:
    """NNCF weight compression; the CPU plugin then quantizes activations as it goes."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(io.StringIO()):
        if bits == 8:
            return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        return nncf.compress_weights(
            model, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=group, ratio=1.0, all_layers=True
        )


def peer(
    models: Sequence[Any],
    inputs: Sequence[NDArray[Any]],
    out: NDArray[Any],
    threads: int,
    settings: str,
    real: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray,
) -> Peer:
    """One stream with so many threads, buffers shared; several models are run in rotation."""
    core = openvino.Core()
    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    tensors = [openvino.Tensor(array, shared_memory=True) for array in inputs]
    target = openvino.Tensor(out, shared_memory=True)
    requests = []
    for model in models:
        request = core.compile_model(model, "CPU", config).create_infer_request()
        for index, tensor in enumerate(tensors):
            request.set_input_tensor(index, tensor)
        request.set_output_tensor(0, target)
        requests.append(request)
    turn = [0]

    def run() -> None:
        turn[0] = (turn[0] + 1) % len(requests)
        requests[turn[0]].infer()

    def result() -> NDArray[Any]:  # it also keeps the buffers alive, whose addresses the requests hold
        turn[0] = -1
        run()
        return real(out)

    return Peer(run, result, settings)


def module(
    model: torch.nn.Module, example: Sequence[torch.Tensor], key: str, quantized: bool, threads: int
) -> Peer:
    """A torch module, in float32 or quantized after training; the files are kept as `ort.module` does."""
    inputs = [np.ascontiguousarray(value.numpy()) for value in example]
    with torch.no_grad():
        out = np.empty(tuple(model(*example).shape), np.float32)
    settings = "NNCF static, f32 edges" if quantized else ""
    if not quantized:
        return peer([convert(model, example)], inputs, out, threads, settings)
    versions = f"torch{torch.__version__}-nncf{version('nncf')}"
    path = BUILD / f"{key}-{fingerprint(model)}-{versions}.xml"
    if not path.is_file():
        sample = inputs[0] if len(inputs) == 1 else tuple(inputs)
        BUILD.mkdir(parents=True, exist_ok=True)
        openvino.save_model(int8(convert(model, example), [sample], transformer=True), path)
    return peer([openvino.Core().read_model(path)], inputs, out, threads, settings)


def linear(cases: Sequence[Linear], kind: str, threads: int, group: int = 128) -> Peer:
    """A linear layer, ``"float32"``, ``"int8"`` (static) or ``"int4"`` (weights; activations at run time)."""
    first = cases[0]
    models = [convert(linear_module(case), [torch.from_numpy(first.x)]) for case in cases]
    if kind == "int8":
        models = [int8(model, [first.x]) for model in models]
    elif kind == "int4":
        models = [compress(model, 4, group) for model in models]
    settings = {"float32": "", "int8": "NNCF static", "int4": f"NNCF weights in groups of {group}"}[kind]
    return peer(models, [first.x], np.empty(first.y.shape, np.float32), threads, f"{settings}, f32 edges")
