"""How a captured model is called: arguments by their names, and an output without what was not asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from pyquant.graph.capture import Signature

__all__ = ["bind_call", "without_none"]


def bind_call(signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name. Plain Python, so that torch.compile can trace it.

    Raises
    ------
    TypeError
        The call does not fit the original signature, or gives a constant of the capture another value.
    """
    slots = [n for n, kind, _ in signature.parameters if kind in (0, 1)]  # those that may be positional
    if len(args) > len(slots):
        raise TypeError(f"forward() takes {len(slots)} positional arguments but {len(args)} were given")
    given: dict[str, Any] = dict(zip(slots, args, strict=False))
    open_ended = any(kind == 4 for _, kind, _ in signature.parameters)  # **kwargs
    named = {n for n, _, _ in signature.parameters}
    for name, value in kwargs.items():
        if name in given:
            raise TypeError(f"forward() got multiple values for argument {name!r}")
        if name not in named and not open_ended:
            raise TypeError(f"forward() got an unexpected keyword argument {name!r}")
        given[name] = value
    defaults = {n: d for n, _, d in signature.parameters}
    for name, value in given.items():
        if value is None:
            continue
        if name in signature.inputs:
            if not isinstance(value, torch.Tensor):
                raise TypeError(f"forward() expected {name!r} to be a tensor, got {type(value).__name__}")
            continue
        fixed = signature.constants.get(name, defaults.get(name))
        if isinstance(value, torch.Tensor) or value != fixed:
            raise TypeError(
                f"forward() was prepared without {name!r} (it was {fixed!r}); "
                "give it in the example of prepare"
            )
    return given


def without_none(value: Any) -> Any:
    """An output without the members that a call left out."""
    if isinstance(value, dict):
        kept = {k: without_none(v) for k, v in value.items() if v is not None}
        return kept if type(value) is dict else type(value)(**kept)
    if type(value) in (list, tuple):
        return type(value)(without_none(v) for v in value if v is not None)
    return value
