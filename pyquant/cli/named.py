"""``--model module:function`` and ``--data module:function``: what a command is to work on."""

from __future__ import annotations

import importlib
import operator
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pyquant.cli.common import fail

__all__ = ["Again", "data_of", "model_of"]


class Again:
    """What a generator function yields, as often as it is asked for.

    Parameters
    ----------
    first : iterator
        Of the first call.
    function : callable
        Called for each later time.
    """

    def __init__(self, first: Iterator[Any], function: Callable[[], Any]) -> None:
        self._first: Iterator[Any] | None = first
        self._function = function

    def __iter__(self) -> Iterator[Any]:
        first, self._first = self._first, None
        return first if first is not None else iter(self._function())


def model_of(option: str, name: str) -> Any:
    """What the function returns, a module of torch."""
    made = _call(option, name, _function(option, name))
    from torch import nn

    if not isinstance(made, nn.Module):
        fail(f"{option} {name}: expected it to return a torch.nn.Module, got {type(made).__name__}")
    return made


def data_of(option: str, name: str) -> Iterable[Any]:
    """The batches that the function returns or yields; they can be read several times."""
    function = _function(option, name)
    made = _call(option, name, function)
    if isinstance(made, Iterator):
        return Again(made, function)
    if not isinstance(made, Iterable):
        fail(f"{option} {name}: expected it to return batches, got {type(made).__name__}")
    return made


def _function(option: str, name: str) -> Callable[[], Any]:
    """The function of a module that Python finds, also in the folder where the command is run."""
    module_name, colon, path = name.partition(":")
    if not (colon and module_name and path):
        fail(f"{option}: expected module:function, got {name!r}")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # a module of the user may raise anything
        fail(f"{option} {name}: import {module_name} failed: {type(error).__name__}: {error}")
    try:
        found = operator.attrgetter(path)(found)
    except AttributeError:
        fail(f"{option} {name}: {module_name} has no {path}")
    if not callable(found):
        fail(f"{option} {name}: expected a function, got {type(found).__name__}")
    function: Callable[[], Any] = found
    return function


def _call(option: str, name: str, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:  # and so may a function
        fail(f"{option} {name}: {type(error).__name__}: {error}")
