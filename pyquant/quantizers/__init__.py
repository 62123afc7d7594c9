"""Quantizers by name: ``make_quantizer("log2(bits=4)")`` is a module that simulates one.

`codebooks` needs NumPy alone; the modules need torch, and are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pyquant.errors import MissingTorchError

if TYPE_CHECKING:
    from .base import QUANTIZERS, Quantizer, canonical, make_quantizer, register_quantizer

__all__ = ["QUANTIZERS", "Quantizer", "canonical", "make_quantizer", "register_quantizer"]


def __getattr__(name: str) -> Any:
    """The registry, with every quantizer of the package in it."""
    if name not in __all__:
        raise AttributeError(f"module 'pyquant.quantizers' has no attribute {name!r}")
    try:
        base = importlib.import_module("pyquant.quantizers.base")
        for module in ("uniform", "nonuniform", "learned"):
            importlib.import_module(f"pyquant.quantizers.{module}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torch":
            raise
        raise MissingTorchError(
            f"pyquant.quantizers.{name} needs PyTorch, which is not installed here "
            f"(import torch failed: {error})",
            name="torch",
        ) from error
    globals().update({part: getattr(base, part) for part in __all__})
    return globals()[name]
