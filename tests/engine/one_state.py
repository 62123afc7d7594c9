"""Run as a script: load a calibrated state and an engine file, print digests of everything they compute.

    python -m tests.engine.one_state STATE ENGINE INPUTS THREADS

The parent chooses the ISA and the torch kernels through the environment.
"""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np
import torch

import pyquant as pq
from pyquant import _C
from pyquant.torch_ops import shim_loaded


def _digest(*arrays: np.ndarray) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def main(state: str, engine: str, inputs: str, threads: int) -> None:
    """Print one JSON object."""
    torch.set_num_threads(threads)
    x = np.load(inputs)
    prepared = torch.load(state, weights_only=False)
    converted = pq.convert(prepared)
    loaded = pq.IntegerModel.load(engine)
    for model in (converted, loaded):
        model.set_num_threads(threads)
    with torch.no_grad():
        whole = prepared(torch.from_numpy(x)).numpy()
        single = np.concatenate([prepared(torch.from_numpy(row[None])).numpy() for row in x[:3]])
    print(
        json.dumps(
            {
                "isa": _C.isa_active(),
                "shim": shim_loaded(),
                "digest": converted.digest(),
                "file digest": loaded.digest(),
                "engine": _digest(converted(x)),
                "engine from file": _digest(loaded(x)),
                "engine, batch 1": _digest(*[loaded(row[None]) for row in x]),
                "simulation": _digest(whole),
                "simulation, batch 1": _digest(single),
                "first three": _digest(whole[:3]),
                "sites": {name: _digest(entry.integers) for name, entry in loaded.trace(x).items()},
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
