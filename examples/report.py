"""What the examples print and plot: coverage, differences, SQNR of every site, latency."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import pyquant as pq

COLOURS = {
    "linear": "#4477aa",
    "attention": "#ee6677",
    "layer_norm": "#228833",
    "unary": "#ccbb44",
    "add": "#66ccee",
}


def coverage_table(coverage: pq.Coverage) -> str:
    """Counts by op and kind, and the summary."""
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for row in coverage:
        counts[row.op][row.kind] = counts[row.op].get(row.kind, 0) + 1
    kinds = list(coverage.counts)
    lines = [f"  {'op':14}" + "".join(f"{kind:>9}" for kind in kinds)]
    for op, found in counts.items():
        lines.append(f"  {op:14}" + "".join(f"{found.get(kind, ''):>9}" for kind in kinds))
    return "\n".join([*lines, f"  {coverage.summary()}"])


def site_outputs(prepared: pq.Prepared, images: Tensor, mode: str) -> dict[str, NDArray[np.float32]]:
    """Every site's output in a mode, by hooks on the sites (they are ordinary modules)."""
    found: dict[str, NDArray[np.float32]] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, args, output: found.__setitem__(name, output.detach().numpy().copy())

    hooks = [site.register_forward_hook(keep(name)) for name, site in prepared.sites().items()]
    try:
        with torch.no_grad(), pq.mode(prepared, mode):
            prepared(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def sqnr(reference: NDArray[np.float32], approximation: NDArray[np.float32]) -> float:
    """Ratio of norms per sample, mean over samples, in dB; infinite where nothing differs."""
    x = reference.reshape(len(reference), -1).astype(np.float64)
    noise = np.linalg.norm(x - approximation.reshape(x.shape), axis=1)
    ratio = np.linalg.norm(x, axis=1)[noise > 0] / noise[noise > 0]
    return float(20 * np.log10(ratio.mean())) if ratio.size else float("inf")


def site_sqnr(prepared: pq.Prepared, images: Tensor) -> dict[str, float]:
    """SQNR in dB between the float stream and the integer stream at every site that sees the input."""
    real = site_outputs(prepared, images, "float")
    integer = site_outputs(prepared, images, "quantized")
    values = {n: sqnr(real[n], integer[n]) for n in real if len(real[n]) == len(images) > 1}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def latency(functions: dict[str, Callable[[], Any]], rounds: int = 21) -> dict[str, tuple[float, float]]:
    """Median and spread (half the distance of the quartiles) in ms; one after the other in every round."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 2):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            if number >= 2:  # the first two warm caches and allocators up
                times[name].append((time.perf_counter() - begin) * 1e3)
    result = {}
    for name, measured in times.items():
        low, middle, high = statistics.quantiles(measured, n=4)
        result[name] = (middle, (high - low) / 2)
    return result


def print_latency(model: nn.Module, engine: pq.IntegerModel, images: Tensor) -> None:
    """Float against integer on one thread, for one image and for all of `images`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    engine.set_num_threads(1)
    try:
        for batch in (images[:1], images):
            array = batch.numpy()
            with torch.no_grad():
                found = latency({"float": lambda b=batch: model(b), "integer": lambda a=array: engine(a)})
            text = ", ".join(f"{name} {ms:.2f} ± {spread:.2f} ms" for name, (ms, spread) in found.items())
            print(f"  batch {len(batch)}: {text}")
    finally:
        torch.set_num_threads(threads)
        engine.set_num_threads(None)


def plot(
    path: Path, prepared: pq.Prepared, images: Tensor, real: pq.Evaluation, integer: pq.Evaluation
) -> None:
    """SQNR of every site in order of execution, and every logit of the float model against the engine's."""
    ops = {row.site: row.op for row in prepared.coverage() if row.kind == "integer"}
    values = site_sqnr(prepared, images)
    height = max(5.0, 0.17 * len(values))
    figure, (bars, cloud) = plt.subplots(1, 2, figsize=(13, height), width_ratios=(1.2, 1))
    bars.barh(
        list(values), list(values.values()), color=[COLOURS.get(ops.get(n, ""), "#bbbbbb") for n in values]
    )
    bars.invert_yaxis()
    bars.margins(y=0.01)
    bars.tick_params(axis="y", labelsize=7)
    bars.set_xlabel("SQNR of the integer stream against float, dB (higher is better)")
    bars.set_title(f"Every site, {len(images)} test images")
    used = {ops.get(name, "") for name in values}
    shown = [*(op for op in COLOURS if op in used), *(["other"] if used - set(COLOURS) else [])]
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS.get(op, "#bbbbbb")) for op in shown]
    bars.legend(handles, shown, fontsize=8)
    same = real.logits.argmax(1) == integer.logits.argmax(1)
    cloud.plot(real.logits[same].ravel(), integer.logits[same].ravel(), ".", ms=2, color="#4477aa", alpha=0.4)
    cloud.plot(
        real.logits[~same].ravel(), integer.logits[~same].ravel(), "x", ms=5, color="#ee6677",
        label=f"images whose prediction flips: {np.count_nonzero(~same)} of {len(same)}",
    )  # fmt: skip
    ends = [float(real.logits.min()), float(real.logits.max())]
    cloud.plot(ends, ends, color="black", lw=0.6)
    cloud.set_xlabel("float logit")
    cloud.set_ylabel("integer logit")
    cloud.set_title(f"Logits: {integer.sqnr(real):.1f} dB")
    cloud.legend(fontsize=8, loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
