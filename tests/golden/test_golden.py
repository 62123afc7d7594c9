"""No released number has moved: the specification still makes the vectors, the kernels still give them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.golden.make import FOLDER, decode, files
from tests.spec.cases import Case
from tests.variants.calls import _C, actual

STORED = sorted(path.name for path in FOLDER.glob("*.json"))


def test_the_specification_reproduces_every_file() -> None:
    made = files()
    assert sorted(made) == STORED
    for name, text in made.items():
        assert text == (FOLDER / name).read_text(), f"{name} is no longer what it was"


def test_the_vectors_stay_small() -> None:
    assert sum((FOLDER / name).stat().st_size for name in STORED) < 450_000


def vectors(op: str) -> list[dict[str, Any]]:
    stored: list[dict[str, Any]] = json.loads((FOLDER / f"{op}.json").read_text())
    return stored


@pytest.mark.parametrize(
    "op",
    [
        "gemm",
        "gemm_s8s4",
        "attention",
        "attention_online64",
        "layernorm",
        "softmax",
        "table",
        "requantize",
        "add",
        "mean",
    ],
)
def test_kernels_give_the_stored_results(op: str) -> None:
    for row in vectors(op):
        case = Case(op, row["name"], {n: decode(a) for n, a in row["arrays"].items()}, row["numbers"])
        want = decode(row["expected"]["y"])
        assert want is not None
        np.testing.assert_array_equal(actual(case), want, err_msg=f"{op} {case.name}", strict=True)


def test_quantize_gives_the_stored_results() -> None:
    for row in vectors("quantize"):
        scale = np.array([float.fromhex(row["grid"][0])], np.float32)
        zero_point, low, high = (int(v) for v in row["grid"][1:])
        x = np.array([float.fromhex(v) for v in row["x"]], np.float32)
        dtype = "int8" if low >= -128 else "int16"
        q = _C.quantize(x, scale, zero_point=zero_point, quant_min=low, quant_max=high, dtype=dtype)
        assert q.tolist() == row["q"]
        assert [float(v).hex() for v in _C.dequantize(q, scale, zero_point=zero_point)] == row["x_hat"]


def test_derive_gives_the_stored_constants() -> None:
    stored = json.loads((FOLDER / "derive.json").read_text())
    x, y = (float(np.float32(0.04)), -11, -128, 127), (float(np.float32(0.03)), 5, -128, 127)
    for real, constants in stored["dyadic"].items():
        assert list(_C.derive_dyadic(float.fromhex(real))) == constants
    for name, constants in stored["attention"].items():
        method, keys = name.split()
        table, *rest = _C.derive_attention(method, x, x, x, y, 0.125, 64, int(keys))
        assert [*rest[:4], table.tolist(), *rest[5:]] == constants
    for name, entries in stored["table"].items():
        assert _C.derive_table(name, x, y).tolist() == entries


def test_methods_give_the_stored_tables() -> None:
    x, y = (float(np.float32(0.04)), -11, -128, 127), (float(np.float32(0.03)), 5, -128, 127)
    for name, entries in json.loads((FOLDER / "unary_methods.json").read_text()).items():
        method, function = name.split()
        assert _C.derive_table(function, x, y, method)[::16].tolist() == entries
