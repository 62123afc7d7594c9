"""How a quantizer is written, ``name`` or ``name(parameter=value, ...)``, and which there are.

Configurations hold these texts and are read without torch; the classes are in `pyquant.quantizers`, whose
parameters `PARAMETERS` repeats (a test compares them).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["PARAMETERS", "parse", "setting", "text_of"]

_GRANULAR: dict[str, Any] = {"bits": 8, "axis": None, "group_size": 0}
_STATIC = {**_GRANULAR, "dynamic": False}
_CODEBOOK = {**_STATIC, "learn_scale": False}
_SIGNED = {**_GRANULAR, "signed": True}

PARAMETERS: dict[str, Mapping[str, Any]] = {
    "affine": _STATIC,
    "symmetric": _STATIC,
    "pow2": _STATIC,
    "log2": _CODEBOOK,
    "log_sqrt2": _CODEBOOK,
    "shift_uniform_log2": {**_CODEBOOK, "powers": True},
    "adalog": {**_CODEBOOK, "denominator": 37},
    "twin_softmax": _CODEBOOK,
    "twin_gelu": _CODEBOOK,
    "lsq": _SIGNED,
    "lsq_plus": _SIGNED,
    "pact": _GRANULAR,
    "tqt": _GRANULAR,
    "dorefa": {"bits": 8},
    "dsq": {**_GRANULAR, "alpha": 0.2},
}
"""Parameters with their defaults, in the order of each signature. `register_quantizer` adds to them."""

_FOR_WEIGHTS = ("dorefa",)
_DEFAULT_BITS = 8


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Name and given parameters.

    Raises
    ------
    ValueError
        Another name, a parameter that it lacks or that is there twice, a value of another kind.
    """
    form = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text)
    if form is None:
        raise ValueError(f"quantizer: expected name or name(parameter=value, ...), got {text!r}")
    quantizer = form.group(1)
    known = PARAMETERS.get(quantizer)
    if known is None:
        raise ValueError(f"quantizer: expected one of {', '.join(PARAMETERS)}, got {quantizer!r}")
    found = dict[str, Any]()
    for word in (form.group(2) or "").split(",") if (form.group(2) or "").strip() else []:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals or name not in known:
            raise ValueError(
                f"{quantizer}: expected parameters {', '.join(known)} as name=value, got {word.strip()!r}"
            )
        if name in found:
            raise ValueError(f"{quantizer}: expected {name} once, got it twice")
        found[name] = _value(quantizer, name, known[name], value)
    return quantizer, found


def text_of(name: str, parameters: Mapping[str, Any]) -> str:
    """The text of a name with these parameters, in the order of its signature."""
    words = [f"{key}={str(parameters[key]).lower()}" for key in PARAMETERS[name] if key in parameters]
    return f"{name}({','.join(words)})" if words else name


def _value(quantizer: str, name: str, default: Any, text: str) -> Any:
    """A value of the kind that the default is; None stands for an integer or none."""
    kind, read = "an integer or none", int
    if isinstance(default, bool):
        words = {"true": True, "false": False}
        if text.lower() in words:
            return words[text.lower()]
        raise ValueError(f"{quantizer}: expected {name} true or false, got {text!r}")
    if default is None and text.lower() == "none":
        return None
    if isinstance(default, float):
        kind, read = "a finite number", float  # type: ignore[assignment]
    elif default is not None:
        kind = "an integer"
    try:
        value = read(text)
        if value - value != 0:
            raise ValueError(text)
    except ValueError:
        raise ValueError(f"{quantizer}: expected {name} {kind}, got {text!r}") from None
    return value


def setting(field: str, value: object, bits_field: str, bits: int) -> tuple[str, int]:
    """A quantizer as a configuration stores it, and its bits, which the text may give.

    Parameters
    ----------
    field : str
        ``quantizer`` or ``weight_quantizer``.
    value : object
        ``fixed``, or a text of `PARAMETERS`.
    bits_field, bits : str, int
        The setting that holds the bits. Its default, 8, gives way to bits in the text.

    Returns
    -------
    (str, int)
        The text without bits and without what is at its default (a given axis excepted: weights have one
        scale a channel unless they are given another), and the bits.

    Raises
    ------
    ValueError
        No such quantizer, a wrong parameter, one for weights at an edge, or bits that contradict the setting.
    """
    if value == "fixed":
        return "fixed", bits
    if not isinstance(value, str) or value.partition("(")[0].strip() not in PARAMETERS:
        raise ValueError(f"{field}: expected one of fixed, {', '.join(PARAMETERS)}, got {value!r}")
    try:
        name, given = parse(value)
    except ValueError as error:
        raise ValueError(f"{field}: {str(error).removeprefix('quantizer: ')}") from None
    if name in _FOR_WEIGHTS and field == "quantizer":
        raise ValueError(f"{field}: expected a quantizer of edges, got {name!r}, which is for weights")
    if "bits" in given:
        if bits not in (_DEFAULT_BITS, given["bits"]):
            raise ValueError(
                f"{field}: expected the bits of {bits_field}, {bits}, or none in the text, got {value!r}"
            )
        if not 2 <= given["bits"] <= 8:
            raise ValueError(f"{field}: expected bits in [2, 8], got {value!r}")
        bits = given.pop("bits")
    known = PARAMETERS[name]
    kept = {
        key: each
        for key, each in given.items()
        if each != known[key] or (key == "axis" and field == "weight_quantizer")
    }
    return text_of(name, kept), bits
