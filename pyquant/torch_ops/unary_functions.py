"""The float functions behind ``pyquant::unary``, by name (``pq_unary_name``), and their gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["GRADIENTS", "REAL", "quick_gelu"]

_aten = torch.ops.aten


def _quick_gelu_backward(g: Tensor, x: Tensor) -> Tensor:
    gate = torch.sigmoid(1.702 * x)
    return g * (gate + 1.702 * x * gate * (1 - gate))


# Gradient of each function of pq_unary_name at x, by the backward op of aten where there is one.
GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda g, x: g,
    "relu": lambda g, x: _aten.threshold_backward(g, x, 0),
    "gelu": lambda g, x: _aten.gelu_backward(g, x, approximate="none"),
    "gelu_tanh": lambda g, x: _aten.gelu_backward(g, x, approximate="tanh"),
    "quick_gelu": _quick_gelu_backward,
    "silu": lambda g, x: _aten.silu_backward(g, x),
    "sigmoid": lambda g, x: _aten.sigmoid_backward(g, torch.sigmoid(x)),
    "tanh": lambda g, x: _aten.tanh_backward(g, torch.tanh(x)),
    "hardswish": lambda g, x: _aten.hardswish_backward(g, x),
    "hardsigmoid": lambda g, x: _aten.hardsigmoid_backward(g, x),
    "relu6": lambda g, x: _aten.hardtanh_backward(g, x, 0, 6),
    "elu": lambda g, x: _aten.elu_backward(g, 1, 1, 1, False, x),
    "mish": lambda g, x: _aten.mish_backward(g, x),
    "softplus": lambda g, x: _aten.softplus_backward(g, x, 1, 20),
    "exp": lambda g, x: g * torch.exp(x),
    "abs": lambda g, x: g * torch.sgn(x),
    "square": lambda g, x: g * (2 * x),
}


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), the GELU of CLIP and of I-ViT's ShiftGELU."""
    return x * torch.sigmoid(1.702 * x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


REAL: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "quick_gelu": quick_gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "relu6": F.relu6,
    "elu": F.elu,
    "mish": F.mish,
    "softplus": F.softplus,
    "exp": torch.exp,
    "abs": torch.abs,
    "square": torch.square,
}
