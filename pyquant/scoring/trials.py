"""Trials: which candidates a site tries, each as a site of its own with that candidate's settings."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import fx

from pyquant.candidates import Candidate
from pyquant.errors import CalibrationError
from pyquant.graph.prepared import Prepared
from pyquant.graph.sites import Site
from pyquant.graph.streams import Walk
from pyquant.graph.values import constant_of

__all__ = ["Candidates", "Trial", "make_trials"]

One: TypeAlias = "str | Mapping[str, Any] | Candidate"
Candidates: TypeAlias = "Iterable[One] | Mapping[str, Iterable[One]] | None"


@dataclass(frozen=True)
class Trial:
    """One candidate at one site.

    Attributes
    ----------
    candidate : Candidate
        As it was asked for.
    settings : tuple of (str, value)
        Those of its settings that matter here.
    site : Site
        What computes it; the model's own site where the settings are those it has.
    """

    candidate: Candidate
    settings: tuple[tuple[str, Any], ...]
    site: Site

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors of values inside say which candidate it was."""
        try:
            yield
        except (ValueError, OverflowError, RuntimeError) as error:
            if type(error) not in (ValueError, OverflowError, RuntimeError):  # out of memory, say
                raise
            raise ValueError(f"candidate {self.candidate.name!r}: {error}") from error


def make_trials(
    prepared: Prepared, walk: Walk, select: str, candidates: Candidates
) -> dict[str, tuple[Trial, ...]]:
    """The trials of every selected site that has any, in the order of execution.

    Raises
    ------
    ValueError
        A glob or a candidate that fits no site, or settings that do not go together at one.
    CalibrationError
        Nothing is known of a site from which a grid could be chosen.
    """
    selected = prepared.sites(select)
    sites = {name: site for name, (_, site) in walk.sites.items() if name in selected}
    if not sites:
        raise ValueError(f"select: {select!r} matches only sites that take no part in inference")
    constants: dict[fx.Node, Any] = {}
    found = {}
    for name, chosen in _choose(sites, candidates).items():
        node, site = walk.sites[name]
        extras = [a for a in node.args if isinstance(a, fx.Node)]
        weights = [constant_of(prepared, extra, constants) for extra in extras]
        found[name] = tuple(_trial(site, candidate, weights) for candidate in chosen)
    return found


def _trial(site: Site, candidate: Candidate, weights: list[Any]) -> Trial:
    part = fitting(site, candidate)
    assert part is not None
    settings = dict(part.settings)
    if all(getattr(site.config, name) == value for name, value in settings.items()):
        return Trial(candidate, part.settings, site)
    try:
        return Trial(candidate, part.settings, site.with_settings(settings, *weights))
    except CalibrationError as error:
        raise CalibrationError(f"candidate {candidate.name!r}: {error}") from None
    except ValueError as error:
        raise ValueError(f"candidate {candidate.name!r} at site {site.name!r}: {error}") from None


def fitting(site: Site, candidate: Candidate) -> Candidate | None:
    """What of a candidate matters at a site; None if nothing does."""
    used = set(site.settings_used)
    text = dict(candidate.settings).get(site.method)
    if text is not None and text.partition("(")[0] not in site.methods():
        used.discard(site.method)
    part = candidate.part(frozenset(used))
    return part if part.settings or not candidate.settings else None


def _choose(sites: Mapping[str, Site], candidates: Candidates) -> dict[str, list[Candidate]]:
    """Site -> candidates that fit it, without repetition."""
    if candidates is None:
        found = {
            name: [Candidate.of({site.method: method}) for method in site.methods()]
            for name, site in sites.items()
        }
        if not any(found.values()):
            raise ValueError(
                "candidates: no selected site has a choice of methods; name candidates, such as 'W4' or 'A6'"
            )
        return {name: chosen for name, chosen in found.items() if chosen}
    if isinstance(candidates, (str, Candidate)):
        raise TypeError(f"candidates: expected a list or a mapping from globs to lists, got {candidates!r}")
    asked = candidates.items() if isinstance(candidates, Mapping) else [("*", candidates)]
    chosen: dict[str, dict[str, Candidate]] = {}
    for select, values in asked:
        if isinstance(values, (str, Candidate, Mapping)) or not isinstance(values, Iterable):
            raise TypeError(f"candidates: expected a list for {select!r}, got {values!r}")
        here = {name: site for name, site in sites.items() if fnmatch.fnmatchcase(name, select)}
        if not here:
            raise ValueError(
                f"candidates: {select!r} matches no selected site; "
                f"they are named like {', '.join(list(sites)[:3])}"
            )
        for candidate in map(Candidate.of, values):
            fits = [name for name, site in here.items() if fitting(site, candidate) is not None]
            if not fits:
                raise ValueError(_no_fit(candidate, select, here))
            for name in fits:
                chosen.setdefault(name, {})[candidate.name] = candidate
    if not chosen:
        raise ValueError("candidates: expected at least one candidate, got none")
    return {name: list(chosen[name].values()) for name in sites if name in chosen}


def _no_fit(candidate: Candidate, select: str, sites: Mapping[str, Site]) -> str:
    fields = sorted({name for site in sites.values() for name in site.settings_used})
    methods = sorted({f"{s.method}={m}" for s in sites.values() if s.method for m in s.methods()})
    has = ", ".join([*fields, *(["methods " + ", ".join(methods)] if methods else [])])
    return (
        f"candidates: {candidate.name!r} fits none of the {len(sites)} sites of {select!r}; "
        f"what matters at them is {has}"
    )
