"""Non-linear methods: which approximation a softmax, an element-wise function or a norm computes.

The registries are C (``csrc/derive/method_*.c``); this module reads them. A method is written as its name, or
as ``name(parameter=number, ...)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

from pyquant import _C

__all__ = ["OPS", "Method", "Parameter", "canonical", "methods"]

OPS: tuple[str, ...] = ("softmax", "unary", "norm")
"""What has methods: the softmax inside attention or alone, element-wise functions, LayerNorm and RMSNorm."""


@dataclass(frozen=True)
class Parameter:
    """A number that a method takes.

    Attributes
    ----------
    name, meaning : str
    default, low, high : float
        Both bounds are allowed.
    whole : bool
        Only integers are.
    """

    name: str
    default: float
    low: float
    high: float
    whole: bool
    meaning: str


@dataclass(frozen=True)
class Method:
    """One row of a registry.

    Attributes
    ----------
    op, name : str
    reference : str
        Paper and equation.
    parameters : tuple of Parameter
    """

    op: str
    name: str
    reference: str
    parameters: tuple[Parameter, ...]


@cache
def _methods(op: str) -> tuple[Method, ...]:
    return tuple(
        Method(op, name, reference, tuple(Parameter(*row) for row in parameters))
        for name, reference, parameters in _C.method_rows(op)
    )


def methods(op: str) -> dict[str, Method]:
    """The methods of an op by name, in the order of the registry; the first is the default.

    Parameters
    ----------
    op : {"softmax", "unary", "norm"}

    Raises
    ------
    ValueError
        Another op.

    Examples
    --------
    >>> list(methods("softmax"))[:2]
    ['table16', 'table8']
    """
    return {method.name: method for method in _methods(op)}


@lru_cache(maxsize=4096)
def canonical(op: str, text: str) -> str:
    """A method's text as it is stored: no blanks, only parameters that differ from their defaults.

    Raises
    ------
    ValueError
        `text` names no method of `op`, a parameter that the method lacks, or a number out of its range.

    Examples
    --------
    >>> canonical("softmax", " table16 ")
    'table16'
    """
    return _C.method_parse(op, text)[0]
