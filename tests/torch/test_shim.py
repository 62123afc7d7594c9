"""The shim and the pure-torch bodies give the same bits: every op, layout, option and thread count."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from pyquant.torch_ops import new_histogram, new_minmax, observe, shim_loaded

from .cases import BODIES, cases, op, wild

needs_shim = pytest.mark.skipif(not shim_loaded(), reason="the shim is not loaded")


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(torch.int32)


@needs_shim
@pytest.mark.parametrize("name", BODIES)
def test_shim_equals_pure_torch(name: str) -> None:
    for number, args in enumerate(cases(name)):
        want = BODIES[name](*args)
        got = op(name)(*args)
        assert got.shape == want.shape, number
        assert got.is_contiguous(), number
        assert torch.equal(bits(got), bits(want)), f"case {number}: {(got - want).abs().max()}"


@needs_shim
@pytest.mark.parametrize("name", BODIES)
def test_thread_count_changes_no_bit(name: str, threads: None) -> None:
    for args in cases(name, seed=1):
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(bits(op(name)(*args)))
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], results[2])


@needs_shim
def test_observers_equal_pure_torch() -> None:
    generator = torch.Generator().manual_seed(3)
    for shape, state in (((7,), ()), ((5, 33), (33,)), ((5, 33), (5, 1)), ((2, 3, 4), (1, 3, 1)), ((0,), ())):
        x = torch.randn(shape, generator=generator)
        got, want = new_minmax(state), new_minmax(state)
        for scale in (1.0, 3.0, 0.5):
            op("observe_minmax")(x * scale, *got)
            observe.minmax_body(x * scale, *want)
        assert torch.equal(got[0], want[0])
        assert torch.equal(got[1], want[1])
    got_h, want_h = new_histogram(), new_histogram()
    for scale in (0.0, 1e-30, 0.01, 1.0, 700.0, 2.0):
        x = scale * wild(generator, (50, 40)).nan_to_num(posinf=1.0, neginf=-1.0).clamp(-1e9, 1e9)
        op("observe_histogram")(x.t(), *got_h)
        observe.histogram_body(x.t(), *want_h)
        assert torch.equal(got_h[0], want_h[0])
        assert torch.equal(got_h[1], want_h[1])
    assert int(got_h[0].sum()) == 6 * 2000


def test_environment_keeps_pure_torch() -> None:
    code = "import pyquant.torch_ops as t; assert not t.shim_loaded()"
    environment = {**os.environ, "PYQUANT_TORCH_SHIM": "0"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)


def digest() -> str:
    total = hashlib.sha256()
    for name in BODIES:
        for args in cases(name, seed=2):
            total.update(op(name)(*args).numpy().tobytes())
    return total.hexdigest()


@needs_shim
def test_reference_kernels_change_no_bit() -> None:
    code = "from tests.torch.test_shim import digest; print(digest())"
    environment = {**os.environ, "PYQUANT_ISA": "ref"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, check=True, timeout=300, capture_output=True, text=True)
    assert done.stdout.strip() == digest()
