"""What the observers of a model hold, as tensors by name: to restore, to send, to write, to merge."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pyquant.errors import CalibrationError
from pyquant.graph.passes import PASSES
from pyquant.graph.prepared import Prepared

__all__ = [
    "check_mergeable",
    "check_prepared",
    "merge_states",
    "model_digest",
    "observed_state",
    "observers_restored",
    "setup_of",
]

State = Mapping[str, Tensor]
_NOT_THE_MODEL = ("pq_sites.", "_extra_state", PASSES)


def check_prepared(op: str, prepared: object) -> None:
    """Raise TypeError for anything but a `Prepared`."""
    if not isinstance(prepared, Prepared):
        raise TypeError(f"{op}: expected a Prepared (see pyquant.prepare), got {type(prepared).__name__}")


def check_mergeable(op: str, prepared: Prepared) -> None:
    """Raise CalibrationError for an observer whose knowledge depends on the order of batches."""
    for name, site in prepared.sites().items():
        for observer in site.observers().values():
            if not getattr(observer, "mergeable", True):
                try:
                    observer.merge(observer)  # type: ignore[arg-type]
                except ValueError as error:
                    raise CalibrationError(f"{op}: site {name!r}: {error}") from None


def observed_state(prepared: Prepared) -> dict[str, Tensor]:
    """A copy, on the CPU, of every buffer of every observer: ``site/observer/buffer``."""
    return {
        f"{site}/{kind}/{name}": buffer.detach().to("cpu", copy=True).contiguous()
        for site, module in prepared.sites().items()
        for kind, observer in module.observers().items()
        for name, buffer in observer.named_buffers()
    }


@contextmanager
def observers_restored(prepared: Prepared) -> Iterator[None]:
    """After an error, an interrupt included, the observers hold what they held before."""
    before = [
        (module, {name: (buffer, buffer.clone()) for name, buffer in module.named_buffers(recurse=False)})
        for site in prepared.sites().values()
        for observer in site.observers().values()
        for module in observer.modules()
    ]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for module, buffers in before:
                for name, (buffer, old) in buffers.items():
                    module._buffers[name] = buffer  # one that grows is another tensor by now
                    buffer.copy_(old)
        raise


def merge_states(op: str, prepared: Prepared, states: Sequence[tuple[str, State]]) -> None:
    """Let every observer know what those of several states together know, in this order, and nothing else.

    Parameters
    ----------
    states : sequence of (str, mapping)
        The name of each state, for messages, and what `observed_state` gave.

    Raises
    ------
    CalibrationError
        An observer cannot be merged, or a state does not fit.
    """
    check_mergeable(op, prepared)
    expected = {name: (value.dtype, tuple(value.shape)) for name, value in observed_state(prepared).items()}
    for source, state in states:
        found = {name: (value.dtype, tuple(value.shape)) for name, value in state.items()}
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                raise CalibrationError(
                    f"{op}: {source}: expected {name} {_described(expected.get(name))}, "
                    f"got {_described(found.get(name))}"
                )
    with torch.no_grad():
        for site, module in prepared.sites().items():
            for kind, observer in module.observers().items():
                observer.reset()
                for source, state in states:
                    other: Any = copy.deepcopy(observer)
                    for name, buffer in other.named_buffers():
                        buffer.copy_(state[f"{site}/{kind}/{name}"])
                    try:
                        observer.merge(other)
                    except ValueError as error:
                        raise CalibrationError(f"{op}: {source}: site {site!r}: {error}") from None


def _described(what: tuple[torch.dtype, tuple[int, ...]] | None) -> str:
    return "nothing" if what is None else f"{what[1]} of {what[0]}"


def setup_of(prepared: Prepared) -> dict[str, str]:
    """What must be the same for observations of two processes to be of one calibration: name -> text."""
    sites = prepared.sites().items()
    observers = {name: site.observer.name for name, site in sites}
    return {
        "model": model_digest(prepared),
        "configuration": json.dumps(prepared.quant_config.to_dict(), sort_keys=True),
        "observers": json.dumps(observers),
    }


def model_digest(prepared: Prepared) -> str:
    """SHA-256 of parameters and buffers, and of the sites' names; not of scales, of what was observed, of the
    configuration, nor of how often it trained."""
    digest = hashlib.sha256(" ".join(prepared.sites()).encode())
    for name, value in sorted(prepared.state_dict().items()):
        if not name.startswith(_NOT_THE_MODEL) and isinstance(value, Tensor):
            host = value.detach().cpu().contiguous()
            digest.update(f"{name} {host.dtype} {tuple(host.shape)}".encode())
            digest.update(host.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
