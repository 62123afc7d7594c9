"""Mutated files: a ProgramError that names something, or a program that runs. Never a crash.

``PYQUANT_FUZZ`` sets the number of mutations of each kind (default 500; the long runs take 100,000).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from typing import Any

import numpy as np
import pytest

from pyquant import IntegerModel, ProgramError
from tests.safety.programs import block

DATA = block(tokens=3, width=4, heads=2).to_bytes()
LENGTH = int.from_bytes(DATA[:8], "little")
HEADER = json.loads(DATA[8 : 8 + LENGTH])
PROGRAM = json.loads(HEADER["__metadata__"]["program"])
TENSORS = DATA[8 + LENGTH :]
MUTATIONS = int(os.environ.get("PYQUANT_FUZZ", "500"))
INTEGERS = (
    -(2**63),
    -(2**31),
    -129,
    -2,
    -1,
    0,
    1,
    2,
    3,
    7,
    8,
    127,
    128,
    255,
    2**15,
    2**30,
    2**31,
    2**40,
    2**63 - 1,
    2**64,
)
ANYTHING: tuple[Any, ...] = (
    None,
    True,
    -1,
    0.5,
    1e30,
    "",
    "x",
    "gemm",
    "int16",
    "const",
    [],
    {},
    [0],
    {"output": 0},
)


def run(model: IntegerModel) -> None:
    """Run what was accepted, on bytes of any kind, unless it wants absurd amounts of memory."""
    rng = np.random.default_rng(0)
    model.set_num_threads(1)
    spec = model.spec
    if sum(v.size for v in spec.values) > 2**20:
        return
    for batch in (0, 1, 3):
        given = []
        for i in spec.inputs:
            value = spec.values[i]
            info = np.iinfo(value.dtype)
            given.append(rng.integers(info.min, int(info.max) + 1, value.full_shape(batch), value.dtype))
            if value.dtype == "int32":
                given[-1] = (given[-1] % 9).astype(np.int32)
        with contextlib.suppress(IndexError):  # a gather's index is data
            model.run_integers(*given)


def judge(data: bytes) -> bool:
    """True if the file was accepted."""
    try:
        model = IntegerModel.from_bytes(data)
    except ProgramError as error:
        assert len(str(error)) > 10  # noqa: PT017
        return False
    run(model)
    assert IntegerModel.from_bytes(model.to_bytes()).digest() == model.digest()
    return True


def join(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + TENSORS


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything inside."""
    found = [path] if path else []
    if isinstance(node, dict):
        for key, item in node.items():
            found += places(item, (*path, key))
    elif isinstance(node, list):
        for i, item in enumerate(node):
            found += places(item, (*path, i))
    return found


def mutate(rng: random.Random, root: Any, paths: list[tuple[Any, ...]]) -> None:
    """One change somewhere in the tree, in place."""
    *path, key = rng.choice(paths)
    node = root
    for step in path:
        node = node[step]
    old = node[key]
    if isinstance(old, int) and not isinstance(old, bool) and rng.random() < 0.8:
        near = (old - 1, old + 1, -old, old * 2, old // 2)
        node[key] = rng.choice(near if rng.random() < 0.5 else INTEGERS)
    elif isinstance(node, list) and rng.random() < 0.5:
        if rng.random() < 0.5:
            node.insert(key, json.loads(json.dumps(old)))
        else:
            other = rng.randrange(len(node))
            node[key], node[other] = node[other], node[key]
    elif rng.random() < 0.2:
        del node[key]
    else:
        node[key] = rng.choice(ANYTHING)


def test_bytes() -> None:
    rng = random.Random(1)
    accepted = 0
    for _ in range(MUTATIONS):
        data = bytearray(DATA)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(len(data))
            kind = rng.random()
            if kind < 0.5:
                data[at] ^= 1 << rng.randrange(8)
            elif kind < 0.7:
                data[at] = rng.choice(b'0129-.,:[]{}"\\ \xff')
            elif kind < 0.85:
                del data[at : at + rng.choice((1, 8, 100))]
            else:
                data[at:at] = rng.randbytes(rng.choice((1, 8)))
        accepted += judge(bytes(data))
    assert accepted > 0  # a changed weight is still a program


def test_constants() -> None:
    rng = random.Random(2)
    begin = 8 + LENGTH
    for _ in range(MUTATIONS):
        data = bytearray(DATA)
        for _ in range(rng.choice((1, 3))):
            at = rng.randrange(begin, len(data))
            data[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        judge(bytes(data))


@pytest.mark.parametrize("changes", [1, 3])
def test_program(changes: int) -> None:
    rng = random.Random(3)
    paths = places(PROGRAM)
    accepted = 0
    for _ in range(MUTATIONS):
        program = json.loads(json.dumps(PROGRAM))
        for _ in range(changes):
            with contextlib.suppress(KeyError, IndexError, TypeError):  # an earlier change took the place
                mutate(rng, program, paths)
        header = json.loads(json.dumps(HEADER))
        header["__metadata__"]["program"] = json.dumps(program)
        accepted += judge(join(header))
    assert accepted < MUTATIONS
    assert accepted > 0 or changes > 1  # three random changes seldom leave a program


def test_header() -> None:
    rng = random.Random(4)
    paths = [path for path in places(HEADER) if path != ("__metadata__", "program")]
    for _ in range(MUTATIONS):
        header = json.loads(json.dumps(HEADER))
        mutate(rng, header, paths)
        judge(join(header))


def test_cut_anywhere() -> None:
    for end in range(0, len(DATA), max(1, len(DATA) // 400)):
        assert not judge(DATA[:end])
