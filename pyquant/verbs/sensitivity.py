"""sensitivity: which site hurts, and which candidate suits it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from pyquant._version import __version__
from pyquant.batches import arguments, count_inputs, target_of
from pyquant.config import QuantConfig
from pyquant.errors import CalibrationError
from pyquant.graph.prepared import LABELS, Prepared
from pyquant.graph.streams import Walk
from pyquant.scoring import (
    SITE_SCORES,
    Checkpoint,
    OutputScores,
    SiteScores,
    Trial,
    make_trials,
    model_digest,
)
from pyquant.scoring.trials import Candidates
from pyquant.sensitivity_table import SensitivityTable
from pyquant.verbs.quantize import quantize

__all__ = ["sensitivity"]

SCOPES = ("site", "output")


def sensitivity(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    config: str | Mapping[str, Any] | QuantConfig | None = None,
    calibration: Iterable[Any] | None = None,
    candidates: Candidates = None,
    scores: Sequence[str] = SITE_SCORES,
    scope: str = "site",
    select: str = "*",
    progress: bool = True,
    resume: str | Path | None = None,
) -> SensitivityTable:
    """Measure what candidates (bits, schemes, non-linear methods) cost at each site.

    Parameters
    ----------
    model : torch.nn.Module or Prepared
        A calibrated `Prepared` is measured as it is, whatever the modes of its sites; neither it nor the
        modes change. Any other module is quantized first.
    batches : iterable of batches
        As for `pyquant.calibrate`; targets, where there are any, are found as by `pyquant.evaluate`. Read
        once, except that a module is calibrated on them too unless `calibration` is given.
    config : str, mapping or QuantConfig, optional
        For a module that is quantized first: as in `pyquant.quantize`, ``"W8A8"`` by default.
    calibration : iterable of batches, optional
        For a module that is quantized first.
    candidates : list, or mapping from glob to list, optional
        What to try, each as `Candidate.of` reads it: ``"W4"``, ``"A6"``, ``"softmax=ibert(bits=8)"``,
        ``{"weight_bits": 4, "weight_observer": "mse"}``. With a mapping, each list is for the sites whose
        names match; a site that several globs match tries them all. A candidate is tried wherever one of
        its settings matters. By default every method of every site that has a choice of methods.
    scores : sequence of str
        Of scope ``"site"``: some of ``"accumulated"``, ``"isolated"``, ``"all_but_this"``. SQNR in is always
        there, and `delta` where accumulated is.
    scope : {"site", "output"}
        ``site``: compare at the site's output; all candidates in one pass over the data. ``output``: let one
        site compute in integers, all the rest in float, and compare at the model's output; on average half a
        float pass over the data for each candidate of each site.
    select : str
        A glob over site names.
    progress : bool
        Show a progress bar.
    resume : path, optional
        A file for an interrupted run. If it exists, the run goes on from there, which needs the same model,
        candidates and scores, and the same batches in the same order; else it is made. It stays when the run
        is complete, and a run over more batches may go on from it.

    Returns
    -------
    SensitivityTable
        A row for each candidate of each site; the definitions are at `SensitivityRow`.

    Raises
    ------
    ValueError
        An unknown score, scope or candidate, a glob or a candidate that fits no site, no batch, a batch with
        NaN (number and input, or site, are named), another model or other batches than those of `resume`.
    CalibrationError
        A site without a scale, or one that no batch reaches.
    TypeError
        A batch that does not fit the model.

    Notes
    -----
    A candidate is what ``config.override(site, **settings)`` would deploy: the settings of that one site. Its
    input edges are those that the producers give, with their grids, so "A6" narrows the edge that the site
    makes, and what enters a linear layer is narrowed at the site in front of it. A site whose output has
    16 bits listens to "R8" instead. Grids that a candidate changes are chosen from what calibration left in
    the observers.

    With the float function f of a site, its integer form f_c, the float stream x and the quantized stream xq:
    isolated = SQNR(f(x), f_c(x)), accumulated = SQNR(f(x), f_c(xq)), all_but_this = SQNR(f(x), f(xq)),
    delta = SQNR(x, xq) - accumulated. f_c quantizes x onto its input grids.

    References
    ----------
    .. [1] "Mixed Non-linear Quantization for Vision Transformers", arXiv 2407.18437.
    .. [2] QuantuneV2, arXiv 2501.07161.

    Examples
    --------
    >>> import torch, pyquant as pq
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 2))
    >>> data = [torch.randn(16, 4) for _ in range(2)]
    >>> table = pq.sensitivity(model, data, candidates=["W4", "W8"], progress=False)
    >>> table.row("0", "W4").accumulated < table.row("0", "W8").accumulated
    True
    """
    _check(scores, scope)
    prepared = _prepared(model, batches, config, calibration, progress)
    walk = Walk(prepared, frozenset(LABELS))
    trials = make_trials(prepared, walk, select, candidates)
    uncalibrated = [name for name, (_, site) in walk.sites.items() if not site.output.ready]
    if uncalibrated:
        raise CalibrationError(f"sensitivity: site {uncalibrated[0]!r} has no scale yet; calibrate first")
    running = SiteScores(trials, scores) if scope == "site" else OutputScores(trials)
    meta: dict[str, Any] = {
        "model": type(prepared).__name__.removeprefix("Prepared"),
        "config": prepared.quant_config.to_dict(),
        "scope": scope,
        "scores": list(scores) if scope == "site" else [],
        "select": select,
        "version": __version__,
    }
    checkpoint = None if resume is None else Checkpoint(resume, _key(prepared, trials, meta))
    run = _Run(prepared, running, checkpoint)
    run.over(batches, progress)
    unreached = running.unreached()
    if unreached:
        more = f" and {len(unreached) - 1} more" if len(unreached) > 1 else ""
        raise CalibrationError(f"sensitivity: no batch reached site {unreached[0]!r}{more}")
    index = {name: place for place, name in enumerate(prepared.sites())}
    return SensitivityTable(running.rows(index), {**meta, **run.counts, **running.totals()})


class _Run:
    """A pass over batches that may stop and go on."""

    def __init__(
        self, prepared: Prepared, running: SiteScores | OutputScores, checkpoint: Checkpoint | None
    ) -> None:
        self.prepared, self.running, self.checkpoint = prepared, running, checkpoint
        self.counts = {"batches": 0, "samples": 0, "seconds": 0.0, "float_pass_seconds": 0.0}
        self._walks: dict[frozenset[str], Walk] = {}
        self._drop = tuple(name for name in LABELS if name in prepared._signature.inputs)

    def over(self, batches: Iterable[Any], progress: bool) -> None:
        """All batches, without those that an interrupted run has seen."""
        before = self.checkpoint.load() if self.checkpoint is not None else None
        skip = 0 if before is None else before["counts"]["batches"]
        number = -1
        try:
            with torch.no_grad():
                bar = tqdm(batches, desc="sensitivity", unit="batch", disable=not progress, leave=False)
                for number, batch in enumerate(bar):
                    self._one(number, batch, skip, before)
        finally:
            if self.checkpoint is not None:
                self.checkpoint.flush()
        if number < 0:
            raise ValueError("sensitivity: batches: expected at least one batch, got none")
        if number + 1 < skip:
            raise ValueError(f"resume: the run saw {skip} batches, and there are only {number + 1}")

    def _one(self, number: int, batch: Any, skip: int, before: dict[str, Any] | None) -> None:
        args, kwargs = arguments(self.prepared, batch, drop=self._drop)
        missing, inputs = self.prepared.bind(args, kwargs)
        digest = self.checkpoint.seen(inputs) if self.checkpoint is not None else ""
        if number < skip:
            assert before is not None
            if number + 1 == skip:
                if digest != before["digest"]:
                    raise ValueError(f"resume: the first {skip} batches are not those of the interrupted run")
                self.running.restore(before["state"])
                self.counts = before["counts"]
            return
        if missing not in self._walks:
            self._walks[missing] = Walk(self.prepared, missing)
        walk = self._walks[missing]
        started, float_before = time.perf_counter(), walk.float_seconds
        with _told_where(number, walk, inputs), torch.autocast(inputs[0].device.type, enabled=False):
            self.running.update(walk, inputs, target_of(batch, count_inputs(self.prepared)))
        self.counts["batches"] += 1
        self.counts["samples"] += walk.samples(inputs)
        self.counts["seconds"] += time.perf_counter() - started
        self.counts["float_pass_seconds"] += walk.float_seconds - float_before
        if self.checkpoint is not None:
            self.checkpoint.save({"counts": dict(self.counts), "state": self.running.state()})


@contextmanager
def _told_where(number: int, walk: Walk, inputs: Sequence[Any]) -> Iterator[None]:
    """Errors of values say in which batch, and at which input or site."""
    for name, value in zip(walk.input_names, inputs, strict=True):
        if value.is_floating_point() and bool(torch.isnan(value).any()):
            raise ValueError(f"sensitivity: batch {number}: input {name!r} holds NaN")
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if type(error) not in (ValueError, RuntimeError):  # out of memory, say
            raise
        raise ValueError(f"sensitivity: batch {number}, site {walk.at!r}: {error}") from error


def _check(scores: Sequence[str], scope: str) -> None:
    if scope not in SCOPES:
        raise ValueError(f"scope: expected one of {', '.join(SCOPES)}, got {scope!r}")
    unknown = [name for name in scores if name not in SITE_SCORES]
    if isinstance(scores, str) or unknown or not scores:
        raise ValueError(f"scores: expected some of {', '.join(SITE_SCORES)}, got {scores!r}")


def _prepared(
    model: nn.Module,
    batches: Iterable[Any],
    config: str | Mapping[str, Any] | QuantConfig | None,
    calibration: Iterable[Any] | None,
    progress: bool,
) -> Prepared:
    if not isinstance(model, nn.Module):
        raise TypeError(f"sensitivity: expected a torch.nn.Module or a Prepared, got {type(model).__name__}")
    if isinstance(model, Prepared):
        if config is not None or calibration is not None:
            raise ValueError(
                "sensitivity: config and calibration are for a module that is not prepared yet; "
                "this one keeps its own"
            )
        return model
    if calibration is None:
        if isinstance(batches, Iterator):
            raise ValueError(
                "batches: an iterator can be read once, and the model is calibrated on them first; "
                "give a list, a loader, or calibration="
            )
        if not any(True for _ in batches):
            raise ValueError("sensitivity: batches: expected at least one batch, got none")
        calibration = batches
    return quantize(model, calibration, "W8A8" if config is None else config, progress=progress)


def _key(
    prepared: Prepared, trials: Mapping[str, Sequence[Trial]], meta: Mapping[str, Any]
) -> dict[str, str]:
    """What an interrupted run must have in common with the one that goes on, the readable things first."""
    tried = {site: [trial.candidate.name for trial in chosen] for site, chosen in trials.items()}
    return {
        "version": meta["version"],
        "scope": meta["scope"],
        "scores": ", ".join(meta["scores"]),
        "config": json.dumps(meta["config"], sort_keys=True),
        "candidates": json.dumps(tried),
        "model": model_digest(prepared, list(prepared.sites())),
    }
