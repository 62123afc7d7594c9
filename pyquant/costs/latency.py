"""Measured latency: what each candidate costs at each site, on this machine, with these kernels."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyquant import _C
from pyquant.costs.sizes import CandidateRow, CandidateTable, config_of, table_rows
from pyquant.costs.values import CURRENT, CostRow, Costs
from pyquant.engine.profile import interleaved

if TYPE_CHECKING:
    from pyquant.engine import IntegerModel
    from pyquant.graph import Prepared
    from pyquant.graph.sites import Site

__all__ = ["measure_latency"]

# Settings that choose another instruction, or other constants of which its time depends. The rest chooses
# numbers: 2 to 8 bits of an edge are one container, a zero point is part of a bias, and every method of an
# element-wise function fills the same table.
_KERNEL = ("softmax", "norm", "weight_bits", "group_size")

Settings = tuple[tuple[str, Any], ...]
Times = Mapping[tuple[str, ...], Sequence[float]]


def measure_latency(
    prepared: Prepared,
    table: CandidateTable,
    *,
    batch: int = 1,
    threads: int = 1,
    repeat: int = 20,
    progress: bool = True,
) -> Costs:
    """Time every site with every candidate: metric ``latency_ms``, of a run of `batch` samples.

    The model is converted once as it is and once for each distinct candidate, with that candidate at every
    site for which the table has it. All programs then run in turn, step by step, `repeat` times; each
    difference is taken within a round, against the model as it is, and the median over the rounds counts.

    Parameters
    ----------
    prepared : Prepared
        Calibrated, wholly integer; not changed.
    table : SensitivityTable
        Or anything with ``rows`` that have ``site``, ``candidate`` and ``settings``.
    batch, threads, repeat : int
    progress : bool
        Show a progress bar.

    Returns
    -------
    Costs
        Candidate ``"current"`` is the model as it is, for every step, so that its sum is the time of a run.
        Where two sites run as one pass, the first holds the time as configured; what a candidate changes
        belongs to the site that has it, and may be negative there. Candidates that change no kernel (bits of
        an edge, observers, element-wise methods) cost what the site costs as configured.

    Raises
    ------
    ValueError
        `batch`, `threads` or `repeat` is below 1; the table has a site that the model lacks; a candidate
        makes a wide edge narrow or the other way round, which changes more than its site.
    CalibrationError, CoverageError
        The model cannot be converted.
    """
    from tqdm.auto import tqdm

    from pyquant.verbs.convert import convert

    for name, value in (("batch", batch), ("threads", threads), ("repeat", repeat)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"measure_latency: expected {name} >= 1, got {value!r}")
    sites = prepared.sites()
    variants: dict[Settings, dict[str, CandidateRow]] = {}
    unchanged = []
    for row in table_rows(table, sites):
        settings = _kernel_settings(sites[row.site], row)
        if settings:
            variants.setdefault(settings, {})[row.site] = row
        else:
            unchanged.append(row)
    bar = tqdm(variants.values(), desc="convert", unit="candidate", disable=not progress, leave=False)
    models = [convert(prepared), *(convert(_with(prepared, rows)) for rows in bar)]
    rounds = tqdm(range(repeat), desc="measure", unit="round", disable=not progress, leave=False)
    base, *others = interleaved([_program(model) for model in models], batch, threads, rounds)

    groups = _groups([base, *others])
    alone = _as_configured(base)
    alone.update({name: 0.0 for name in sites if name not in alone})  # constants, views
    values = {(name, CURRENT): seconds for name, seconds in alone.items()}
    for row in unchanged:
        values[row.site, row.candidate] = alone[row.site]
    for times, rows in zip(others, variants.values(), strict=True):
        for name, row in rows.items():
            group = groups.get(name, frozenset({name}))
            paired = zip(_rounds(times, group), _rounds(base, group), strict=True)
            difference = statistics.median(a - b for a, b in paired)
            values[name, row.candidate] = alone[name] + difference / len(group & rows.keys())
    return Costs(
        tuple(CostRow(s, c, (("latency_ms", round(1e3 * v, 9)),)) for (s, c), v in values.items()),
        meta={"batch": batch, "threads": threads, "repeat": repeat, "isa": _C.isa_active()},
    )


def _program(model: IntegerModel) -> tuple[Any, Any]:
    return model._spec, model._program


def _kernel_settings(site: Site, row: CandidateRow) -> Settings:
    """What of a candidate makes the engine do something else at this site."""
    config, wanted = site.config, config_of(site, row)
    if wanted.keep_float != config.keep_float:
        raise ValueError(f"measure_latency: {row.candidate!r} at {row.site!r}: keep_float is no candidate")
    if site.wide and (wanted.residual_bits > 8) != (config.residual_bits > 8):
        raise ValueError(
            f"measure_latency: {row.candidate!r} at {row.site!r} changes the width of an edge, and so the "
            f"sites that read it; prepare the model so, and measure that"
        )
    return tuple((n, getattr(wanted, n)) for n in _KERNEL if getattr(wanted, n) != getattr(config, n))


def _with(prepared: Prepared, rows: Mapping[str, CandidateRow]) -> Prepared:
    """A copy with a candidate at some sites."""
    from torch import fx

    from pyquant.graph.values import constant_of

    changed = copy.deepcopy(prepared)
    memo: dict[Any, Any] = {}
    for node, site in list(changed.site_nodes()):
        if site.name in rows:
            weights = [constant_of(changed, a, memo) for a in node.args if isinstance(a, fx.Node)]
            made = site.with_settings(dict(rows[site.name].settings), *weights)
            changed.set_submodule(str(node.target), made)
    return changed


def _groups(programs: Sequence[Times]) -> dict[str, frozenset[str]]:
    """Sites that run as one pass in any of the programs, with each other and with what those run with."""
    group: dict[str, frozenset[str]] = {}
    for sites in (sites for times in programs for sites in times):
        joined = frozenset(sites).union(*(group.get(name, frozenset()) for name in sites))
        group.update(dict.fromkeys(joined, joined))
    return group


def _as_configured(times: Times) -> dict[str, float]:
    """Median seconds of each site; of two that run as one, the first has them."""
    found: dict[str, float] = {}
    for (first, *rest), seconds in times.items():
        found[first] = found.get(first, 0.0) + statistics.median(seconds)
        for name in rest:
            found.setdefault(name, 0.0)
    return found


def _rounds(times: Times, group: frozenset[str]) -> list[float]:
    """Seconds of all steps of a group, in each round."""
    steps = [seconds for sites, seconds in times.items() if group & set(sites)]
    return [sum(each) for each in zip(*steps, strict=True)] if steps else [0.0] * _count(times)


def _count(times: Times) -> int:
    return len(next(iter(times.values()), ()))
