"""Ctrl-C in a long call, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# A call that takes a while, cut by SIGINT after 0.1 s. Prints how long the whole call takes, how long
# the cut one ran on, and what came out.
SCRIPT = """
import json, os, signal, threading, time
# A job in the background of a shell inherits an ignored SIGINT, and Python leaves that as it is.
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np
from pyquant import ops, numerics
{setup}
call()
sent = []
def send():
    time.sleep(0.1)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
{handler}
sender = threading.Thread(target=send)
sender.start()
outcome = "finished"
try:
    long_call()
    time.sleep(5)
except BaseException as error:
    outcome = type(error).__name__
sender.join()  # a call that may finish can do so before the signal
late = time.perf_counter() - sent[0]
# the machine still works
again = call() is not None
print(json.dumps({{"outcome": outcome, "late": late, "again": again}}))
"""

GEMM = """
x = np.zeros((400_000, 256), np.int8); w = ops.pack_gemm(np.ones((256, 256), np.int8), dtype="int32")
out = np.zeros((400_000, 256), np.int32)
def call(): return ops.gemm(x[:1000], w, threads=THREADS)
def long_call():
    # one long call: some seconds even on a fast machine
    return _C.gemm(np.lib.stride_tricks.as_strided(x, (400_000, 256), (256, 1)), w, out, THREADS)
from pyquant import _C
"""

ATTENTION = """
grid = (0.05, 0, -128, 127)
c = numerics.derive_attention("table16", grid, grid, grid, grid, 0.125, 64, 16000).keywords()
def run(n):
    q = np.zeros((1, 1, n, 64), np.int8)
    return ops.attention(q, q, q, **c, threads=THREADS)
def call(): return run(100)
def long_call(): return run(16000)
"""

PROGRAM = """
from tests.safety.programs import block, arguments
model = block(tokens=197, width=64, heads=4)
model.set_num_threads(THREADS)
small, large = arguments(1, 197, 64), arguments(600, 197, 64)
def call(): return model(**small)
def long_call(): return model(**large)
"""


def run(setup: str, threads: int, handler: str = "") -> dict[str, object]:
    code = SCRIPT.format(setup=setup.replace("THREADS", str(threads)), handler=handler)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("setup", [GEMM, ATTENTION, PROGRAM], ids=["gemm", "attention", "program"])
def test_ctrl_c_stops_a_call(setup: str, threads: int) -> None:
    result = run(setup, threads)
    assert result["outcome"] == "KeyboardInterrupt"
    # 50 ms are meant; shared test machines get more. The call would go on for a second or more.
    assert result["late"] < 0.5
    assert result["again"]


def test_what_the_handler_raises_comes_out() -> None:
    handler = """
class Stop(Exception): pass
def stop(number, frame): raise Stop
signal.signal(signal.SIGINT, stop)
"""
    assert run(ATTENTION, 2, handler)["outcome"] == "Stop"


def test_a_handler_that_returns_lets_the_call_finish() -> None:
    handler = """
seen = []
signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
time_sleep, time.sleep = time.sleep, lambda s: None if s == 5 else time_sleep(s)
"""
    short = ATTENTION.replace("run(16000)", "run(3000)")
    assert run(short, 2, handler)["outcome"] == "finished"
