"""What to quantize, to how many bits, and how to choose the scales."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pyquant.methods import canonical
from pyquant.quantizer_text import setting

__all__ = ["PRESETS", "Override", "QuantConfig", "SiteConfig", "resolve_config"]

OBSERVERS = ("minmax", "ema", "percentile", "mse", "omse", "lp", "kl", "hessian")
WEIGHT_OBSERVERS = ("absmax", "mse", "omse")
GRADIENTS = ("float", "approximation")
METHOD_OPS = ("softmax", "unary", "norm")  # settings that hold a method's text


def _bits(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}: expected an integer in [{low}, {high}], got {value!r}")


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name}: expected a number, got {value!r}")
    return value


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")


def _method(op: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{op}: expected the name of a method, got {value!r}")
    return canonical(op, value)


@dataclass(frozen=True, kw_only=True)
class SiteConfig:
    """The settings of one site, after presets and overrides.

    Parameters
    ----------
    weight_bits : int
        2 to 8; symmetric, narrow range, one scale per output channel. Up to 4, two weights share a byte.
    group_size : int
        0, or a multiple of 4, usually 32 to 128: so many weights of a channel share a scale, a small integer
        multiple of the channel's. Only with weight_bits up to 4.
    activation_bits : int
        2 to 8: edges that an int8 operation consumes.
    residual_bits : int
        2 to 16: edges that only wide operations consume (residual stream, norms, model output).
    symmetric : bool
        Zero point 0 for int8 edges. 16-bit edges, and q, k, v of attention, always are symmetric.
    observer, residual_observer : str
        How calibration chooses a range: ``minmax``, ``ema``, ``percentile``, ``mse``, ``omse``, ``lp``,
        ``kl``, or ``hessian``, which needs a loss (`pyquant.calibrate`). docs/observers.md defines them.
    weight_observer : str
        ``absmax`` (follows the weights at every forward), or ``mse`` or ``omse`` (chosen at calibration, then
        kept).
    quantizer, weight_quantizer : str
        The quantizers of edges (of up to 8 bits) and of weights: ``fixed`` leaves scales as calibration (or
        the weights) gave them, ``lsq`` learns them (LSQ, arXiv 1902.08153), and any text of
        `pyquant.quantizers` names another: ``"pact"``, ``"adalog(denominator=17)"``, ``"dorefa"`` (weights
        only). Bits are those of activation_bits (residual_bits) and weight_bits; bits in the text replace a
        setting of 8, the default, and contradict any other. Learned scales of weights begin with what
        weight_observer chooses. docs/training.md says which of them `pyquant.convert` takes.
    percentile : float
        Share of values inside the range, in percent, for ``percentile``.
    momentum : float
        Weight of the old range for ``ema``.
    lp_norm : float
        The power of the error for ``lp``, 1 to 10.
    softmax, unary, norm : str
        The methods of the softmax inside attention or alone, of element-wise functions, and of LayerNorm and
        RMSNorm, as `pyquant.methods` lists them: ``"table16"``, ``"ibert(bits=8)"``.
    gradient : str
        Whose gradient softmax, element-wise functions and norms have in training: ``float``, of the function
        that the method approximates, or ``approximation``, of what the method computes: the central
        difference of a table, the Jacobian P (dP - sum(P dP)) with the method's own probabilities P, the
        formula of a norm with its own mean and deviation (docs/training.md). The results are the same.
    keep_float : bool
        Leave the site in float on purpose; `coverage()` lists it.
    """

    weight_bits: int = 8
    group_size: int = 0
    activation_bits: int = 8
    residual_bits: int = 16
    symmetric: bool = False
    observer: str = "mse"
    residual_observer: str = "minmax"
    weight_observer: str = "absmax"
    quantizer: str = "fixed"
    weight_quantizer: str = "fixed"
    percentile: float = 99.99
    momentum: float = 0.95
    lp_norm: float = 2.4
    softmax: str = "table16"
    unary: str = "table"
    norm: str = "exact"
    gradient: str = "float"
    keep_float: bool = False

    def __post_init__(self) -> None:
        _bits("weight_bits", self.weight_bits, 2, 8)
        _bits("group_size", self.group_size, 0, 2**30)
        if self.group_size % 4 != 0 or (self.group_size > 0 and self.weight_bits > 4):
            raise ValueError(
                f"group_size: expected 0, or a multiple of 4 with weight_bits up to 4, "
                f"got {self.group_size} with weight_bits {self.weight_bits}"
            )
        _bits("activation_bits", self.activation_bits, 2, 8)
        _bits("residual_bits", self.residual_bits, 2, 16)
        _one_of("observer", self.observer, OBSERVERS)
        _one_of("residual_observer", self.residual_observer, OBSERVERS)
        _one_of("weight_observer", self.weight_observer, WEIGHT_OBSERVERS)
        _one_of("gradient", self.gradient, GRADIENTS)
        for name, bits in (("quantizer", "activation_bits"), ("weight_quantizer", "weight_bits")):
            text, number = setting(name, getattr(self, name), bits, getattr(self, bits))
            object.__setattr__(self, name, text)
            object.__setattr__(self, bits, number)
        if self.gradient != "float" and self.quantizer not in ("fixed", "lsq"):
            raise ValueError(
                f"gradient: expected float with quantizer {self.quantizer!r}, which has its own gradient, "
                f"got {self.gradient!r}"
            )
        if self.group_size > 0 and self.weight_quantizer not in ("fixed", "lsq"):
            raise ValueError(
                f"weight_quantizer: expected fixed or lsq with group_size {self.group_size}, "
                f"got {self.weight_quantizer!r}"
            )
        for op in METHOD_OPS:
            object.__setattr__(self, op, _method(op, getattr(self, op)))
        if not 50.0 < _number("percentile", self.percentile) <= 100.0:
            raise ValueError(f"percentile: expected a number in (50, 100], got {self.percentile!r}")
        if not 0.0 <= _number("momentum", self.momentum) < 1.0:
            raise ValueError(f"momentum: expected a number in [0, 1), got {self.momentum!r}")
        if not 1.0 <= _number("lp_norm", self.lp_norm) <= 10.0:
            raise ValueError(f"lp_norm: expected a number in [1, 10], got {self.lp_norm!r}")
        for name in ("symmetric", "keep_float"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}: expected true or false, got {getattr(self, name)!r}")


_FIELDS = {f.name for f in dataclasses.fields(SiteConfig)}


@dataclass(frozen=True)
class Override:
    """Settings for the sites whose name matches a glob, for example ``"vit.layers.*.attention.*"``."""

    select: str
    settings: tuple[tuple[str, Any], ...]

    def __post_init__(self) -> None:
        if not self.select:
            raise ValueError("select: expected a glob over site names, got an empty string")
        unknown = sorted({name for name, _ in self.settings} - _FIELDS)
        if unknown:
            raise ValueError(
                f"override {self.select!r}: unknown setting {unknown[0]!r}; there are {sorted(_FIELDS)}"
            )
        # Each value is checked now, not at prepare; a group_size alone is for a base of few weight_bits.
        settings = dict(self.settings)
        base = SiteConfig(weight_bits=4) if settings.get("group_size") else SiteConfig()
        dataclasses.replace(base, **settings)


@dataclass(frozen=True, kw_only=True)
class QuantConfig:
    """A base setting for every site, and overrides of which the last match wins."""

    base: SiteConfig = SiteConfig()
    overrides: tuple[Override, ...] = ()

    def override(self, select: str, **settings: Any) -> QuantConfig:
        """The same configuration with one more override at the end."""
        extra = Override(select, tuple(sorted(settings.items())))
        return dataclasses.replace(self, overrides=(*self.overrides, extra))

    def for_site(self, name: str) -> SiteConfig:
        """The settings of one site."""
        settings: dict[str, Any] = {}
        for each in self.overrides:
            if fnmatch.fnmatchcase(name, each.select):
                settings.update(each.settings)
        return dataclasses.replace(self.base, **settings)

    def check_names(self, names: Iterable[str]) -> None:
        """Raise ValueError for a glob that matches no site."""
        known = list(names)
        for each in self.overrides:
            if not fnmatch.filter(known, each.select):
                examples = ", ".join(known[:3])
                raise ValueError(
                    f"override {each.select!r} matches no site; sites are named like {examples}, ..."
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON and YAML."""
        return {
            "base": dataclasses.asdict(self.base),
            "overrides": [{"select": o.select, **dict(o.settings)} for o in self.overrides],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> QuantConfig:
        """Inverse of `to_dict`; a missing field keeps its default, an unknown one is a ValueError."""
        if not isinstance(data, Mapping):
            raise ValueError(f"config: expected a mapping, got {type(data).__name__}")
        unknown = sorted(set(data) - {"base", "overrides"})
        if unknown:
            raise ValueError(f"config: unknown key {unknown[0]!r}; there are base, overrides")
        base = data.get("base") or {}
        if not isinstance(base, Mapping):
            raise ValueError(f"config: expected base to be a mapping, got {base!r}")
        wrong = sorted(set(base) - _FIELDS)
        if wrong:
            raise ValueError(f"config: unknown setting {wrong[0]!r} in base; there are {sorted(_FIELDS)}")
        listed = data.get("overrides") or ()
        if not isinstance(listed, (list, tuple)):
            raise ValueError(f"config: expected overrides to be a list, got {listed!r}")
        overrides = []
        for item in listed:
            if not isinstance(item, Mapping) or "select" not in item:
                raise ValueError(f"config: each override needs a select, got {item!r}")
            rest = {k: v for k, v in item.items() if k != "select"}
            overrides.append(Override(str(item["select"]), tuple(sorted(rest.items()))))
        return cls(base=SiteConfig(**base), overrides=tuple(overrides))

    def save(self, path: str | Path) -> None:
        """Write YAML, or JSON if the name ends in .json."""
        text = (
            json.dumps(self.to_dict(), indent=2)
            if str(path).endswith(".json")
            else yaml.safe_dump(self.to_dict(), sort_keys=False)
        )
        Path(path).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> QuantConfig:
        """Read what `save` wrote (JSON is YAML).

        Raises
        ------
        ValueError
            The file is not YAML, or its content is no configuration.
        """
        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"config: {path} is not YAML: {error}") from None
        return cls.from_dict(data or {})


_FIXED: dict[str, SiteConfig] = {
    "W8A8": SiteConfig(),
    "W4A8": SiteConfig(weight_bits=4, weight_observer="mse"),
    "W6A6": SiteConfig(weight_bits=6, activation_bits=6),
    "W4A4": SiteConfig(weight_bits=4, activation_bits=4, weight_observer="mse"),
}
_LEARNED = {
    f"{name}-lsq": dataclasses.replace(site, quantizer="lsq", weight_quantizer="lsq", weight_observer="mse")
    for name, site in _FIXED.items()
}

PRESETS: Mapping[str, QuantConfig] = {
    name: QuantConfig(base=site) for name, site in (_FIXED | _LEARNED).items()
}
"""Each of ``W8A8``, ``W4A8``, ``W6A6`` and ``W4A4``, and the same with learned scales: ``W4A8-lsq``."""


def resolve_config(config: str | Mapping[str, Any] | QuantConfig) -> QuantConfig:
    """A preset's name, plain data or a configuration, as a configuration."""
    if isinstance(config, QuantConfig):
        return config
    if isinstance(config, str):
        if config in PRESETS:
            return PRESETS[config]
        if config.endswith((".yaml", ".yml", ".json")):
            return QuantConfig.load(config)
        raise ValueError(
            f"config: expected one of {', '.join(PRESETS)}, or a .yaml or .json file, got {config!r}"
        )
    if isinstance(config, Mapping):
        return QuantConfig.from_dict(config)
    raise ValueError(
        f"config: expected a preset name, a mapping or a QuantConfig, got {type(config).__name__}"
    )
