"""save_observations, merge_observations: calibration over machines that share files, not a network."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pyquant.errors import CalibrationError
from pyquant.files import write_whole
from pyquant.graph.prepared import Prepared
from pyquant.verbs.observed import (
    check_mergeable,
    check_prepared,
    merge_states,
    observed_state,
    observers_restored,
    setup_of,
)

__all__ = ["merge_observations", "save_observations"]

FORMAT, VERSION = "pyquant-observations", "1"


def save_observations(prepared: Prepared, path: str | os.PathLike[str]) -> None:
    """Write what `observe` left, whole or not at all, for `merge_observations` elsewhere.

    A safetensors file: the observers' buffers by name; in its metadata the format and its version, a digest
    of the model, the configuration, and the observer of each site. Its size depends on the sites alone.

    Parameters
    ----------
    prepared : Prepared
        After `observe` (or `calibrate`).
    path : path

    Raises
    ------
    CalibrationError
        Nothing was observed, or an observer cannot be merged (``ema``).
    OSError
        The file cannot be written; an old one is as it was.
    """
    op = "save_observations"
    check_prepared(op, prepared)
    check_mergeable(op, prepared)
    if all(site.observer.empty for site in prepared.sites().values()):
        raise CalibrationError(f"{op}: nothing was observed; call pyquant.observe first")
    head = {"format": FORMAT, "version": VERSION, **setup_of(prepared)}
    write_whole(path, save(observed_state(prepared), head))


def merge_observations(
    prepared: Prepared, paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str]
) -> Prepared:
    """Let the observers know what those of several processes saw together; then call `finish_calibration`.

    What was observed before is forgotten first. The order of files does not matter (``hessian``: but for the
    rounding of sums).

    Parameters
    ----------
    prepared : Prepared
        Of the same model and configuration as those that were saved.
    paths : iterable of paths, or one path
        Files of `save_observations`.

    Returns
    -------
    Prepared
        The same object; modes and scales are as they were.

    Raises
    ------
    CalibrationError
        No path, or a file that is cut off, damaged, of another version, or of another model or configuration;
        the message names it. After any error the observers hold what they held before.
    OSError
        A file cannot be read.
    """
    op = "merge_observations"
    check_prepared(op, prepared)
    check_mergeable(op, prepared)
    listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not listed:
        raise CalibrationError(f"{op}: expected at least one file, got none")
    names = [os.fspath(path) for path in listed]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CalibrationError(f"{op}: {twice} is listed twice; its batches would count twice")
    setup = setup_of(prepared)
    states = [(name, _read(op, name, setup)) for name in names]
    with observers_restored(prepared):
        merge_states(op, prepared, states)
    return prepared


def _read(op: str, path: str, setup: dict[str, str]) -> dict[str, Tensor]:
    """The tensors of a file that fits."""
    try:
        with safe_open(path, framework="pt") as file:
            head = file.metadata() or {}
            _check_head(op, path, head, setup)
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except SafetensorError as error:
        raise CalibrationError(f"{op}: {path} is cut off, or no file of save_observations: {error}") from None


def _check_head(op: str, path: str, head: dict[str, str], setup: dict[str, str]) -> None:
    if head.get("format") != FORMAT:
        raise CalibrationError(f"{op}: {path} is no file of save_observations")
    if head.get("version") != VERSION:
        raise CalibrationError(
            f"{op}: this pyquant reads version {VERSION} of observations, {path} has {head.get('version')}"
        )
    for what, mine in setup.items():
        theirs = head.get(what, "")
        if theirs != mine:
            raise CalibrationError(f"{op}: {path} is of another {what}{_difference(theirs, mine)}")


def _difference(theirs: str, mine: str) -> str:
    """Where two JSON texts differ first, as ``: base.observer is 'mse', not 'kl'``; digests have no parts."""
    try:
        pair: tuple[Any, Any] = json.loads(theirs), json.loads(mine)
    except ValueError:
        return ""
    path = []
    while isinstance(pair[0], dict) and isinstance(pair[1], dict):
        one, two = pair
        key = next(k for k in sorted(one.keys() | two.keys()) if one.get(k) != two.get(k))
        path.append(str(key))
        pair = one.get(key), two.get(key)
    return f": {'.'.join(path)} is {pair[0]!r}, here {pair[1]!r}" if path else ""
