"""torch in float32: eager, with the output in a buffer where the op takes one, and compiled by inductor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Linear
from benchmarks.workload import Peer

__all__ = ["compiled", "eager", "fingerprint", "linear", "linear_compiled", "linear_module"]


def eager(function: Callable[..., Any], *arguments: Any, out: Tensor | None = None, **keywords: Any) -> Peer:
    """Any function of tensors, as it is."""
    if out is not None:
        keywords["out"] = out
    last: list[Any] = [None]

    def run() -> None:
        last[0] = function(*arguments, **keywords)

    return Peer(run, lambda: last[0], "" if out is None else "output buffer reused")


def linear(*cases: Linear) -> Peer:
    """A linear layer into a buffer (F.linear has no ``out``); several in rotation on the first one's x."""
    x = torch.from_numpy(cases[0].x)
    weights = [torch.from_numpy(case.w).clone().t() for case in cases]
    biases = [torch.from_numpy(case.bias) for case in cases]
    out = torch.empty(cases[0].y.shape)
    turn = [0]

    def run() -> None:
        turn[0] = (turn[0] + 1) % len(weights)
        torch.addmm(biases[turn[0]], x, weights[turn[0]], out=out)

    return Peer(run, lambda: out, "addmm, output buffer reused")


def compiled(module: Callable[..., Any], *arguments: Any) -> Peer:
    """A function or module through torch.compile, with static shapes and its weights as constants."""
    torch._dynamo.reset()
    if isinstance(module, torch.nn.Module):
        run_compiled = torch.compile(module, dynamic=False, options={"freezing": True})
        settings = "inductor, freezing"
    else:
        run_compiled = torch.compile(module, dynamic=False)
        settings = "inductor"
    last: list[Any] = [None]

    def run() -> None:
        last[0] = run_compiled(*arguments)

    return Peer(run, lambda: last[0], settings)


def linear_module(case: Linear) -> torch.nn.Module:
    """The layer as a module, for what compiles or exports modules."""
    layer = torch.nn.Linear(case.w.shape[1], case.w.shape[0]).eval()
    layer.weight = torch.nn.Parameter(torch.from_numpy(case.w), requires_grad=False)
    layer.bias = torch.nn.Parameter(torch.from_numpy(case.bias), requires_grad=False)
    return layer


def fingerprint(module: torch.nn.Module) -> str:
    """What a file made from the module is named by: its structure and its weights."""
    digest = hashlib.sha256(repr(module).encode())
    for name, value in module.state_dict().items():
        digest.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def linear_compiled(case: Linear) -> Peer:
    """The layer through inductor."""
    return compiled(linear_module(case), torch.from_numpy(case.x))
