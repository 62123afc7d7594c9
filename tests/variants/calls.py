"""Running a case of tests/spec/cases.py on the C kernels, under a chosen instruction set and thread count."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyquant import _C
from pyquant.methods import methods
from tests.spec.cases import Array, Case

METHODS = {name: code for code, name in enumerate(methods("softmax"))}


def eligible_isas() -> list[str]:
    """Instruction sets that some kernel of this machine uses, "ref" first."""
    used = {isa for _, isa, _, eligible in _C.kernels() if eligible}
    return [name for name in _C.isa_names() if name in used]


@contextmanager
def limited_to(isa: str) -> Iterator[None]:
    """Kernels chosen inside are of this instruction set, or slower where an op has none of it."""
    _C.isa_limit(isa)
    try:
        yield
    finally:
        _C.isa_limit(os.environ.get("PYQUANT_ISA") or None)


def actual(case: Case, threads: int | None = None) -> Array:
    """The op's output `y`."""
    return _call(case, threads)


def traced(case: Case) -> dict[str, Array]:
    """attention with its sub-sites, as tests/spec/arrays.py names them."""
    y, score, p, total = _C.attention_trace(**_attention_arguments(case))
    return {"y": y[:, 0], "score": score[:, 0], "p": p[:, 0], "l": total[:, 0]}


def packed(case: Case) -> Any:
    """The packed weights of a gemm case: what depends on the instruction set is done here."""
    operands: dict[str, Any] = dict(case.arrays)
    x = operands.pop("x")
    if case.op == "gemm_s8s4":
        return _C.pack_gemm_s8s4(k=x.shape[1], **operands, **case.numbers)
    return _C.GemmWeights(**operands, **case.numbers)


def _attention_arguments(case: Case) -> dict[str, Any]:
    # The kernels know windows ("groups") as a second axis.
    arrays = {name: a[:, None] if a is not None and a.ndim == 4 else a for name, a in case.arrays.items()}
    numbers: dict[str, Any] = {
        **case.numbers,
        "method": METHODS[str(case.numbers["method"]).partition("(")[0]],
    }
    numbers["causal"] = bool(numbers["causal"])
    return {**arrays, **numbers}


def _call(case: Case, threads: int | None) -> Array:
    if case.op in ("gemm", "gemm_s8s4"):
        result = _C.gemm(case.arrays["x"], packed(case), threads=threads)
    elif case.op in ("attention", "attention_online64"):
        result = getattr(_C, case.op)(**_attention_arguments(case), threads=threads)[:, 0]
    else:
        numbers: dict[str, Any] = dict(case.numbers)
        if "rms" in numbers:
            numbers["rms"] = bool(numbers["rms"])
        if case.op == "softmax":
            numbers["method"] = METHODS[str(numbers["method"]).partition("(")[0]]
        result = getattr(_C, case.op)(**case.arrays, **numbers, threads=threads)
    array: Array = result
    return array
