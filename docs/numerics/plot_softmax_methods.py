"""Draws softmax_methods.png: `python docs/numerics/plot_softmax_methods.py`.

Each panel is one method: by how much the weight of a key that lies x below the largest score differs from
e^-x, in percent, in a row of 197 keys that are mostly as far away.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from pyquant.methods import methods
from pyquant.numerics import derive_attention
from pyquant.ops import attention_trace

STEP = 1 / 128  # of the scores, real
WIDTH = 10  # elements of a head: scores are sums of that many bytes
END = 8.0
PANEL = {"fqvit": 60, "sole": 60, "index": 60, "qflash": 30, "table8": 30, "ibert": 30}


def weights(method: str, distance: NDArray[np.int64]) -> NDArray[np.float64]:
    """P of keys at integer distances below a key at 0, over P of that key."""
    grid = (1.0, 0, -128, 127)
    constants = derive_attention(method, grid, grid, grid, grid, STEP, WIDTH, len(distance) + 1)
    k = np.zeros((1, 1, len(distance) + 1, WIDTH), np.int8)
    rest = -np.concatenate([[0], distance])
    for column in range(WIDTH):
        k[0, 0, :, column] = np.clip(rest, -127, 127)
        rest = rest - k[0, 0, :, column]
    q = np.ones((1, 1, 1, WIDTH), np.int8)
    p = attention_trace(q, k, np.zeros_like(k), **constants.keywords()).p[0, 0, 0, 0]
    return np.asarray(p[1:] / p[0])


def main() -> None:
    """Nine panels."""
    far = np.full(195, 1270)
    distance = np.arange(0, int(END / STEP), 2)
    figure, axes = plt.subplots(3, 3, figsize=(9, 6), sharex=True, layout="constrained")
    for axis, name in zip(axes.flat, methods("softmax"), strict=True):
        ratio = np.array([weights(name, np.concatenate([[d], far]))[0] for d in distance])
        error = 100 * (ratio / np.exp(-distance * STEP) - 1)
        top = PANEL.get(name, 10)
        axis.plot(distance * STEP, error, color="#0077bb", linewidth=0.9)
        axis.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)
        axis.set_title(name, fontsize=10)
        axis.set_xlim(0, END)
        axis.set_ylim(-top, top)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("x, below the largest score", fontsize=9)
    figure.supylabel("error of the weight against $e^{-x}$, %", fontsize=9)
    figure.savefig(Path(__file__).with_name("softmax_methods.png"), dpi=80, metadata={"Software": None})


if __name__ == "__main__":
    main()
