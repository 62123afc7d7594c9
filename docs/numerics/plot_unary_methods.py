"""Draws unary_methods.png: `python docs/numerics/plot_unary_methods.py`.

Each curve is the integer that a method computes, before it is rounded to the output's grid, in real numbers,
less the function. x has 8 bits over [-6, 6].
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from pyquant import numerics
from pyquant.torch_ops import unary_methods

END = 6.0
X, Y = (END / 127, 0, -128, 127), (END / 127, 0, -128, 127)
METHODS = {
    "ivit": "#f4b5bc",
    "ivit(bits=16)": "#cc3311",
    "ibert": "#0077bb",
    "poly": "#009988",
    "nnlut": "#ddaa33",
}
PANELS = ("gelu", "silu", "sigmoid", "tanh")


def main() -> None:
    """Four functions, every method that has them."""
    v = torch.arange(-127, 128)
    x = v * X[0]
    figure, axes = plt.subplots(2, 2, figsize=(8.4, 5.4), layout="constrained")
    for axis, function in zip(axes.flat, PANELS, strict=True):
        real = torch.tensor([numerics.unary_value(function, float(at)) for at in x.double()])
        for method, color in METHODS.items():
            if function in numerics.unary_functions(method):
                made = numerics.derive_unary(function, X, Y, method)
                unit = made.multiplier / 2.0**made.shift * Y[0]
                axis.plot(
                    x, unary_methods.apply(made, v) * unit - real, color=color, linewidth=1.2, label=method
                )
        axis.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)
        axis.set_title(function, fontsize=10)
        axis.set_xlim(-END, END)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(fontsize=8, frameon=False)
    figure.supxlabel("x", fontsize=9)
    figure.supylabel("approximation - function", fontsize=9)
    figure.savefig(Path(__file__).parent / "unary_methods.png", dpi=72, metadata={"Software": None})


if __name__ == "__main__":
    main()
