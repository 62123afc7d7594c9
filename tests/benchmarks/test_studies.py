"""Studies that need no data of others run, on a size that only shows that."""

from __future__ import annotations

import os
from concurrent.futures.process import BrokenProcessPool

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks import machine, study_qat_memory
from benchmarks.bench_vit import TINY


@pytest.mark.parametrize("name", ["torch float32", "W4A8-lsq", study_qat_memory.PEER])
def test_memory_of_a_step(name: str) -> None:
    found = study_qat_memory.measure(name, TINY, threads=1, steps=1)
    assert found["peak"] >= found["before"] > 50
    assert name in study_qat_memory.NAMES


def test_a_process_of_its_own_that_dies_is_an_error() -> None:
    assert machine.alone(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        machine.alone(divmod, 7, 0)
    with pytest.raises(BrokenProcessPool):
        machine.alone(os._exit, 3)
