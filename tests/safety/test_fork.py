"""A forked child works, whichever of torch and pyquant came first, and does not hang."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
{imports}
import numpy as np
from pyquant import ops
x = np.ones((300, 64), np.int8)
w = np.ones((64, 64), np.int8)
expected = ops.gemm(x, w, dtype="int32", threads=2)
{work}
child = os.fork()
if child == 0:
    good = np.array_equal(ops.gemm(x, w, dtype="int32", threads=2), expected)
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(0 if np.array_equal(ops.gemm(x, w, dtype="int32"), expected) else 1)
    _, status = os.waitpid(grandchild, 0)
    os._exit(0 if good and status == 0 else 1)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert np.array_equal(ops.gemm(x, w, dtype="int32", threads=2), expected)
"""

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None or "libasan" in os.environ.get("LD_PRELOAD", ""),
    reason="torch is not installed, or not built for the address sanitizer",
)


@pytest.mark.parametrize(
    ("imports", "work"),
    [
        pytest.param("import pyquant", "", id="alone"),
        pytest.param(
            "import torch, pyquant",
            "torch.ones(500, 500) @ torch.ones(500, 500)",
            id="torch first",
            marks=needs_torch,
        ),
        pytest.param(
            "import pyquant, torch",
            "torch.ones(500, 500) @ torch.ones(500, 500)",
            id="torch last",
            marks=needs_torch,
        ),
    ],
)
def test_fork(imports: str, work: str) -> None:
    code = SCRIPT.format(imports=imports, work=work)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@needs_torch
def test_import_in_the_child_of_a_process_that_used_threads() -> None:
    """No handler of ours was there to see the fork; the child is serial, and does not hang."""
    code = """
import os, torch
torch.set_num_threads(2)
torch.ones(700, 700) @ torch.ones(700, 700)
child = os.fork()
if child == 0:
    import numpy as np
    from pyquant import _C, ops
    x = np.ones((3000, 64), np.int8)
    good = (ops.gemm(x, np.ones((64, 64), np.int8), dtype="int32", threads=2) == 64).all()
    os._exit(0 if good and _C.num_threads() == 1 else 1)
_, status = os.waitpid(child, 0)
assert status == 0, status
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_multiprocessing_runs_a_model_in_children() -> None:
    code = """
import multiprocessing, numpy as np
from tests.safety.programs import arguments, block
model = block()
expected = model(**arguments()).logits
def work(_):
    return model(**arguments()).logits
with multiprocessing.get_context("fork").Pool(2) as pool:
    for result in pool.map(work, range(4)):
        assert np.array_equal(result, expected)
with multiprocessing.get_context("spawn").Pool(1) as pool:
    assert np.array_equal(pool.apply(model, (), arguments()).logits, expected)
"""
    guarded = 'if __name__ == "__main__":\n' + "\n".join("    " + line for line in code.splitlines())
    # `work` must be found by name in a forked child: it is, the child has the parent's memory.
    guarded = guarded.replace("    def work(_):", "    global work\n    def work(_):")
    done = subprocess.run([sys.executable, "-c", guarded], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
