"""Makes pyquant/selftest_answers.py from the specification: `python -m tests.golden.make_selftest`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.spec import derive, functions, layout, levels, metrics, numbers, observe
from tests.spec.arrays import expected
from tests.spec.cases import Case
from tests.spec.numbers import Affine

FILE = Path(__file__).resolve().parents[2] / "pyquant" / "selftest_answers.py"
HEAD = '''"""Known answers of `pyquant.selftest`; from `python -m tests.golden.make_selftest`, not by hand."""

from __future__ import annotations

__all__ = ["ANSWERS"]

ANSWERS: dict[str, str] = {
'''


def quantized(case: Any) -> tuple[np.ndarray, ...]:
    n, x = case.numbers, case.arrays["x"]
    scales = np.broadcast_to(case.arrays["scale"], x.shape)  # one, or one a channel of the last axis
    grids = [Affine(float(s), n["zero_point"], n["quant_min"], n["quant_max"]) for s in scales.flat]
    q = [numbers.quantize(float(v), grid) for v, grid in zip(x.flat, grids, strict=True)]
    back = [numbers.dequantize(v, grid) for v, grid in zip(q, grids, strict=True)]
    real = np.array(back, np.float32).reshape(x.shape)
    return np.array(q, n["dtype"]).reshape(x.shape), real, real


def observed(case: Any) -> tuple[np.ndarray, ...]:
    x = case.arrays["x"]
    columns = x.T if "axis" in case.numbers else x[None]
    low, high = zip(*(observe.minmax(column.tolist()) for column in columns), strict=True)
    return np.array(low, np.float32), np.array(high, np.float32)


def counted(case: Any) -> tuple[np.ndarray, ...]:
    seen = observe.Histogram()
    seen.observe(case.arrays["x"].tolist())
    meta = [float(seen.total), seen.minimum, seen.maximum, float(seen.exponent)]
    return np.array(seen.counts, np.int64), np.array(meta)


def fake(case: Any) -> tuple[np.ndarray, ...]:
    """fake.h on operands whose quotients, products and sums are exact."""
    scale, zero_point = float(case.arrays["scale"][0]), int(case.arrays["zero_point"][0])
    low, high = case.numbers["quant_min"] - zero_point, case.numbers["quant_max"] - zero_point
    v = [float(x) / scale for x in case.arrays["x"]]
    q = [min(max(round(t), low), high) for t in v]
    if case.op == "fake":
        bits = np.array([low <= round(t) <= high for t in v])
        return np.array([i * scale for i in q], np.float32), np.packbits(bits, bitorder="little")
    g = [float(t) for t in case.arrays["g"]]
    straight = [t if i % 3 == 0 else 0.0 for i, t in enumerate(g)]
    inside = [low < t < high for t in v]
    d = [i - t if within else i for i, t, within in zip(q, v, inside, strict=True)]
    dx = [t if within else 0.0 for t, within in zip(g, inside, strict=True)]
    d_scale = sum(a * b for a, b in zip(g, d, strict=True))
    d_zero = sum(-scale * t for t, within in zip(g, inside, strict=True) if not within)
    return (
        np.array(straight, np.float32),
        np.array(dx, np.float32),
        np.array([d_scale]),
        np.array([d_zero]),
    )


def on_levels(case: Any) -> tuple[np.ndarray, ...]:
    x, scale = case.arrays["x"], case.arrays["scale"].tolist()  # one a column
    table, limits = case.arrays["levels"].tolist(), case.arrays["thresholds"].tolist()
    cells = [(float(v), scale[i % len(scale)]) for i, v in enumerate(x.flat)]
    values = [levels.value(v, s, table, limits) for v, s in cells]
    codes = [levels.code(v, s, limits) for v, s in cells]
    return np.array(values, np.float32).reshape(x.shape), np.array(codes, np.uint8).reshape(x.shape)


def measured(case: Any) -> tuple[np.ndarray, ...]:
    x, y = (case.arrays[name].tolist() for name in "xy")
    if "scale" in case.arrays:
        scale = float(case.arrays["scale"][0])
        y = [metrics.dequantized(q, case.numbers["zero_point"], scale) for q in y]
    return (np.array(metrics.row(x, y)),)


def outputs(case: Any) -> tuple[np.ndarray, ...]:
    """What the specification makes of a case."""
    if case.op == "quantize":
        return quantized(case)
    if case.op in ("fake", "fake_back"):
        return fake(case)
    if case.op == "levels":
        return on_levels(case)
    if case.op == "observe":
        return observed(case)
    if case.op == "histogram":
        return counted(case)
    if case.op == "metrics":
        return measured(case)
    if case.op == "transpose":
        x = case.arrays["x"]
        rows, columns = x.shape
        flat = layout.copy(x.ravel().tolist(), (columns, rows), (1, columns), 0)
        return (np.array(flat, x.dtype).reshape(columns, rows),)
    return (expected(Case(case.op, case.name, dict(case.arrays), dict(case.numbers)))["y"],)


def text() -> str:
    # The kernels' answers are made here, so the module that holds them may not exist yet.
    from pyquant.selftest import CASES, GRID_X, GRID_Y, digest

    answers = {case.key: digest(*outputs(case)) for case in CASES}
    for name in functions.NAMES:
        table = derive.table(name, Affine(*GRID_X), Affine(*GRID_Y))
        answers[f"derive_table: {name}"] = digest(np.array(table, np.int8))
    return HEAD + "".join(f'    "{key}": "{value}",\n' for key, value in answers.items()) + "}\n"


if __name__ == "__main__":
    if not FILE.exists():
        FILE.write_text(HEAD + "}\n")
    FILE.write_text(text())
