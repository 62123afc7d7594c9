"""An interrupted run on disk: what was summed, of which model, over which batches."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyquant.graph.passes import PASSES
from pyquant.graph.prepared import Prepared

__all__ = ["Checkpoint", "model_digest"]

FORMAT, VERSION = "pyquant-sensitivity-run", 1
_SECONDS = 1.0  # between two writes; an orderly stop writes in any case


class Checkpoint:
    """A file that a run leaves after every few batches, and from which the same run goes on.

    Parameters
    ----------
    path : str or Path
    key : mapping
        What must be the same for the sums to be of use: name -> text.
    """

    def __init__(self, path: str | Path, key: Mapping[str, str]) -> None:
        self.path = Path(path)
        self.key = dict(key)
        self._digest = hashlib.sha256(b"").hexdigest()
        self._waiting: dict[str, Any] | None = None
        self._written = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """What `save` was given last, or None if there is no file.

        Raises
        ------
        ValueError
            The file is no such run, or one of something else; the message says of what.
        """
        if not self.path.exists():
            return None
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"resume: {self.path} is not JSON: {error}") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
            raise ValueError(f"resume: {self.path} is no interrupted run of this version")
        for name, mine in self.key.items():
            theirs = data["key"].get(name)
            if theirs != mine:
                what = f"{name} {_brief(theirs)}, not {_brief(mine)}" if len(mine) < 80 else f"another {name}"
                raise ValueError(
                    f"resume: {self.path} was made with {what}; continue that run, or name another file"
                )
        run: dict[str, Any] = data["run"]
        return run

    def seen(self, inputs: Iterable[Any]) -> str:
        """Take in a batch; the digest of all batches so far."""
        digest = hashlib.sha256(self._digest.encode())
        for value in inputs:
            digest.update(_bytes(value) if isinstance(value, Tensor) else repr(value).encode())
        self._digest = digest.hexdigest()
        return self._digest

    def save(self, run: dict[str, Any]) -> None:
        """Keep the state after a batch; it is on disk within a second, or at `flush`."""
        self._waiting = {**run, "digest": self._digest}
        if time.monotonic() - self._written >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits: to a file beside, which then takes the place of the old one."""
        if self._waiting is None:
            return
        data = {"format": FORMAT, "version": VERSION, "key": self.key, "run": self._waiting}
        beside = self.path.with_name(self.path.name + ".part")
        with beside.open("w", encoding="utf-8") as file:
            json.dump(data, file, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)
        self._waiting = None
        self._written = time.monotonic()


def _brief(text: str | None) -> str:
    return repr(text) if text is None or len(text) < 80 else repr(text[:77] + "...")


def _bytes(value: Tensor) -> bytes:
    host = value.detach().cpu().contiguous()
    head = f"{host.dtype} {tuple(host.shape)}".encode()
    return head + host.reshape(-1).view(torch.uint8).numpy().tobytes()


def model_digest(prepared: Prepared, names: Sequence[str]) -> str:
    """SHA-256 of parameters, buffers, scales and the sites' names."""
    digest = hashlib.sha256(" ".join(names).encode())
    for name, value in sorted(prepared.state_dict().items()):
        if name == PASSES:
            continue  # another count of passes computes the same
        digest.update(name.encode())
        digest.update(_bytes(value) if isinstance(value, Tensor) else repr(value).encode())
    return digest.hexdigest()
