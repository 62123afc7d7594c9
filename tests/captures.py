"""One `torch.export` for the same model and example: most of the time of a test that prepares a model.

Exporting depends on the model's classes, attributes and weights and on the example alone, so tests share the
exported program of equal ones. Whoever tests the capture itself is left out (`conftest.py`).
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

import pyquant.graph.capture as module

__all__ = ["shared"]

LARGEST = 16 << 20  # bytes of weights
KEPT: dict[str, torch.export.ExportedProgram] = {}


class _Pickler(pickle.Pickler):
    """Tensors by their values: torch writes addresses into a pickle."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            x = value.detach()
            shown = (type(value).__name__, str(x.dtype), tuple(x.shape), x.stride(), value.requires_grad)
            return tuple, ((*shown, x.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()),)
        return NotImplemented


def _key(*values: Any) -> str | None:
    """None for what is large, or cannot be pickled: classes of a function, hooks, subclasses of tensors."""
    file = io.BytesIO()
    try:
        _Pickler(file).dump(values)
    except Exception:
        return None
    return hashlib.sha256(file.getbuffer()).hexdigest() if file.tell() < LARGEST else None


@contextmanager
def shared() -> Iterator[None]:
    """While it lasts, `capture` takes what it has exported before."""
    export = module._export

    def once(
        work: torch.nn.Module,
        inputs: dict[str, Any],
        dynamic: dict[str, Any],
        positional: list[str],
        probe: Any,
    ) -> Any:
        # A probe listens to the run of the model itself.
        key = _key(work, inputs, str(dynamic), positional) if probe is None else None
        if key is None:
            return export(work, inputs, dynamic, positional, probe)
        if key not in KEPT:
            KEPT[key] = export(work, inputs, dynamic, positional, probe)
        return KEPT[key]

    module._export = once
    try:
        yield
    finally:
        module._export = export
