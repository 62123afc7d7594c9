"""Several Python threads in one model, and Python going on while a kernel runs."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pyquant import ops
from tests.safety.programs import arguments, block


def test_eight_threads_one_model():
    model = block(tokens=17, width=32, heads=4)
    given = [arguments(batch, 17, 32, seed) for seed, batch in enumerate([1, 2, 3, 5, 8, 1, 4, 2])]
    expected = [model(**g).logits for g in given]
    gate = threading.Barrier(8)

    def work(i: int) -> list[np.ndarray]:
        gate.wait()
        return [model(**given[(i + j) % 8]).logits for j in range(25)]

    with ThreadPoolExecutor(8) as pool:
        for i, results in enumerate(pool.map(work, range(8))):
            for j, result in enumerate(results):
                assert np.array_equal(result, expected[(i + j) % 8])
    assert 1 <= model._program.context_count <= 9


def test_the_gil_is_released():
    w = ops.pack_gemm(np.ones((512, 512), np.int8), dtype="int32")
    x = np.ones((100_000, 512), np.int8)
    out = np.empty((100_000, 512), np.int32)
    done = threading.Event()

    def work() -> None:
        ops.gemm(x, w, out=out, threads=1)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    steps = 0
    while not done.is_set():
        time.sleep(0.001)
        steps += 1
    thread.join()
    # With the GIL held this loop would wake up once or twice.
    assert steps > 5
    assert (out == 512).all()
