"""What a program says, as plain values: names, shapes and grids around the core's flat list of integers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyquant import _C
from pyquant.errors import ProgramError
from pyquant.qparams import QParams

__all__ = ["DTYPES", "INSTRUCTIONS", "KINDS", "Instruction", "InstructionRow", "ProgramSpec", "Value"]

KINDS = ("input", "const", "temp")  # in the order of pq_value_kind
DTYPES = {"int8": 1, "uint8": 2, "int16": 3, "int32": 4, "int64": 5}  # pq_dtype
GRID_DTYPES = ("int8", "int16")
SIZE_MAX = 2**48  # elements; far beyond memory, and products with a dtype size stay in int64


@dataclass(frozen=True)
class InstructionRow:
    """One row of the core's instruction table."""

    opcode: int
    name: str
    min_inputs: int
    max_inputs: int
    attrs: tuple[str, ...]


INSTRUCTIONS = {
    name: InstructionRow(opcode, name, least, most, tuple(attrs.split()))
    for opcode, (name, least, most, attrs) in enumerate(_C.instructions())
}
"""The instruction set, by name."""


@dataclass(frozen=True)
class Value:
    """An array of a program.

    Parameters
    ----------
    index : int
        Its place in the program.
    name : str
        Unique; the name of the site that makes it.
    kind : {"input", "const", "temp"}
    dtype : {"int8", "uint8", "int16", "int32", "int64"}
    shape : tuple of int
        Per sample.
    batched : bool
        Whether there is one per sample.
    grid : QParams, optional
        What the integers mean; None for indices, masks, accumulators and constants such as tables.
    """

    index: int
    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    batched: bool
    grid: QParams | None = None

    @property
    def size(self) -> int:
        """Elements per sample."""
        return math.prod(self.shape)

    @property
    def scale(self) -> float | None:
        """Of the grid."""
        return None if self.grid is None else self.grid.scale

    @property
    def zero_point(self) -> int | None:
        """Of the grid."""
        return None if self.grid is None else self.grid.zero_point

    def full_shape(self, batch: int) -> tuple[int, ...]:
        """The shape of its array at a batch size."""
        return (batch, *self.shape) if self.batched else self.shape


@dataclass(frozen=True)
class Instruction:
    """One step: ``inputs`` are value indices (None where absent), ``attrs`` in the core's order."""

    op: str
    inputs: tuple[int | None, ...]
    output: int
    attrs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ProgramSpec:
    """A program without its constants' data.

    ``inputs`` are value indices in the order of the model's arguments, ``outputs`` value indices,
    ``structure`` how the outputs are put together (`pyquant.engine.structure`), ``metadata`` anything
    JSON that is not part of the computation.
    """

    values: tuple[Value, ...]
    instructions: tuple[Instruction, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    structure: Any
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Everything that the core does not see; the rest is `_C.Program`'s.

        Raises
        ------
        ProgramError
        """
        names: set[str] = set()
        for i, value in enumerate(self.values):
            _check_value(i, value)
            if value.name in names:
                raise ProgramError(f"program: expected distinct names of values, got {value.name!r} twice")
            names.add(value.name)
        for i, step in enumerate(self.instructions):
            _check_instruction(i, step)
        inputs = [value.index for value in self.values if value.kind == "input"]
        if sorted(self.inputs) != inputs:
            raise ProgramError(
                f"program: expected inputs to name the input values {inputs}, got {list(self.inputs)}"
            )
        for i in self.outputs:
            if not 0 <= i < len(self.values):
                raise ProgramError(f"program: expected 0 <= output < {len(self.values)}, got {i}")

    def compile(self, constants: Mapping[int, NDArray[Any]]) -> _C.Program:
        """The program in the C engine, which validates all of it.

        Raises
        ------
        ProgramError
            The message names the instruction (with its site) or value, and the rule.
        """
        values = np.array(
            [(KINDS.index(v.kind), DTYPES[v.dtype], int(v.batched), v.size) for v in self.values], np.int64
        ).reshape(-1, 4)
        rows = np.zeros((len(self.instructions), 1 + _C.MAX_INPUTS + 1 + _C.MAX_ATTRS), np.int64)
        for row, step in zip(rows, self.instructions, strict=True):
            row[0] = INSTRUCTIONS[step.op].opcode
            row[1 : 1 + _C.MAX_INPUTS] = -1
            row[1 : 1 + len(step.inputs)] = [-1 if i is None else i for i in step.inputs]
            row[1 + _C.MAX_INPUTS] = step.output
            attrs = [step.attrs[name] for name in INSTRUCTIONS[step.op].attrs]
            row[2 + _C.MAX_INPUTS : 2 + _C.MAX_INPUTS + len(attrs)] = attrs
        data = [constants.get(v.index) for v in self.values]
        outputs = np.array(self.outputs, np.int64)
        return _C.Program(values, rows, data, outputs)

    def digest(self, constants: Mapping[int, NDArray[Any]]) -> str:
        """SHA-256 of what decides results: values, instructions, arguments, structure and constants.

        Metadata and the layout of a file have no part in it.
        """
        canonical = {
            "values": [
                [
                    v.name,
                    v.kind,
                    v.dtype,
                    list(v.shape),
                    v.batched,
                    None if v.grid is None else _exact(v.grid),
                ]
                for v in self.values
            ],
            "instructions": [
                [s.op, list(s.inputs), s.output, sorted(s.attrs.items())] for s in self.instructions
            ],
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "structure": self.structure,
        }
        text = json.dumps(
            canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
        )
        sha = hashlib.sha256(text.encode())
        for value in self.values:
            if value.kind == "const":
                array = constants[value.index]
                sha.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        return sha.hexdigest()


def _exact(grid: QParams) -> list[Any]:
    return [float(grid.scale).hex(), grid.zero_point, grid.quant_min, grid.quant_max]


def _check_value(position: int, value: Value) -> None:
    where = f"program: value {position} ({value.name!r})"
    if value.index != position:
        raise ProgramError(f"{where}: expected index {position}, got {value.index}")
    if value.name in ("", "__metadata__"):  # the second is a key of the file format
        raise ProgramError(f"program: value {position}: expected a name, got {value.name!r}")
    if value.kind not in KINDS:
        raise ProgramError(f"{where}: expected kind to be one of {', '.join(KINDS)}, got {value.kind!r}")
    if value.dtype not in DTYPES:
        raise ProgramError(f"{where}: expected dtype to be one of {', '.join(DTYPES)}, got {value.dtype!r}")
    if len(value.shape) > 16 or any(n < 0 for n in value.shape):
        raise ProgramError(f"{where}: expected a shape of at most 16 sizes >= 0, got {value.shape}")
    # Without its zeros: NumPy refuses an empty array whose other axes overflow.
    if math.prod(n for n in value.shape if n) > SIZE_MAX:
        raise ProgramError(f"{where}: expected at most 2^48 elements, got shape {value.shape}")
    if value.grid is not None:
        if value.dtype not in GRID_DTYPES:
            raise ProgramError(f"{where}: expected no grid on dtype {value.dtype}, got {value.grid}")
        if np.dtype(value.grid.dtype).itemsize > np.dtype(value.dtype).itemsize:
            raise ProgramError(f"{where}: expected a grid inside {value.dtype}, got {value.grid}")


def _check_instruction(position: int, step: Instruction) -> None:
    row = INSTRUCTIONS.get(step.op)
    if row is None:
        raise ProgramError(
            f"program: instruction {position}: expected op to be one of {', '.join(INSTRUCTIONS)}, "
            f"got {step.op!r}"
        )
    where = f"program: instruction {position} ({step.op})"
    if not row.min_inputs <= len(step.inputs) <= row.max_inputs:
        raise ProgramError(
            f"{where}: expected {row.min_inputs} to {row.max_inputs} inputs, got {len(step.inputs)}"
        )
    if set(step.attrs) != set(row.attrs):
        wrong = sorted(set(step.attrs) ^ set(row.attrs))
        raise ProgramError(
            f"{where}: expected exactly its attributes, got missing or unknown {', '.join(wrong)}"
        )
    numbers: Sequence[int] = [*step.attrs.values(), *(i for i in step.inputs if i is not None), step.output]
    for number in numbers:
        if not -(2**63) <= number < 2**63:
            raise ProgramError(f"{where}: expected integers of 64 bits, got {number}")
