"""Every allocation of the core and the binding fails once: an error each time, and nothing leaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from pyquant import _C, IntegerModel, numerics, ops
from tests.safety.programs import arguments, block

GRID = (0.05, 0, -128, 127)
X = np.ones((40, 32), np.int8)
Q = np.ones((2, 2, 9, 16), np.int8)
ROWS = numerics.derive_softmax("sole", GRID, GRID, 16).keywords()
SOFTMAX = numerics.derive_attention("table16", GRID, GRID, GRID, GRID, 0.25, 16, 9).keywords()
MODEL = block()
DATA = MODEL.to_bytes()
GIVEN = arguments()


@pytest.fixture(autouse=True)
def _hook_off() -> Iterator[None]:
    yield
    _C._alloc_fail_after(-1)


def attempt(call: Callable[[], object]) -> bool:
    """False on MemoryError. The traceback, whose frames own models, ends with this function."""
    try:
        call()
    except MemoryError:
        return False
    return True


def fail_each(call: Callable[[], object]) -> int:
    """How many allocations the call makes; each of them has failed once."""
    for calls in range(10_000):
        live = _C._alloc_live()
        _C._alloc_fail_after(calls)
        done = attempt(call)
        _C._alloc_fail_after(-1)
        assert _C._alloc_live() == live
        if done:
            return calls
    raise AssertionError("the call never succeeded")


CALLS: dict[str, tuple[Callable[[], object], int]] = {
    "gemm": (lambda: ops.gemm(X, X, dtype="int32"), 1),
    "attention": (lambda: ops.attention(Q, Q, Q, **SOFTMAX), 1),
    "softmax": (lambda: ops.softmax(Q, **ROWS), 1),
    "attention_trace": (lambda: ops.attention_trace(Q, Q, Q, **SOFTMAX), 0),
    "load": (lambda: IntegerModel.from_bytes(DATA), 10),
    "load and run": (lambda: IntegerModel.from_bytes(DATA)(**GIVEN), 12),
    "load and trace": (lambda: IntegerModel.from_bytes(DATA).trace(**GIVEN), 12),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_allocation_fails_once(name: str) -> None:
    call, least = CALLS[name]
    assert fail_each(call) >= least


def test_a_model_survives_a_failed_run() -> None:
    model = IntegerModel.from_bytes(DATA)
    expected = MODEL(**GIVEN).logits
    _C._alloc_fail_after(0)
    with pytest.raises(MemoryError):
        model(**GIVEN)
    _C._alloc_fail_after(-1)
    assert np.array_equal(model(**GIVEN).logits, expected)
