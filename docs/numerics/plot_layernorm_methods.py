"""Draws layernorm_methods.png: `python docs/numerics/plot_layernorm_methods.py`.

Left: the roots that methods take of n = sum (x - mean)^2, against sqrt(n). Right: normalised rows of 384
channels on an output grid fine enough to add nothing, against float64, over the deviation of x in steps.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from pyquant import numerics, ops
from pyquant.torch_ops.norm_methods import newton_root, parse

CHANNELS, ROWS = 384, 64
FINE = float(np.float32(12 / 32767))
COLORS = {
    "exact": "#333333",
    "ibert": "#99ccee",
    "ivit(iterations=2)": "#f4b5bc",
    "ivit(iterations=3)": "#ee7733",
    "ivit": "#009988",
    "ivit_published": "#cc3311",
    "ptf": "#aa4499",
}


def roots(axis: plt.Axes) -> None:
    """Relative errors of the roots."""
    n = np.unique(np.round(np.logspace(0, 47, 1500, base=2)).astype(np.int64)).clip(max=2**47 - 1)
    real = np.sqrt(n.astype(np.float64))
    for method in list(COLORS)[1:-1]:
        found = newton_root(parse(method), torch.from_numpy(n)).numpy()
        error = np.maximum(np.abs(found / real - 1), 1e-8)
        axis.loglog(n, error, color=COLORS[method], linewidth=1.0, label=method, base=2)
    axis.set_yscale("log", base=10)
    axis.set_ylim(1e-8, 1e2)
    axis.set_xlabel("n", fontsize=9)
    axis.set_ylabel("|root / sqrt(n) - 1|", fontsize=9)
    axis.legend(fontsize=7, frameon=False)


def sqnr(x: NDArray[np.float64], method: str) -> float:
    """In dB, of the normalised values."""
    x_range = np.stack([x.min(0), x.max(0)]).astype(np.float32)
    constants = numerics.derive_layernorm(CHANNELS, None, None, 0.0, 1.0, FINE, method, x_range)
    limits = {"dtype": "int16", "quant_min": -32768, "quant_max": 32767}
    y = ops.layernorm(x.astype(np.int16), **constants.keywords(), **limits) * FINE
    want = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    return float(20 * np.log10(np.linalg.norm(want) / np.linalg.norm(want - y)))


def rows(axis: plt.Axes) -> None:
    """SQNR over the deviation."""
    rng = np.random.default_rng(0)
    normal, mean = rng.normal(size=(ROWS, CHANNELS)), rng.uniform(-1, 1, (ROWS, 1))
    deviations = np.logspace(-1, 12.5, 55, base=2)
    for method, color in COLORS.items():
        if method == "ivit(iterations=2)":
            continue  # its waves would hide the others
        values = [sqnr(np.round(normal * d + mean * d), method) for d in deviations]
        width = 3.5 if method == "ibert" else 1.2  # ivit lies on it
        axis.semilogx(deviations, values, color=color, linewidth=width, label=method, base=2)
    axis.set_ylim(-5, 95)
    axis.set_xlabel("standard deviation of x, in steps", fontsize=9)
    axis.set_ylabel("SQNR, dB", fontsize=9)
    axis.legend(fontsize=7, frameon=False)


def main() -> None:
    """Both panels."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    roots(left)
    rows(right)
    for axis in (left, right):
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).parent / "layernorm_methods.png", dpi=80, metadata={"Software": None})


if __name__ == "__main__":
    main()
