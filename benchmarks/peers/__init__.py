"""Other people's kernels, one file a library, each set up as its own documentation advises.

``peers.ort.linear(...)`` imports the library at that moment: one that is not installed is an ImportError of
that builder alone, which `Row.peer` turns into a named gap. A builder returns a `Peer`.
"""

from __future__ import annotations

import importlib
from typing import Any

MODULES = ("ao", "ort", "ov", "torch_float", "torch_int8")


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
