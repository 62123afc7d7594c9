"""PYQUANT_ISA, and importing pyquant with and without what it does not need."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from pyquant import _C

HASH = """
import hashlib, numpy as np
from pyquant import _C, ops
from tests.safety.programs import arguments, block
y = block(tokens=33, width=32, heads=4)(**arguments(3, 33, 32))
print(_C.isa_active(), hashlib.sha256(y.logits.tobytes()).hexdigest())
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_isa_of_this_machine_gives_the_same_bits():
    found = {}
    for isa in sorted({isa for _, isa, _, eligible in _C.kernels() if eligible}):
        done = run(HASH, PYQUANT_ISA=isa)
        assert done.returncode == 0, done.stderr
        active, found[isa] = done.stdout.split()
        assert active == isa
    assert "ref" in found
    assert len(set(found.values())) == 1, found


def test_an_unknown_isa_is_one_clear_error():
    done = run("import pyquant", PYQUANT_ISA="sse9")
    assert done.returncode == 1
    assert "ValueError: PYQUANT_ISA: expected ref, avx2" in done.stderr
    assert "'sse9'" in done.stderr
    assert run("import pyquant", PYQUANT_ISA="").returncode == 0


def test_an_isa_of_another_machine_is_one_clear_error():
    other = "neon" if platform.machine() in ("x86_64", "AMD64") else "avx2"
    done = run("import pyquant", PYQUANT_ISA=other)
    assert done.returncode == 1
    assert f"NotImplementedError: PYQUANT_ISA: this machine or build has no '{other}'" in done.stderr


def test_the_limit_can_be_moved():
    best = _C.isa_active()
    try:
        _C.isa_limit("ref")
        assert _C.isa_active() == "ref"
        with pytest.raises(ValueError, match="sse9"):
            _C.isa_limit("sse9")
        assert _C.isa_active() == "ref"
    finally:
        _C.isa_limit(os.environ.get("PYQUANT_ISA"))
    assert _C.isa_active() == best


def test_without_torch_the_engine_works_and_the_verbs_say_so():
    code = """
import sys
sys.modules["torch"] = None
import pyquant
from tests.safety.programs import arguments, block
block()(**arguments())
try:
    pyquant.quantize
except pyquant.MissingTorchError as error:
    print(error)
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pyquant.quantize needs PyTorch")


def test_importing_pyquant_does_not_import_torch():
    code = "import sys, pyquant; assert 'torch' not in sys.modules; pyquant.nonsense"
    done = run(code)
    assert "AttributeError: module 'pyquant' has no attribute 'nonsense'" in done.stderr


def test_the_kernel_list_starts_with_ref():
    rows = _C.kernels()
    ops = [op for op, _, _, _ in rows]
    for op in set(ops):
        assert rows[ops.index(op)][1:] == ("ref", (), True)
    assert set(_C.isa_names()) >= {isa for _, isa, _, _ in rows}
    assert _C.num_threads() >= 1
