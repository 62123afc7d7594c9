"""Softmax as it runs inside attention (softmax.c), and nothing of the attention around it."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import compiled, machine

__all__ = ["Softmax"]

ALIGNMENT = 64


class Softmax:
    """The table softmax of an instruction set, on rows of scores.

    Parameters
    ----------
    isa : str
    constants : mapping
        Of `numerics.derive_attention`, method ``"table16"``.
    scores : ndarray of int32, (distinct, n)
        n at most 4096.
    threads : int
    repeat : int
        How often all of them are weighed in one call.

    Attributes
    ----------
    sums : ndarray of uint32, (repeat * distinct,)
        L of each row, once it was called.

    Raises
    ------
    OSError
        This instruction set has no softmax on panels, no compiler, or pyquant was not built in this tree.
    """

    def __init__(
        self,
        isa: str,
        constants: Mapping[str, Any],
        scores: NDArray[np.int32],
        threads: int,
        repeat: int = 1,
    ) -> None:
        include = tuple(f"-I{machine.ROOT / folder}" for folder in ("csrc/include", "csrc"))
        library = compiled.library("softmax.c", compiled.core(), flags=include)
        if not library.bench_softmax_present(isa.encode()):
            raise OSError(f"softmax on panels: {isa} has none")
        library.bench_softmax_panel.restype = ctypes.c_size_t
        self.sums = np.empty(repeat * len(scores), np.uint32)
        panels = np.empty(threads * library.bench_softmax_panel() + ALIGNMENT, np.uint8)
        table = np.ascontiguousarray(constants["table"], np.int16)
        self._scores = np.ascontiguousarray(scores)
        self._kept = (panels, table)
        self._call = lambda: library.bench_softmax(
            isa.encode(),
            threads,
            ctypes.c_void_p(table.ctypes.data),
            ctypes.c_uint32(constants["delta_max"]),
            ctypes.c_uint32(constants["softmax_multiplier"]),
            constants["softmax_shift"],
            constants["pmax"],
            ctypes.c_size_t(len(self.sums)),
            ctypes.c_size_t(self._scores.shape[0]),
            ctypes.c_size_t(self._scores.shape[1]),
            ctypes.c_void_p(self._scores.ctypes.data),
            ctypes.c_void_p(panels.ctypes.data + -panels.ctypes.data % ALIGNMENT),
            ctypes.c_void_p(self.sums.ctypes.data),
        )

    def __call__(self) -> NDArray[np.uint32]:
        self._call()
        return self.sums
