"""The limits of this machine, measured (probe.c): multiply-adds of each instruction, reads and copies."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping

from benchmarks import compiled, machine

__all__ = ["Probe", "drift", "multiply_add"]

# What a kernel of that ISA can do at most per instruction that it is built on.
INT8 = {
    "avx2": "vpmaddwd",
    "avx512": "vpmaddwd_512",
    "avx512vnni": "vpdpbusd_512",
    "neon": "smull_sadalp",
    "neondot": "sdot",
}
INT4 = {**INT8, "avx2": "vpmaddubsw_vpaddw"}


def multiply_add(isa: str, bits: int) -> str | None:
    """Name of the probe that bounds weights of 8 or 4 bits; None where no vector ISA is in use."""
    return (INT8 if bits == 8 else INT4).get(isa)


def drift(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """The largest relative change of a probe."""
    return max((abs(after[name] / before[name] - 1) for name in before if name in after), default=0.0)


class Probe:
    """The compiled probe.c.

    Parameters
    ----------
    threads : int
    ring : int
        Bytes that the memory probes walk; several times the last-level cache.

    Raises
    ------
    OSError
        No compiler, or not enough memory.
    """

    def __init__(self, threads: int, ring: int | None = None) -> None:
        self.threads = threads
        self.ring = max(32 << 20, 4 * machine.last_level_cache()) if ring is None else ring
        self._library = compiled.library("probe.c")
        self._library.bench_probe_name.restype = ctypes.c_char_p
        self._library.bench_probe_macs.restype = ctypes.c_double
        self._library.bench_probe_read.restype = ctypes.c_uint64
        if not self._library.bench_probe_ring(ctypes.c_size_t(self.ring)):
            raise OSError(f"probe: no memory for a ring of {self.ring} bytes")
        here = range(self._library.bench_probe_count())
        self._which = {
            self._library.bench_probe_name(i).decode(): i
            for i in here
            if self._library.bench_probe_present(i)
        }

    @property
    def compute_names(self) -> tuple[str, ...]:
        """Multiply-add probes that this CPU can run."""
        return tuple(self._which)

    def compute(self, name: str, macs: float) -> tuple[Callable[[], None], float]:
        """A call that does about so many multiply-adds in all threads, and how many exactly."""
        which = self._which[name]
        each = self._library.bench_probe_macs(which) * self.threads
        rounds = max(1, round(macs / each))
        return lambda: self._library.bench_probe_compute(
            which, self.threads, ctypes.c_long(rounds)
        ), rounds * each

    def read(self, size: int) -> tuple[Callable[[], None], float]:
        """A call that reads about so many bytes that no cache holds, and how many exactly."""
        size = max(4096, min(size, self.ring) & ~0xFFF)
        return lambda: self._library.bench_probe_read(self.threads, ctypes.c_size_t(size)), size

    def copy(self, size: int) -> tuple[Callable[[], None], float]:
        """A call that copies about so many bytes; as many are read as written, both count."""
        size = max(4096, min(size, self.ring // 2) & ~0xFFF)
        return lambda: self._library.bench_probe_copy(self.threads, ctypes.c_size_t(size)), 2 * size

    def peaks(self, seconds: float = 0.02, repeats: int = 3) -> dict[str, float]:
        """Best rate of each probe: GMAC/s for multiply-adds, GB/s for ``read`` and ``copy``.

        The best, not the median: a limit is what is left when nobody disturbs.
        """
        calls = {name: self.compute(name, 1e9 * seconds) for name in self._which}
        calls["read"] = self.read(self.ring // 4)
        calls["copy"] = self.copy(self.ring // 4)
        rates = {}
        for name, (run, work) in calls.items():
            run()
            best = float("inf")
            for _ in range(repeats):
                spent, count = 0.0, 0
                while spent < seconds:
                    begin = time.perf_counter()
                    run()
                    spent += time.perf_counter() - begin
                    count += 1
                best = min(best, spent / count)
            rates[name] = 1e-9 * work / best
        return rates
