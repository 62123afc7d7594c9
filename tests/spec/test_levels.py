"""The kernels, against the specification in exact fractions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyquant import ops

from . import levels as spec

FLOATS = st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=True)
SCALES = st.floats(2.0**-100, 2.0**100, width=32)


@given(
    st.lists(FLOATS, min_size=1, max_size=40, unique=True),
    st.lists(FLOATS, min_size=0, max_size=39, unique=True),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=60),
    SCALES,
)
def test_values_and_codes(levels: list[float], thresholds: list[float], x: list[float], scale: float) -> None:
    count = min(len(levels), len(thresholds) + 1)
    table = sorted({v + 0.0 for v in levels})[:count]  # + 0: -0 and 0 are one
    limits = sorted({v + 0.0 for v in thresholds})[: len(table) - 1]
    table = table[: len(limits) + 1]
    near = [float(np.float32(t * scale)) for t in limits if abs(t * scale) < 3e38]
    values = np.array([v for v in x + near if abs(v / scale) < 3e38], np.float32)
    got = ops.levels(values, scale, table, limits)
    codes = ops.levels(values, scale, table, limits, codes=True)
    assert codes.tolist() == [spec.code(v, scale, limits) for v in values.tolist()]
    assert got.tolist() == [spec.value(v, scale, table, limits) for v in values.tolist()]
