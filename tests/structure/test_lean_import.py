"""`import pyquant` needs NumPy and nothing else, and says so in one error where torch is needed."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "transformers", "matplotlib", "pandas", "sklearn", "scipy", "typer", "yaml")


def python(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_lean() -> None:
    code = f"import sys, pyquant; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert python(code) == "[]"


def test_numpy_functions_and_engine_do_without_torch() -> None:
    """None in sys.modules makes `import torch` fail as if it were not installed."""
    code = """
import sys
sys.modules["torch"] = None
import pyquant
pyquant.ops
pyquant.IntegerModel
print(pyquant.__version__)
"""
    assert python(code)


def test_a_name_that_needs_torch_says_so() -> None:
    code = """
import sys
sys.modules["torch"] = None
import pyquant
try:
    pyquant.quantize
except pyquant.MissingTorchError as error:
    print(error)
"""
    assert "torch" in python(code)
