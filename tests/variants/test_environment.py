"""PYQUANT_ISA limits what a fresh process uses, and a name that cannot be honoured stops it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.variants.calls import eligible_isas

PROGRAM = "from pyquant import _C; print(_C.isa_active(), sorted({i for _, i, _, ok in _C.kernels() if ok}))"


def run(isa: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYQUANT_ISA": isa}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("isa", eligible_isas())
def test_the_environment_limits_the_choice(isa: str) -> None:
    done = run(isa)
    assert done.returncode == 0, done.stderr
    active, _, eligible = done.stdout.partition(" ")
    assert active == isa
    allowed = eligible_isas()[: eligible_isas().index(isa) + 1]
    assert eligible.strip() == str(sorted(allowed))


def test_an_unknown_name_stops_the_import() -> None:
    done = run("avx3")
    assert done.returncode != 0
    assert "PYQUANT_ISA" in done.stderr
