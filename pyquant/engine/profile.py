"""Profile: where the time of a run goes, and how near each step is to what the machine could do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyquant import _C
from pyquant.engine.spec import ProgramSpec
from pyquant.tables import html_table, text_table

__all__ = ["Limits", "Profile", "ProfileRow", "interleaved", "made_up_inputs", "measure"]

Array = NDArray[Any]
READ_AT_MOST = 2**28  # bytes of the probe's buffer: beyond any cache, and soon read

HEADER = ("site", "op", "shape", "ms", "share", "MMAC", "MB", "GMAC/s", "GB/s", "% of limit")


@dataclass(frozen=True)
class Limits:
    """What the machine did at most, just before the run, on as many threads.

    Parameters
    ----------
    isa : str
        Instruction set of the multiply-adds.
    macs : float
        Multiply-adds a second, in registers, in the form that takes any int8 weights. Products of small
        weights may pass it: chains of narrow products on AVX2, 4-bit weights (docs/numerics/gemm.md).
    hot, cold : float
        Bytes a second read from as much memory as the activations of a run take (its arena, which stays in
        cache if it fits), and from as much as constants and activations take together.
    hot_bytes, cold_bytes : int
        How much that is.
    """

    isa: str
    macs: float
    hot: float
    cold: float
    hot_bytes: int
    cold_bytes: int

    def seconds(self, macs: int, bytes: int, constant_bytes: int) -> float:
        """The least time for so much work: its multiply-adds, or its reads and writes, alone."""
        return max(macs / self.macs, bytes / self.hot + constant_bytes / self.cold)


@dataclass(frozen=True)
class ProfileRow:
    """One step of a run.

    Parameters
    ----------
    sites : tuple of str
        The site, or the two that run as one pass.
    op : str
        The instruction, ``"gemm + add"`` where two run as one.
    shape : tuple of int
        Of the result, batch included.
    seconds : float
        Median over the repeats.
    macs : int
        Multiply-adds of matrix products.
    bytes : int
        Read and written: each operand once, constants included.
    limit : float
        Seconds that the work takes at least by `Limits`.
    """

    sites: tuple[str, ...]
    op: str
    shape: tuple[int, ...]
    seconds: float
    macs: int
    bytes: int
    limit: float

    @property
    def site(self) -> str:
        """Name of the site; of two, the second without the modules that both are in."""
        first, *rest = self.sites
        return " + ".join([first, *(_shortened(first, name) for name in rest)])


@dataclass(frozen=True)
class Profile:
    """Steps of a run with their times; prints as a table.

    Parameters
    ----------
    rows : tuple of ProfileRow
        In the order of the run. Reshapes, which do nothing, are left out.
    batch, threads, repeat : int
    run_seconds : float
        Median of plain runs, taken in turn with those that were timed step by step.
    limits : Limits
    """

    rows: tuple[ProfileRow, ...]
    batch: int
    threads: int
    repeat: int
    run_seconds: float
    limits: Limits

    @property
    def seconds(self) -> float:
        """All steps together."""
        return sum(row.seconds for row in self.rows)

    @property
    def total(self) -> ProfileRow:
        """All steps as one row; its limit is the sum of theirs."""
        return ProfileRow(
            sites=("total",),
            op="",
            shape=(),
            seconds=self.seconds,
            macs=sum(row.macs for row in self.rows),
            bytes=sum(row.bytes for row in self.rows),
            limit=sum(row.limit for row in self.rows),
        )

    def to_rows(self) -> list[dict[str, Any]]:
        """Plain dictionaries, as JSON and data frames like them; times in seconds."""
        return [
            {
                "site": " + ".join(row.sites),
                "op": row.op,
                "shape": row.shape,
                "seconds": row.seconds,
                "share": _ratio(row.seconds, self.seconds),
                "macs": row.macs,
                "bytes": row.bytes,
                "macs_per_second": _ratio(row.macs, row.seconds),
                "bytes_per_second": _ratio(row.bytes, row.seconds),
                "limit": row.limit,
                "of_limit": _ratio(row.limit, row.seconds),
            }
            for row in self.rows
        ]

    def to_frame(self) -> Any:
        """A pandas.DataFrame of `to_rows`.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_frame needs pandas; to_rows gives the same as dictionaries") from error
        return pandas.DataFrame(self.to_rows())

    def __iter__(self) -> Iterator[ProfileRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def summary(self) -> tuple[str, str]:
        """What was run, beside the sum of the steps; and the limits."""
        limits, threads = self.limits, f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        share = 100 * _ratio(self.seconds, self.run_seconds)
        run = (
            f"batch {self.batch}, {threads}, median of {self.repeat}: a plain run takes "
            f"{1e3 * self.run_seconds:.3f} ms, the steps {share:.1f} % of it"
        )
        machine = (
            f"limits: {limits.macs / 1e9:.1f} GMAC/s ({limits.isa}); {limits.hot / 1e9:.1f} GB/s from "
            f"{limits.hot_bytes / 1e6:.1f} MB of activations, {limits.cold / 1e9:.1f} GB/s from "
            f"{limits.cold_bytes / 1e6:.1f} MB with constants"
        )
        return run, machine

    def _cells(self) -> list[tuple[str, ...]]:
        return [_cells(row, self.seconds) for row in (*self.rows, self.total)]

    def __str__(self) -> str:
        return "\n".join([text_table(HEADER, self._cells(), left=3), *self.summary()])

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        return html_table(HEADER, self._cells(), self.summary())


def measure(
    spec: ProgramSpec,
    program: _C.Program,
    batch: int,
    inputs: Sequence[Array],
    threads: int | None,
    repeat: int,
) -> Profile:
    """Run a program `repeat` times plainly and step by step, in turn; see `IntegerModel.profile`.

    Parameters
    ----------
    spec : ProgramSpec
    program : _C.Program
        What it was compiled to.
    batch : int
    inputs : sequence of ndarray
        The program's integers, in the core's order.
    threads : int or None
    repeat : int
    """
    if isinstance(repeat, bool) or not isinstance(repeat, int) or repeat < 1:
        raise ValueError(f"profile: expected repeat >= 1, got {repeat!r}")
    count = _C.num_threads() if threads is None else threads
    limits = _probe(spec, program, batch, count)
    program.run(batch, inputs, None, count)  # memory and caches as in any later run
    plain, steps = [], []
    for _ in range(repeat):
        before = time.perf_counter()
        program.run(batch, inputs, None, count)
        plain.append(time.perf_counter() - before)
        steps.append(program.profile(batch, inputs, count))
    rows = [
        _row(spec, batch, limits, step, 1e-9 * statistics.median(times))
        for step, times in zip(program.steps(batch), zip(*steps, strict=True), strict=True)
        if any(step[2:])
    ]
    return Profile(tuple(rows), batch, count, repeat, statistics.median(plain), limits)


def interleaved(
    programs: Sequence[tuple[ProgramSpec, _C.Program]], batch: int, threads: int, rounds: Iterable[Any]
) -> list[dict[tuple[str, ...], list[float]]]:
    """Seconds of every step of several programs, round by round: what disturbs one disturbs the others too.

    Parameters
    ----------
    programs : sequence of (ProgramSpec, _C.Program)
    batch, threads : int
    rounds : iterable
        As many as it yields; in each, every program runs twice, on integers that are made up, and the second
        run counts.

    Returns
    -------
    list of dict
        For each program: the sites of a step, and its seconds in each round.
    """
    prepared = [(program, made_up_inputs(spec, batch)) for spec, program in programs]
    found: list[dict[tuple[str, ...], list[float]]] = [
        {_sites(spec, step): [] for step in program.steps(batch)} for spec, program in programs
    ]
    for _ in rounds:
        for times, (program, inputs) in zip(found, prepared, strict=True):
            program.run(batch, inputs, None, threads)  # the others have had the caches since its last round
            steps = program.profile(batch, inputs, threads)
            for seconds, nanoseconds in zip(times.values(), steps, strict=True):
                seconds.append(1e-9 * nanoseconds)
    return found


def made_up_inputs(spec: ProgramSpec, batch: int) -> list[Array]:
    """Integers that any program takes, in the core's order: random on a grid, masks of ones, indices of 0."""
    rng = np.random.default_rng(0)
    arrays: list[Array] = []
    for index in sorted(spec.inputs):
        value = spec.values[index]
        shape = value.full_shape(batch)
        if value.grid is not None:
            low, high = value.grid.quant_min, value.grid.quant_max
            arrays.append(rng.integers(low, high, shape, value.dtype, endpoint=True))
        else:
            arrays.append(np.full(shape, 1 if value.dtype == "uint8" else 0, value.dtype))
    return arrays


def _probe(spec: ProgramSpec, program: _C.Program, batch: int, threads: int) -> Limits:
    isa, macs, mac_ns = _C.probe_multiply_add(threads)
    constants = sum(v.size * np.dtype(v.dtype).itemsize for v in spec.values if v.kind == "const")
    hot = program.arena_size * min(batch, threads) if batch else program.arena_size
    sizes = [min(size, READ_AT_MOST) for size in (hot, hot + constants)]
    (hot_read, hot_ns), (cold_read, cold_ns) = (_C.probe_read(size, threads) for size in sizes)
    return Limits(
        isa=isa,
        macs=1e9 * macs / mac_ns,
        hot=1e9 * hot_read / hot_ns,
        cold=1e9 * cold_read / cold_ns,
        hot_bytes=hot,
        cold_bytes=hot + constants,
    )


def _row(
    spec: ProgramSpec, batch: int, limits: Limits, step: tuple[int, int, int, int, int], seconds: float
) -> ProfileRow:
    _, last, macs, moved, constant = step
    instructions = [spec.instructions[i] for i in _numbers(step)]
    return ProfileRow(
        sites=_sites(spec, step),
        op=" + ".join(instruction.op for instruction in instructions),
        shape=spec.values[spec.instructions[last].output].full_shape(batch),
        seconds=seconds,
        macs=macs,
        bytes=moved + constant,
        limit=limits.seconds(macs, moved, constant),
    )


def _numbers(step: tuple[int, ...]) -> tuple[int, ...]:
    """The instruction of a step, or the two that run as one pass."""
    first, last = step[:2]
    return (first,) if first == last else (first, last)


def _sites(spec: ProgramSpec, step: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(spec.values[spec.instructions[i].output].name for i in _numbers(step))


def _shortened(first: str, second: str) -> str:
    """``mlp.gelu`` beside ``layers.0.fc``: what is left of ``layers.0.mlp.gelu``."""
    ours, theirs = first.split("."), second.split(".")
    shared = 0
    while shared < min(len(ours), len(theirs)) - 1 and ours[shared] == theirs[shared]:
        shared += 1
    return ".".join(theirs[shared:])


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _cells(row: ProfileRow, all_seconds: float) -> tuple[str, ...]:
    shape = f"({', '.join(map(str, row.shape))})" if row.shape else ""
    rate = _ratio(row.macs, row.seconds) / 1e9
    return (
        row.site,
        row.op,
        shape,
        f"{1e3 * row.seconds:.3f}",
        f"{100 * _ratio(row.seconds, all_seconds):.1f} %",
        f"{row.macs / 1e6:.1f}" if row.macs else "",
        f"{row.bytes / 1e6:.3f}",
        f"{rate:.1f}" if row.macs else "",
        f"{_ratio(row.bytes, row.seconds) / 1e9:.2f}",
        f"{100 * _ratio(row.limit, row.seconds):.0f}",
    )
