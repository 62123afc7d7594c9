"""torchao: int8 activations quantized at run time, int8 weights, compiled by inductor."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch

from benchmarks.cases import Linear
from benchmarks.peers.torch_float import compiled, linear_module
from benchmarks.workload import Peer

__all__ = ["dynamic_int8", "linear", "prepared_for_training"]


def dynamic_int8(module: torch.nn.Module, *arguments: Any) -> Peer:
    """A copy of the module with its linear layers quantized."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        quantized = copy.deepcopy(module)
        quantize_(quantized, Int8DynamicActivationInt8WeightConfig())
        made = compiled(quantized, *arguments)
    return Peer(made.run, made.result, "Int8DynamicActivationInt8WeightConfig, f32 edges, inductor, freezing")


def linear(case: Linear) -> Peer:
    """A linear layer; `quantize_` replaces the layers inside a module, hence the shell."""
    return dynamic_int8(torch.nn.Sequential(linear_module(case)), torch.from_numpy(case.x))


def prepared_for_training(module: torch.nn.Module) -> torch.nn.Module:
    """A copy whose linear layers simulate int8 activations (per token) and int8 weights (per channel)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization import quantize_
        from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig

        prepared = copy.deepcopy(module)
        activation = IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)
        weight = IntxFakeQuantizeConfig(torch.int8, "per_channel")
        quantize_(prepared, QATConfig(activation_config=activation, weight_config=weight, step="prepare"))
    return prepared
