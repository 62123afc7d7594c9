"""report: what is known of a quantized model, as one HTML file."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pyquant.assignment import Plan, as_plan
from pyquant.config import QuantConfig
from pyquant.engine.profile import Profile
from pyquant.files import write_whole
from pyquant.graph.prepared import Prepared
from pyquant.reporting.histograms import EdgeHistogram, edge_histograms
from pyquant.reporting.models import Models, program_of
from pyquant.sensitivity_table import SensitivityTable
from pyquant.verbs.evaluate import Evaluation

__all__ = ["report"]


def report(
    model: nn.Module,
    table: SensitivityTable | str | os.PathLike[str] | None = None,
    plan: Plan | str | os.PathLike[str] | None = None,
    *,
    path: str | os.PathLike[str],
    batches: Iterable[Any] | None = None,
    calibration: Iterable[Any] | None = None,
    config: str | Mapping[str, Any] | QuantConfig | None = None,
    evaluations: Mapping[str, Evaluation | float] | None = None,
    latency: bool | Profile = True,
    worst: int = 12,
    title: str | None = None,
    note: str = "",
    progress: bool = True,
) -> Path:
    """Write one HTML file about a quantized model: it opens offline, in light and dark, and prints.

    Model, coverage, accuracy before and after, sensitivity, values and clip points of the worst sites, plan,
    latency by site. What is not known is left out, with a sentence that says what to pass.

    Parameters
    ----------
    model : torch.nn.Module or Prepared
        A calibrated `Prepared` is described as it is; neither it nor the modes of its sites change. Any other
        module is quantized here, without the plan and with it, and the page is about the latter.
    table : SensitivityTable or path, optional
        Of this model.
    plan : Plan or path, optional
        For this model.
    path : path
        Written whole or not at all: after an error an old file is as it was.
    batches : iterable of batches
        Read several times, so no iterator. If they hold targets, accuracy is measured on them; the first one
        shows the values of sites for which calibration kept no histogram. A float model is calibrated on them
        unless `calibration` is given.
    calibration, config
        For a float model, as in `pyquant.quantize`; `config` is the plan's own unless given.
    evaluations : mapping of str to Evaluation or float, optional
        Accuracy instead of measuring it, in the order of the rows: ``{"float": 81.2, "W6A6": evaluation}``, a
        number being top-1 in percent.
    latency : bool or Profile
        Whether to time one sample step by step, or a profile of your own (of another batch, say):
        ``pyquant.convert(prepared).profile(x)``.
    worst : int
        Sites of which to show bars and values.
    title, note : str
        Heading, by default the model's name, and a line below it (a date, if you like).
    progress : bool
        Show progress bars.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ImportError
        Jinja2 or matplotlib is not installed.
    TypeError, ValueError
        An argument of a wrong type; a table or plan with a site that the model lacks; an iterator.
    CalibrationError
        A site has no scale.
    OSError
        The file cannot be written; this is found out before anything is measured.

    Notes
    -----
    The same arguments give the same bytes, but for times that are measured here (``latency=True``).

    Examples
    --------
    >>> import tempfile, torch, pyquant as pq
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 2))
    >>> path = f"{tempfile.mkdtemp()}/report.html"
    >>> pq.report(model, path=path, batches=[torch.randn(16, 4)], progress=False).name
    'report.html'
    """
    _check(model, latency, worst, evaluations)
    _check_again("batches", batches)
    _check_again("calibration", calibration)
    target = _writable(path)
    _need_extras()
    table, plan = _as_table(table), None if plan is None else as_plan(plan)
    models = Models.of(model, plan, config, calibration, batches, progress)
    sections = _sections(models, table, plan, batches, evaluations, latency, worst, progress)
    from pyquant.reporting.page import page

    name = type(models.main).__name__.removeprefix("Prepared")
    text = page(f"{name}: quantization report" if title is None else title, note, sections)
    write_whole(target, text.encode("utf-8"))
    return target


def _sections(
    models: Models,
    table: SensitivityTable | None,
    plan: Plan | None,
    batches: Iterable[Any] | None,
    evaluations: Mapping[str, Evaluation | float] | None,
    latency: bool | Profile,
    worst: int,
    progress: bool,
) -> list[Any]:
    from pyquant.reporting import choices, facts

    main = models.main
    first = None if batches is None else next(iter(batches), None)
    if batches is not None and first is None:
        raise ValueError("report: batches: expected at least one batch, got none")
    unknown = [] if table is None else [site for site in table.sites if site not in main.sites()]
    if unknown:
        raise ValueError(f"report: the model has no site {unknown[0]!r}, which the table has")
    found: Mapping[str, Evaluation | float] = evaluations or {}
    if evaluations is None and batches is not None and models.has_targets(first):
        found = models.evaluate(batches, progress)
    program, why_not = program_of(main)
    profile, no_profile = None, "Not measured: latency=False."
    if isinstance(latency, Profile):
        profile = latency
    elif latency and program is not None:
        profile = program.profile()
    elif latency:
        no_profile = f"Not measured: the model has no integer program. {why_not}"
    histograms, left_out = _histograms(main, table, first, worst)
    return [
        facts.summary(main, plan, program, why_not),
        facts.coverage(main.coverage()),
        facts.accuracy(found),
        choices.sensitivity(table, worst),
        choices.histograms(histograms, table is not None, left_out),
        choices.plan(plan, main),
        facts.latency(profile, no_profile),
    ]


def _histograms(
    prepared: Prepared, table: SensitivityTable | None, batch: Any, worst: int
) -> tuple[list[EdgeHistogram], int]:
    """Of the worst sites, and how many of these have none."""
    from pyquant.reporting.choices import worst_sites

    if table is not None:
        names = worst_sites(prepared, table, worst)
        found = edge_histograms(prepared, names, batch)
        return found, len(names) - len(found)
    known = edge_histograms(prepared, prepared.sites())
    return sorted((h for h in known if math.isfinite(h.sqnr)), key=lambda h: h.sqnr)[:worst], 0


# -- arguments -----------------------------------------------------------------------------------------------


def _check(model: Any, latency: Any, worst: Any, evaluations: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"report: expected a torch.nn.Module or a Prepared, got {type(model).__name__}")
    if not isinstance(latency, (bool, Profile)):
        raise TypeError(f"report: expected latency to be a bool or a Profile, got {latency!r}")
    if isinstance(worst, bool) or not isinstance(worst, int) or worst < 1:
        raise ValueError(f"report: expected worst >= 1, got {worst!r}")
    if evaluations is None:
        return
    if not isinstance(evaluations, Mapping):
        raise TypeError(f"report: expected evaluations by name, got {type(evaluations).__name__}")
    for name, value in evaluations.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not isinstance(name, str) or not (number or isinstance(value, Evaluation)):
            raise TypeError(
                f"report: evaluations: expected an Evaluation or a number for {name!r}, got {value!r}"
            )


def _check_again(name: str, batches: Iterable[Any] | None) -> None:
    if isinstance(batches, Iterator):
        raise ValueError(
            f"report: {name}: an iterator can be read once, and is needed more often; give a list or a loader"
        )


def _as_table(table: SensitivityTable | str | os.PathLike[str] | None) -> SensitivityTable | None:
    if table is None or isinstance(table, SensitivityTable):
        return table
    if isinstance(table, (str, os.PathLike)):
        return SensitivityTable.load(Path(table))
    raise TypeError(f"table: expected a SensitivityTable or the path of one, got {type(table).__name__}")


def _need_extras() -> None:
    """Before anything is measured."""
    try:
        importlib.import_module("pyquant.reporting.page")
        importlib.import_module("pyquant.reporting.pictures")
    except ImportError as error:
        raise ImportError(
            f"report needs Jinja2 and matplotlib: pip install jinja2 matplotlib ({error})"
        ) from error


def _writable(path: str | os.PathLike[str]) -> Path:
    """The target; an OSError now rather than after minutes of work."""
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"report: path: there is no folder {target.parent}")
    if target.is_dir():
        raise IsADirectoryError(f"report: path: {target} is a folder")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"report: path: the folder {target.parent} cannot be written to")
    return target
