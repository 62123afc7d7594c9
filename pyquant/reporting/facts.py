"""Sections about the model: what it is, what became of its operations, how accurate and how fast it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import yaml

from pyquant.assignment import Plan
from pyquant.config import PRESETS, Override, QuantConfig, SiteConfig
from pyquant.coverage import Coverage
from pyquant.engine import IntegerModel
from pyquant.engine.profile import Profile, ProfileRow
from pyquant.graph.prepared import Prepared
from pyquant.graph.quantizers import QuantizerGrid
from pyquant.graph.sites import Site
from pyquant.reporting.parts import Listing, Part, Section, Table, Text
from pyquant.verbs.evaluate import Evaluation

__all__ = ["accuracy", "coverage", "latency", "summary"]

_MANY_OVERRIDES = 12
_SHORT = 0.02  # seconds of a run whose steps are best told in microseconds


def summary(prepared: Prepared, plan: Plan | None, program: IntegerModel | None, why_not: str) -> Section:
    """Name, parameters, sites, bits, methods, sizes, configuration."""
    sites = prepared.sites().values()
    integer = [site for site in sites if not site.simulated]
    parameters = list(prepared.parameters())
    floats = sum(p.numel() * p.element_size() for p in parameters)
    rows = [
        ("model", type(prepared).__name__.removeprefix("Prepared")),
        ("parameters", f"{sum(p.numel() for p in parameters):,}"),
        ("integer sites", f"{len(integer)}: {_counted(site.kind for site in integer)}"),
        (
            "bits of weights",
            _counted(f"{s.config.weight_bits} bit" for s in sites if "weight_bits" in s.settings_used),
        ),
        ("bits of edges", _counted(f"{s.output.bits} bit" for s in sites)),
        ("quantizers", _counted(text for s in sites for text in _quantizers(s))),
        ("simulated sites", _counted(s.kind for s in sites if s.simulated)),
        ("methods", _counted(f"{s.method}={getattr(s.config, s.method)}" for s in sites if s.method)),
        ("float weights", f"{floats:,} bytes"),
        ("integer program", _program_size(program, floats) or f"none: {why_not}"),
    ]
    listed = [row for row in rows if row[1]]
    return Section("summary", "Model", [Table((), listed, left=2), *_config(prepared.quant_config, plan)])


def _quantizers(site: Site) -> list[str]:
    """Those of the registry, at edges and weights."""
    config, found = site.config, list[str]()
    if isinstance(site.output, QuantizerGrid):
        found.append(f"quantizer={config.quantizer}")
    if getattr(site, "weight_quantizer", None) is not None:
        found.append(f"weight_quantizer={config.weight_quantizer}")
    return found


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in Counter(names).most_common())


def _program_size(program: IntegerModel | None, floats: int) -> str:
    if program is None:
        return ""
    size = sum(v.size * np.dtype(v.dtype).itemsize for v in program.spec.values if v.kind == "const")
    share = f", {100 * size / floats:.0f} % of the float weights" if floats else ""
    return f"{size:,} bytes of constants (weights, biases, tables){share}"


def _config(config: QuantConfig, plan: Plan | None) -> list[Part]:
    """The preset's name, or what differs from the defaults; a plan's own overrides are told by the plan."""
    planned = set() if plan is None else set(plan.apply(QuantConfig()).overrides)
    overrides = [each for each in config.overrides if each not in planned]
    dropped = len(config.overrides) - len(overrides)
    plain = QuantConfig(base=config.base)
    name = next((name for name, preset in PRESETS.items() if preset == plain), "")
    defaults, base = SiteConfig(), config.base
    differs = {k: v for k, v in vars(base).items() if v != getattr(defaults, k)}
    text = f"Configuration: {name or ('its own base settings' if differs else 'defaults')}"
    if overrides:
        text += f", {len(overrides)} overrides"
    if dropped:
        text += f", {dropped} settings of the plan"
    parts: list[Part] = [Text(text + ".")]
    shown = {**({"base": differs} if differs and not name else {}), **_shown(overrides)}
    if shown:
        parts.append(Listing(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).rstrip("\n")))
    if len(overrides) > _MANY_OVERRIDES:
        parts.append(Text(f"The first {_MANY_OVERRIDES} of {len(overrides)} overrides."))
    return parts


def _shown(overrides: list[Override]) -> dict[str, object]:
    if not overrides:
        return {}
    return {"overrides": [{"select": o.select, **dict(o.settings)} for o in overrides[:_MANY_OVERRIDES]]}


def coverage(found: Coverage) -> Section:
    """Operations by what became of them, and those that stay float."""
    kinds = list(found.counts)
    counts: dict[str, Counter[str]] = {}
    for row in found:
        counts.setdefault(row.op, Counter())[row.kind] += 1
    rows = [(op, *(str(count[kind] or "") for kind in kinds)) for op, count in counts.items()]
    parts: list[Part] = [Text(f"{found.summary()}."), Table(("operation", *kinds), rows)]
    floats = [(row.site, row.op, row.reason) for row in found.float_rows]
    if floats:
        parts += [Text("What stays float, and why:"), Table(("site", "operation", "reason"), floats, left=3)]
    simulated = [(row.site, row.op, row.reason) for row in found.simulated_rows]
    if simulated:
        text = "What is simulated in float, since a quantizer has no integer form:"
        parts += [Text(text), Table(("site", "operation", "reason"), simulated, left=3)]
    return Section("coverage", "Coverage", parts)


def accuracy(found: Mapping[str, Evaluation | float]) -> Section:
    """Top-1 of each state of the model beside the first one, and how its predictions and logits differ."""
    if not found:
        hint = "Not measured: pass batches with targets, or evaluations={'float': ..., 'W8A8': ...}."
        return Section("accuracy", "Accuracy", [Text(hint, hint=True)])
    first = next(iter(found.values()))
    rows = [(name, *_accuracy_row(value, None if value is first else first)) for name, value in found.items()]
    header = ("", "top-1 %", "difference", "correct", "top-5 %", "loss", "flips %", "SQNR of logits, dB")
    used = [i for i in range(len(header)) if i < 2 or any(row[i] for row in rows)]
    table = Table([header[i] for i in used], [[row[i] for i in used] for row in rows])
    name = next(iter(found))
    note = f"Differences, predictions that flip, and SQNR are against the first row ({name})."
    return Section("accuracy", "Accuracy", [table, *([Text(note)] if len(rows) > 1 else [])])


def _accuracy_row(value: Evaluation | float, first: Evaluation | float | None) -> tuple[str, ...]:
    top1 = value.top1 if isinstance(value, Evaluation) else value
    base = first.top1 if isinstance(first, Evaluation) else first
    difference = "" if base is None or math.isnan(top1 - base) else f"{top1 - base:+.2f}"
    if not isinstance(value, Evaluation):
        return (_number(top1, 2), difference, "", "", "", "", "")
    known = not math.isnan(top1)
    correct = f"{round(top1 * value.count / 100):,} of {value.count:,}" if known else f"of {value.count:,}"
    alike = isinstance(first, Evaluation) and first.logits.shape == value.logits.shape
    flips = sqnr = ""
    if isinstance(first, Evaluation) and alike:
        flips, sqnr = f"{value.flips(first):.2f}", f"{value.sqnr(first):.1f}"
    return (
        _number(top1, 2),
        difference,
        correct,
        _number(value.top5, 2),
        _number(value.loss, 4),
        flips,
        sqnr,
    )


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def latency(profile: Profile | None, why_not: str) -> Section:
    """The time of each step of a run, and of each kind of step."""
    if profile is None:
        return Section("latency", "Latency by site", [Text(why_not, hint=True)])
    by_op: dict[str, list[ProfileRow]] = {}
    for row in profile:
        by_op.setdefault(row.op, []).append(row)
    whole = profile.seconds or 1.0
    sums = {op: sum(row.seconds for row in rows) for op, rows in by_op.items()}
    order = sorted(sums, key=lambda op: -sums[op])
    unit, factor = ("µs", 1e6) if profile.seconds < _SHORT else ("ms", 1e3)
    ops = [
        (op, str(len(by_op[op])), f"{factor * sums[op]:.2f}", f"{100 * sums[op] / whole:.1f} %")
        for op in order
    ]
    steps = [
        (
            row.site,
            row.op,
            f"({', '.join(map(str, row.shape))})",
            f"{row.macs / 1e6:.1f}" if row.macs else "",
            f"{100 * row.limit / row.seconds:.0f}" if row.seconds else "",
            f"{factor * row.seconds:.2f}",
            f"{100 * row.seconds / whole:.1f} %",
        )
        for row in profile
    ]
    longest = max((row.seconds for row in profile), default=1.0) or 1.0
    return Section(
        "latency",
        "Latency by site",
        [
            *(Text(f"{line[0].upper()}{line[1:]}.") for line in profile.summary()),
            Table(("operation", "steps", unit, "share"), ops, shares=[sums[op] / whole for op in order]),
            Table(
                ("site", "operation", "shape", "MMAC", "% of limit", unit, "share"),
                steps,
                left=2,
                shares=[row.seconds / longest for row in profile],
            ),
        ],
    )
