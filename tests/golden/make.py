"""Makes the golden vectors from the executable specification: `python -m tests.golden.make`.

A vector is a case with its inputs and outputs. Made again they must be the same file; a difference means that
a number which was released has moved. One JSON file per op, one case a line: any language can read them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.spec import derive, derive_unary, functions, numbers, observe
from tests.spec.arrays import expected
from tests.spec.cases import Array, Case, small_cases
from tests.spec.numbers import Affine, float32

FOLDER = Path(__file__).parent / "vectors"
SEED = 20260
LARGEST = 420  # elements of a stored case: larger ones show nothing more and fill the repository


def encode(array: Array | None) -> dict[str, Any] | None:
    if array is None:
        return None
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": array.ravel().tolist()}


def decode(stored: dict[str, Any] | None) -> Array | None:
    if stored is None:
        return None
    array: Array = np.array(stored["data"], stored["dtype"]).reshape(stored["shape"])
    return array


def vector(case: Case) -> dict[str, Any]:
    return {
        "name": case.name,
        "arrays": {name: encode(array) for name, array in case.arrays.items()},
        "numbers": case.numbers,
        "expected": {name: encode(array) for name, array in expected(case).items()},
    }


def small_enough(case: Case) -> bool:
    return sum(array.size for array in case.arrays.values() if array is not None) <= LARGEST


def quantize_vectors() -> list[dict[str, Any]]:
    """x as hexadecimal floats, so that no decimal rounding comes in between."""
    rng = np.random.default_rng(SEED)
    rows = []
    for scale, zero_point, low, high in (
        (0.37, 3, -128, 127),
        (1e-3, -40, -100, 100),
        (2.0**-9, 0, -32768, 32767),
    ):
        grid = Affine(float32(scale), zero_point, low, high)
        ties = [float32((int(n) + 0.5) * grid.scale) for n in rng.integers(-130, 130, 24)]
        x = [*ties, *(float32(v) for v in (rng.normal(size=24) * 80 * scale).tolist()), 3e38, -3e38]
        q = [numbers.quantize(v, grid) for v in x]
        rows.append(
            {
                "grid": [grid.scale.hex(), zero_point, low, high],
                "x": [v.hex() for v in x],
                "q": q,
                "x_hat": [numbers.dequantize(v, grid).hex() for v in q],
            }
        )
    return rows


def derive_vectors() -> dict[str, Any]:
    """The constants of one site of each kind, and the tables of every function on one grid."""
    x, y = Affine(float32(0.04), -11, -128, 127), Affine(float32(0.03), 5, -128, 127)
    softmaxes = {
        f"{method} {keys}": derive.attention(method, x, x, x, y, 0.125, 64, keys, False)
        for method in ("table16", "table8")
        for keys in (197, 4096)
    }
    norm = derive.layernorm([1.0, float32(-0.7), float32(2.2)], [0.0, 0.5, -1.0], 1e-6, x.scale, y.scale)
    return {
        "dyadic": {
            real.hex(): list(vars(numbers.dyadic(real)).values()) for real in (1.0, 1 / 3, 0.0123, 77.7)
        },
        "attention": {
            name: [s.delta_max, s.multiplier, s.shift, s.pmax, list(s.table), r.multiplier, r.shift]
            for name, (s, r) in softmaxes.items()
        },
        "layernorm": [norm.epsilon, norm.gain, norm.offset, norm.shift],
        "add": list(vars(derive.add(x.scale, y.scale, float32(0.05))).values()),
        "table": {name: derive.table(name, x, y) for name in functions.NAMES},
    }


def unary_vectors() -> dict[str, list[int]]:
    """Every sixteenth entry of every function's table by every method with a formula, on those grids."""
    x, y = Affine(float32(0.04), -11, -128, 127), Affine(float32(0.03), 5, -128, 127)
    return {
        f"{method} {function}": derive_unary.constants(function, method, x, y).table(x, y)[::16]
        for method, forms in derive_unary.FORMS.items()
        for function in forms
    }


def histogram_vector() -> dict[str, Any]:
    x = np.random.default_rng(SEED).normal(size=500).astype(np.float32).tolist()
    histogram = observe.Histogram()
    histogram.observe([0.0, *x, 1e-30, -7.5])
    counts = {str(i): c for i, c in enumerate(histogram.counts) if c}
    return {"seed": SEED, "exponent": histogram.exponent, "total": histogram.total, "counts": counts}


def files() -> dict[str, str]:
    """Every golden file's name and text."""
    by_op: dict[str, list[str]] = {}
    for case in filter(small_enough, small_cases(SEED)):
        by_op.setdefault(case.op, []).append(json.dumps(vector(case), separators=(",", ":")))
    texts = {f"{op}.json": "[\n" + ",\n".join(rows) + "\n]\n" for op, rows in by_op.items()}
    for name, content in (
        ("quantize", quantize_vectors()),
        ("derive", derive_vectors()),
        ("unary_methods", unary_vectors()),
        ("histogram", histogram_vector()),
    ):
        texts[f"{name}.json"] = json.dumps(content, separators=(",", ":")).replace("],", "],\n") + "\n"
    return texts


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text)
