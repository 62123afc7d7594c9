"""What is compared: a row of candidates that do the same work, and the gaps where a peer could not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.probe import Probe

__all__ = [
    "FLAT",
    "FLAT8",
    "OURS",
    "WORKLOADS",
    "Candidate",
    "Peer",
    "Row",
    "Settings",
    "Workload",
    "relative_error",
    "rows_by_size",
]

LOG = logging.getLogger("benchmarks")
OURS = "pyquant"
FLAT = "pyquant, flat weights"
FLAT8 = "pyquant, flat int8 weights"
# Each is the module bench_<name>.py, in the order of the page.
WORKLOADS = (
    "gemm",
    "gemm4",
    "gemv",
    "attention",
    "attention_online",
    "elementwise",
    "metrics",
    "observe",
    "fake",
    "qat",
    "vit",
)

# A peer further than this from the real result (relative RMS) computes something else, and is not timed.
# 8-bit grids give 1-2 %, 4-bit weights 10 %; saturating int8 products were seen at 14 %.
WRONG = 0.3


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to measure.

    Parameters
    ----------
    threads : int
    peers : {"all", "torch", "none"}
        ``"torch"`` leaves out what has to be compiled, exported or installed apart.
    tiny : bool
        Sizes that only show that a workload runs; their times mean nothing.
    seconds : float
        Time for the rounds of one row.
    rounds : (int, int)
        Fewest and most rounds of a row, whatever `seconds` says.
    sample : float
        A candidate is called as often in a round as fills so many seconds.
    """

    threads: int = 1
    peers: str = "all"
    tiny: bool = False
    seconds: float = 6.0
    rounds: tuple[int, int] = (5, 40)
    sample: float = 0.004


@dataclass(frozen=True)
class Candidate:
    """A call to be timed.

    work is what one call does, in the row's unit (for a limit: in the probe's). A slow candidate takes
    part in the first ``max_rounds`` rounds only. ``owner`` keeps alive what `run` reaches by address.
    """

    name: str
    run: Callable[[], Any]
    work: float
    settings: str = ""
    max_rounds: int | None = None
    error: float | None = None
    owner: Any = None


@dataclass(frozen=True)
class Peer:
    """What a builder of a peer returns: the call to time, its last result as real numbers, its settings."""

    run: Callable[[], Any]
    result: Callable[[], ArrayLike]
    settings: str = ""


@dataclass
class Row:
    """Candidates that do the same work.

    Parameters
    ----------
    name : str
    settings : Settings
    work : float
        What one call does: multiply-adds, or elements.
    unit : {"MAC", "element"}
    traffic : float
        Bytes that must move at least, each operand once.
    float_traffic : float, optional
        The same in float32; four times `traffic` if not given.
    limit : str, optional
        The probe that bounds pyquant's kernels: a multiply-add probe, ``"read"`` or ``"copy"``.
    expected : ndarray of float, optional
        The real result; a peer must come near it.
    checked : str
        How pyquant's integers were checked before the clock was read.
    """

    name: str
    settings: Settings
    work: float
    unit: str
    traffic: float
    limit: str | None
    expected: NDArray[Any] | None = None
    float_traffic: float | None = None
    checked: str = ""
    candidates: dict[str, Candidate] = field(default_factory=dict)
    limits: dict[str, Candidate] = field(default_factory=dict)
    gaps: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None

    def ours(
        self,
        run: Callable[[], Any],
        name: str = OURS,
        settings: str = "",
        result: NDArray[Any] | None = None,
    ) -> None:
        """Add a candidate of pyquant; the one named `OURS` is what the ratios are about."""
        error = None if result is None or self.expected is None else relative_error(result, self.expected)
        self.candidates[name] = Candidate(name, run, self.work, settings, error=error)

    def equal(self, got: NDArray[Any], definition: NDArray[Any], what: str) -> None:
        """Record that `got` has the integers of the definition, or stop: wrong numbers are not timed."""
        if got.dtype != definition.dtype or not np.array_equal(got, definition):
            raise AssertionError(f"{self.name}: {what} differs from its definition: nothing was timed")
        self.checked = f"{self.checked}; {what}" if self.checked else f"equal to the definition: {what}"

    def peer(
        self,
        name: str,
        build: Callable[[], Peer],
        *,
        heavy: bool = False,
        max_rounds: int | None = None,
    ) -> None:
        """Build a peer and check it, or note why it is missing.

        Whatever it raises becomes a gap: a peer is foreign code, and one that fails must not hide the rest.
        """
        wanted = self.settings.peers
        if wanted == "none" or (heavy and wanted != "all"):
            return
        begin = time.perf_counter()
        try:
            peer = build()
            peer.run()
            error = None
            if self.expected is not None:
                error = relative_error(np.asarray(peer.result()), self.expected)
                if not error < WRONG:
                    raise ValueError(f"wrong result, relative error {error:.2f}")
        except ImportError as missing:
            self.gaps[name] = f"not installed: {missing.name or missing}"
        except Exception as failure:
            lines = str(failure).strip().splitlines()
            self.gaps[name] = f"{type(failure).__name__}: {lines[0] if lines else 'no message'}"[:200]
        else:
            LOG.info("%s: %s was ready after %.0f s", self.name, name, time.perf_counter() - begin)
            self.candidates[name] = Candidate(
                name, peer.run, self.work, peer.settings, max_rounds, error, owner=peer
            )

    def add_limits(self, probe: Probe) -> None:
        """The probes this row is held against, as candidates of every round."""
        if self.limit is None:
            return
        if self.limit == "read":
            run, work = probe.read(int(self.traffic))
        elif self.limit == "copy":
            run, work = probe.copy(int(self.traffic / 2))
        elif self.limit in probe.compute_names:
            # As long as a call of ours at the limit, but not so short that its own start would show.
            run, work = probe.compute(self.limit, max(self.work, 2e7))
        else:
            self.gaps[f"limit {self.limit}"] = "this CPU lacks the instruction"
            return
        self.limits[self.limit] = Candidate(self.limit, run, work)


def rows_by_size(
    settings: Settings,
    ops: Mapping[str, Callable[[Settings, str, int], Row]],
    count: int,
    sizes: Iterable[int],
) -> dict[str, Callable[[], Row]]:
    """Each op at each size, named ``op countxsize``."""
    return {
        (title := f"{name} {count}x{size}"): partial(build, settings, title, size)
        for size in sizes
        for name, build in ops.items()
    }


class Workload(Protocol):
    """A module ``bench_<name>``: a line that says what it measures, and how its rows are built."""

    TITLE: str

    def rows(self, settings: Settings) -> Mapping[str, Callable[[], Row]]:
        """Builders of the rows by name; what a row holds is let go before the next is built."""
        ...


def relative_error(got: NDArray[Any], expected: NDArray[Any]) -> float:
    """Root mean square of the difference over that of `expected`; infinity where shapes differ."""
    if got.size != expected.size:
        return float("inf")
    difference = got.reshape(-1).astype(np.float64) - expected.reshape(-1)
    norm = float(np.linalg.norm(expected.reshape(-1).astype(np.float64)))
    return float(np.linalg.norm(difference)) / norm if norm else float(np.linalg.norm(difference))
