"""How much memory does a training step take beside a float one?

The ViT of `bench_qat` (6 blocks, 96 wide, 65 tokens, batch 64, random weights), each model in a process of
its own: what the process holds before its first step, and its peak over some steps of AdamW (Linux's VmHWM,
which counts what the allocator keeps).

    python -m benchmarks.study_qat_memory [-o FILE] [--threads N] [--steps N]

Needs torch and transformers.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.bench_qat import CIFAR, FLOAT, PRESETS, RATE, fake_quantized, images, stepper
from benchmarks.bench_vit import TINY, network
from benchmarks.machine import alone, cpu_model, versions

PEER = "torch fake-quantization, linear layers"
NAMES = (FLOAT, *PRESETS.values(), PEER)


def held(field: str) -> float:
    """MiB of this process: VmRSS, or VmHWM for the peak."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def measure(name: str, sizes: dict[str, int], threads: int, steps: int) -> dict[str, float]:
    """MiB of this process, before and over its steps."""
    import torch

    import pyquant as pq

    torch.set_num_threads(threads)
    x, _ = images(sizes)
    model = network(sizes)
    if name == PEER:
        model = fake_quantized(model, x)
    elif name != FLOAT:
        model = pq.quantize(model, [x], config=name, progress=False)
    groups = model.parameters() if name in (FLOAT, PEER) else pq.param_groups(model, RATE)
    step = stepper(model, groups, sizes)
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    for _ in range(steps):
        step()
    return {"before": before, "peak": held("VmHWM")}


def grown(found: dict[str, float]) -> float:
    """What the steps took beyond what was held."""
    return found["peak"] - found["before"]


def main() -> None:
    """Measure and print, and write FILE."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--tiny", action="store_true", help="a very small model: does it run?")
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()

    from pyquant import _C

    sizes = TINY if options.tiny else CIFAR
    found = {name: alone(measure, name, sizes, options.threads, options.steps) for name in NAMES}
    real = found[FLOAT]
    result: dict[str, Any] = {
        "machine": {"cpu": cpu_model(), "isa": _C.isa_active(), "versions": versions()},
        "threads": options.threads,
        "steps": options.steps,
        "mib": {
            name: {key: round(value, 1) for key, value in each.items()}
            | {
                "peak, times float": round(each["peak"] / real["peak"], 3),
                "growth, times float": round(grown(each) / grown(real), 3),
            }
            for name, each in found.items()
        },
    }
    text = json.dumps(result, indent=1)
    if options.out:
        options.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
