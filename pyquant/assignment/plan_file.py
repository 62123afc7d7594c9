"""The YAML of a plan: written for `diff`, read without trust."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NoReturn

import yaml

from pyquant.assignment.plan import Alternative, Choice, Numbers, Plan
from pyquant.config import PRESETS, QuantConfig, SiteConfig, resolve_config

__all__ = ["VERSION", "from_yaml", "to_yaml"]

VERSION = 1
HEADER = ("version", "model", "config", "objective", "options", "constraints", "solver", "totals")
SITE = ("site", "kind", "candidate", "settings", "score", "costs", "next")
NEXT = ("candidate", "score", "costs")


def to_yaml(plan: Plan) -> str:
    """A header, then a block for each site, a blank line between them; empty fields are left out."""
    header = {
        "version": VERSION,
        "model": plan.model,
        "config": _config(plan.config),
        "objective": plan.objective,
        "options": dict(plan.options),
        "constraints": dict(plan.constraints),
        "solver": plan.solver,
        "totals": dict(plan.totals),
    }
    blocks = [_block(_filled(header)) + "sites:"]
    for choice in plan.choices:
        site = _filled(
            {
                "site": choice.site,
                "kind": choice.kind,
                "candidate": choice.candidate,
                "settings": dict(choice.settings) or None,
                "score": choice.score,
                "costs": dict(choice.costs),
            }
        )
        if choice.runner_up is not None:
            site["next"] = _filled(
                {
                    "candidate": choice.runner_up.candidate,
                    "score": choice.runner_up.score,
                    "costs": dict(choice.runner_up.costs),
                }
            )
        blocks.append("- " + _block(site).rstrip("\n").replace("\n", "\n  "))
    if not plan.choices:
        blocks[0] += " []"
    return "\n\n".join(blocks) + "\n"


def _filled(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value not in (None, "", {})}


def _block(data: Mapping[str, Any]) -> str:
    """A key a line; the innermost mappings on the line of their key, names never folded."""
    return "".join(
        yaml.safe_dump(
            {key: value},
            sort_keys=False,
            default_flow_style=None if isinstance(value, Mapping) else False,
            width=2**20,
            allow_unicode=True,
        )
        for key, value in data.items()
    )


def _config(config: QuantConfig | None) -> Any:
    """A preset's name, or what differs from the defaults."""
    if config is None:
        return None
    for name, preset in PRESETS.items():
        if config == preset:
            return name
    default = dataclasses.asdict(SiteConfig())
    data = config.to_dict()
    data["base"] = {key: value for key, value in data["base"].items() if value != default[key]}
    return _filled({"base": data["base"], "overrides": data["overrides"] or None}) or "W8A8"


def from_yaml(text: str, source: str) -> Plan:
    """Inverse of `to_yaml`; `source` names the file in errors.

    Raises
    ------
    ValueError
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"plan: {source} is not YAML: {error}") from None
    try:
        return _plan(data)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _plan(data: Any) -> Plan:
    if not isinstance(data, Mapping) or "version" not in data:
        _fail("expected a mapping with a version", data)
    if data["version"] != VERSION:
        _fail(f"this pyquant reads version {VERSION}, the file has", data["version"])
    top = _mapping(data, "the plan", (*HEADER, "sites"), required=("objective", "sites"))
    if not isinstance(top["sites"], list):
        _fail("expected sites to be a list", top["sites"])
    config = top.get("config")
    return Plan(
        choices=tuple(_choice(each) for each in top["sites"]),
        objective=_text(top, "objective"),
        options=tuple(_settings(top, "options").items()),
        constraints=_numbers(top, "constraints"),
        solver=_text(top, "solver", Plan.solver),
        totals=_numbers(top, "totals"),
        config=None if config is None else resolve_config(config),
        model=_text(top, "model", ""),
    )


def _choice(data: Any) -> Choice:
    site = _mapping(data, "a site", SITE, required=("site", "kind", "candidate", "score"))
    other = site.get("next")
    runner_up = None
    if other is not None:
        other = _mapping(other, f"next of {site['site']!r}", NEXT, required=("candidate", "score"))
        runner_up = Alternative(_text(other, "candidate"), other["score"], _numbers(other, "costs"))
    return Choice(
        candidate=_text(site, "candidate"),
        score=site["score"],
        costs=_numbers(site, "costs"),
        site=_text(site, "site"),
        kind=_text(site, "kind"),
        settings=tuple(_settings(site, "settings").items()),
        runner_up=runner_up,
    )


def _mapping(data: Any, what: str, known: tuple[str, ...], required: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        _fail(f"expected {what} to be a mapping", data)
    for key in data:
        if key not in known:
            _fail(f"{what} has an unknown key (there are {', '.join(known)})", key)
    for key in required:
        if key not in data:
            _fail(f"{what} lacks {key!r}", dict(data))
    return data


def _text(data: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = data.get(key, default)
    if not isinstance(value, str):
        _fail(f"expected {key} to be text", value)
    return value


def _settings(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        _fail(f"expected {key} to be a mapping of names", value)
    return dict(value)


def _numbers(data: Mapping[str, Any], key: str) -> Numbers:
    return tuple(_settings(data, key).items())


def _fail(rule: str, value: object) -> NoReturn:
    shown = repr(value)
    raise ValueError(f"plan: {rule}: {shown if len(shown) <= 80 else shown[:77] + '...'}")
