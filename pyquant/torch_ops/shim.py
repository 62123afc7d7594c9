"""Loads the C shim: the CPU implementations of the ops, on the same C core as the engine."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

__all__ = ["shim_loaded", "shim_path"]

_LOG = logging.getLogger(__name__)
_loaded = False


def shim_path() -> Path:
    """Where the build puts the shim."""
    return Path(__file__).resolve().parent.parent / "lib" / "libpyquant_torch.so"


def shim_loaded() -> bool:
    """Whether CPU tensors run the C kernels; if not, they run the pure-torch definitions."""
    return _loaded


def load() -> None:
    """Load the shim if it was built and ``PYQUANT_TORCH_SHIM=0`` does not forbid it."""
    global _loaded
    if _loaded:
        return
    if os.environ.get("PYQUANT_TORCH_SHIM", "1") == "0":
        _LOG.info("PYQUANT_TORCH_SHIM=0: ops run in pure torch")
        return
    path = shim_path()
    if not path.exists():
        _LOG.info("%s was not built: ops run in pure torch", path.name)
        return
    ops: Any = torch.ops  # load_library has no annotations
    ops.load_library(str(path))
    _loaded = True
