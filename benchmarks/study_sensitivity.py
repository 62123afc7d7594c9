"""What does `pq.sensitivity` cost, in passes of the float model, and does its memory grow with the samples?

A ViT of DeiT-S size (random weights), quantized at W8A8, all methods at its 49 softmaxes, GELUs and
LayerNorms. Time: the user's float model on two batches, then the same batches scored, in turns; the median of
the ratios and their middle half. The instruction set decides, so it is printed. Memory: the peak of a new
process for each number of batches, and of one that only runs the float model.

    python -m benchmarks.study_sensitivity [-o FILE] [--threads N ...] [--batch N] [--rounds N]

Needs torch and transformers. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench_vit import DEIT_S, TINY, network
from benchmarks.machine import alone, cpu_model, versions

SCORES = {
    "accumulated": ("accumulated",),
    "accumulated, isolated": ("accumulated", "isolated"),
    "all": ("accumulated", "isolated", "all_but_this"),
}

SCORED = 2  # batches


def images(count: int, side: int, seed: int) -> Any:
    """Normal noise."""
    import torch

    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def quantized(sizes: dict[str, int], side: int, batch: int) -> tuple[Any, Any]:
    """The float model and the calibrated one."""
    import pyquant as pq

    model = network(sizes)
    return model, pq.quantize(model, [images(batch, side, 0)], progress=False)


def times(sizes: dict[str, int], batch: int, threads: int, rounds: int) -> dict[str, Any]:
    """Seconds of a float pass and of scoring, paired."""
    import torch

    import pyquant as pq

    torch.set_num_threads(threads)
    side = sizes.get("image_size", 224)
    model, prepared = quantized(sizes, side, batch)
    data = [images(batch, side, number) for number in range(SCORED)]
    ratios: dict[str, list[float]] = {name: [] for name in SCORES}
    passes: list[float] = []
    table = None
    for round_number in range(rounds + 1):
        for name, scores in SCORES.items():
            begin = time.perf_counter()
            with torch.no_grad():
                for x in data:
                    model(x)
            middle = time.perf_counter()
            table = pq.sensitivity(prepared, data, scores=scores, progress=False)
            end = time.perf_counter()
            if round_number:  # the first one warms up
                ratios[name].append((end - middle) / (middle - begin))
                passes.append(middle - begin)
    assert table is not None
    return {
        "sites": len(table.sites),
        "candidates": len(table.rows),
        "float_pass_seconds": statistics.median(passes),
        "float_passes": {name: spread(values) for name, values in ratios.items()},
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and middle half."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": middle, "low": low, "high": high}


def peak(sizes: dict[str, int], batch: int, threads: int, batches: int, score: bool) -> float:
    """MiB that this process held at most, calibration on one batch included."""
    import torch

    import pyquant as pq

    torch.set_num_threads(threads)
    side = sizes.get("image_size", 224)
    model, prepared = quantized(sizes, side, batch)

    def data() -> Iterator[Any]:
        for number in range(batches):
            yield images(batch, side, number)

    if score:
        pq.sensitivity(prepared, data(), scores=SCORES["all"], progress=False)
    else:
        with torch.no_grad():
            for x in data():
                model(x)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print, and write FILE."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--tiny", action="store_true", help="a very small model: does it run?")
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()

    from pyquant import _C

    sizes = TINY if options.tiny else DEIT_S
    batch, threads = options.batch, options.threads[-1]
    memory = {"float model": alone(peak, sizes, batch, threads, max(options.batches, default=1), False)}
    for count in options.batches:
        memory[f"{count} batches"] = alone(peak, sizes, batch, threads, count, True)
    found: dict[str, Any] = {
        "machine": {"cpu": cpu_model(), "isa": _C.isa_active(), "versions": versions()},
        "images": {"batch": batch, "scored": SCORED * batch},
        "time": {f"threads {n}": times(sizes, batch, n, options.rounds) for n in options.threads},
        "peak_mib": memory,
    }
    text = json.dumps(found, indent=1)
    if options.out:
        options.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
