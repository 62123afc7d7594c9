"""How a model's outputs are put together: a small JSON tree.

A node is a dictionary with one key:

=========================  =========================================================
``{"output": i}``          output i of the program
``{"none": null}``         None
``{"tuple": [nodes]}``     a tuple
``{"list": [nodes]}``      a list
``{"dict": {name: node}}`` an `Output`: a dictionary with attributes
=========================  =========================================================

Dataclass-like results (``ModelOutput`` of transformers, named tuples) are stored as ``dict``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pyquant.errors import ProgramError

__all__ = ["Output", "build", "check", "leaves"]

MAX_DEPTH = 32


class Output(dict[str, Any]):
    """Several outputs by name; ``output.logits`` is ``output["logits"]``.

    Examples
    --------
    >>> Output(logits=1).logits
    1
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"Output has no {name!r}; it has {', '.join(self) or 'nothing'}") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(name for name in self if name.isidentifier())]

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (dict(self),))


def check(node: Any, outputs: int, depth: int = 0) -> None:
    """Raise ProgramError unless `node` is a tree whose leaves name outputs in [0, outputs)."""
    if depth > MAX_DEPTH:
        raise ProgramError(f"structure: expected at most {MAX_DEPTH} levels, got more")
    if not isinstance(node, dict) or len(node) != 1:
        raise ProgramError(f"structure: expected a node with one key, got {_short(node)}")
    ((kind, content),) = node.items()
    if kind == "output":
        if isinstance(content, bool) or not isinstance(content, int) or not 0 <= content < outputs:
            raise ProgramError(f"structure: expected 0 <= output < {outputs}, got {_short(content)}")
    elif kind == "none":
        if content is not None:
            raise ProgramError(f"structure: expected null in none, got {_short(content)}")
    elif kind in ("tuple", "list"):
        if not isinstance(content, list):
            raise ProgramError(f"structure: expected a list of nodes in {kind}, got {_short(content)}")
        for item in content:
            check(item, outputs, depth + 1)
    elif kind == "dict":
        if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
            raise ProgramError(f"structure: expected nodes by name in dict, got {_short(content)}")
        for item in content.values():
            check(item, outputs, depth + 1)
    else:
        raise ProgramError(f"structure: expected output, none, tuple, list or dict, got {_short(kind)}")


def build(node: Any, outputs: Sequence[Any]) -> Any:
    """Put the outputs of a run together."""
    ((kind, content),) = node.items()
    if kind == "output":
        return outputs[content]
    if kind == "none":
        return None
    if kind == "tuple":
        return tuple(build(item, outputs) for item in content)
    if kind == "list":
        return [build(item, outputs) for item in content]
    return Output({name: build(item, outputs) for name, item in content.items()})


def leaves(node: Any) -> Iterator[int]:
    """The outputs that a tree names, in its order."""
    ((kind, content),) = node.items()
    if kind == "output":
        yield content
    elif kind in ("tuple", "list"):
        for item in content:
            yield from leaves(item)
    elif kind == "dict":
        for item in content.values():
            yield from leaves(item)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
