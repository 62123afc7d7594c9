"""Candidates: other settings that a site could have, as values with a canonical text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyquant.config import METHOD_OPS, Override, SiteConfig
from pyquant.methods import methods

__all__ = ["CURRENT", "Candidate"]

CURRENT = "current"
"""The name of the candidate without settings: the site as it is configured."""

_BITS = {"W": "weight_bits", "A": "activation_bits", "R": "residual_bits"}
_BITS_TEXT = re.compile("".join(rf"(?:{letter}(\d+))?" for letter in _BITS))
_DEFAULTS: dict[str, Any] = {
    f.name: f.default for f in dataclasses.fields(SiteConfig) if f.name != "keep_float"
}


@dataclass(frozen=True)
class Candidate:
    """Settings that replace those of one site: bits, a scheme, a non-linear method, or several of them.

    Parameters
    ----------
    name : str
        The canonical text, as `Candidate.of` reads it: bits first (``W4``, ``A6``, ``W4A6``, ``R8``: weights,
        int8 edges, 16-bit edges), then ``setting=value`` in alphabetical order, joined by ``+``.
        ``"current"`` for no settings.
    settings : tuple of (str, value)
        Fields of `SiteConfig`, sorted by name.

    Raises
    ------
    ValueError
        An unknown setting, a value out of its range, or a name that is not canonical.

    Examples
    --------
    >>> Candidate.of("A6W4").name
    Traceback (most recent call last):
    ValueError: candidate 'A6W4': expected ...
    >>> Candidate.of("W4A6+weight_observer=mse").settings
    (('activation_bits', 6), ('weight_bits', 4), ('weight_observer', 'mse'))
    >>> Candidate.of({"softmax": "table8"}).name
    'softmax=table8'
    """

    name: str
    settings: tuple[tuple[str, Any], ...]

    def __post_init__(self) -> None:
        settings = _checked(repr(self.name), dict(self.settings))
        object.__setattr__(self, "settings", settings)
        if self.name != _name(settings):
            raise ValueError(f"candidate: expected {_name(settings)!r} as the name, got {self.name!r}")

    @classmethod
    def of(cls, value: str | Mapping[str, Any] | Candidate) -> Candidate:
        """A candidate from its text or from its settings.

        Raises
        ------
        ValueError
            As for the class; the message says what a text may look like.
        TypeError
            `value` is something else.
        """
        if isinstance(value, Candidate):
            return value
        if isinstance(value, str):
            settings = _checked(repr(value), _parse(value))
        elif isinstance(value, Mapping):
            settings = _checked(repr(dict(value)), value)
        else:
            raise TypeError(f"candidate: expected a text, a mapping or a Candidate, got {value!r}")
        return cls(_name(settings), settings)

    def part(self, fields: frozenset[str]) -> Candidate:
        """The candidate with only those of its settings."""
        return Candidate.of({name: value for name, value in self.settings if name in fields})


def _checked(shown: str, settings: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Sorted settings with values that a `SiteConfig` takes, methods in their canonical form."""
    if "keep_float" in settings:
        raise ValueError(
            f"candidate {shown}: keep_float is no candidate; all_but_this tells what it would give"
        )
    try:
        found = Override("*", tuple(settings.items())).settings
        base = SiteConfig(weight_bits=4) if "weight_bits" not in settings else SiteConfig()
        full = dataclasses.replace(base, **dict(found))
    except ValueError as error:
        raise ValueError(f"candidate {shown}: {error}") from None
    return tuple((name, getattr(full, name)) for name in sorted(settings))


def _name(settings: tuple[tuple[str, Any], ...]) -> str:
    values = dict(settings)
    bits = "".join(f"{letter}{values.pop(name)}" for letter, name in _BITS.items() if name in values)
    rest = [f"{name}={str(v).lower() if isinstance(v, bool) else v}" for name, v in sorted(values.items())]
    return "+".join(([bits] if bits else []) + rest) or CURRENT


def _parse(text: str) -> dict[str, Any]:
    if text == CURRENT:
        return {}
    settings: dict[str, Any] = {}
    for part in (piece.strip() for piece in text.split("+")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        bits = _BITS_TEXT.fullmatch(part)
        if part and bits:
            found = {_BITS[k]: int(v) for k, v in zip(_BITS, bits.groups(), strict=True) if v}
        elif equals and name in _DEFAULTS:
            found = {name: _value(text, name, value)}
        else:
            raise ValueError(
                f"candidate {text!r}: expected {CURRENT!r}, bits such as 'W4', 'A6', 'W4A6' or 'R8', or "
                f"'setting=value', joined by '+'; {_advice(part)}"
            )
        twice = sorted(set(found) & set(settings))
        if twice:
            raise ValueError(f"candidate {text!r}: {twice[0]} is set twice")
        settings.update(found)
    return settings


def _advice(part: str) -> str:
    name = part.partition("(")[0]
    ops = [op for op in METHOD_OPS if name in methods(op)]
    if ops:
        return f"a method is written {' or '.join(f'{op}={part}' for op in ops)!r}"
    return f"the settings are {', '.join(sorted(_DEFAULTS))}"


def _value(text: str, name: str, value: str) -> Any:
    kind = type(_DEFAULTS[name])
    try:
        return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        raise ValueError(f"candidate {text!r}: expected {name} as {kind.__name__}, got {value!r}") from None
