"""A program in one safetensors file: constants as tensors, the rest as JSON in its metadata.

Any safetensors library can open the file. This reader trusts nothing in it: every rule that is broken
is one `ProgramError` that names the place. What remains, the C engine checks before anything runs.

Layout: 8 bytes little-endian length of the header; the header, JSON, with ``__metadata__`` (strings) and
one entry a tensor; the tensors' bytes, without gaps. Tensors have the names of their values.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyquant._version import __version__
from pyquant.coverage import Coverage
from pyquant.engine import structure
from pyquant.engine.spec import Instruction, ProgramSpec, Value
from pyquant.errors import ProgramError
from pyquant.files import write_whole
from pyquant.qparams import QParams

__all__ = ["FORMAT", "VERSION", "dumps", "load", "loads", "save"]

FORMAT = "pyquant-program"
VERSION = 1
HEADER_MAX = 100_000_000  # the limit of safetensors
NUMBER_MAX = 40  # characters of a JSON number
TENSOR_DTYPES = {"int8": "I8", "uint8": "U8", "int16": "I16", "int32": "I32", "int64": "I64"}

Constants = Mapping[int, NDArray[Any]]
T = TypeVar("T")


# ---- writing ----


def dumps(spec: ProgramSpec, constants: Constants) -> bytes:
    """The bytes of the file."""
    program = {
        "values": [_value_to_json(value) for value in spec.values],
        "instructions": [
            {"op": s.op, "inputs": list(s.inputs), "output": s.output, "attrs": dict(s.attrs)}
            for s in spec.instructions
        ],
        "inputs": list(spec.inputs),
        "outputs": list(spec.outputs),
        "structure": spec.structure,
        "metadata": dict(spec.metadata),
    }
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "writer": f"pyquant {__version__}",
        "program": json.dumps(program, separators=(",", ":"), allow_nan=False),
    }
    header: dict[str, Any] = {"__metadata__": metadata}
    # Widest elements first, so that every tensor is aligned.
    chunks: list[bytes] = []
    end = 0
    for i in sorted(constants, key=lambda i: (-constants[i].dtype.itemsize, i)):
        array, value = constants[i], spec.values[i]
        chunk = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        header[value.name] = {
            "dtype": TENSOR_DTYPES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [end, end + len(chunk)],
        }
        chunks.append(chunk)
        end += len(chunk)
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *chunks])


def save(path: str | os.PathLike[str], spec: ProgramSpec, constants: Constants) -> None:
    """Write a file whole or not at all."""
    write_whole(path, dumps(spec, constants))


def _value_to_json(value: Value) -> dict[str, Any]:
    return {
        "name": value.name,
        "kind": value.kind,
        "dtype": value.dtype,
        "shape": list(value.shape),
        "batched": value.batched,
        "grid": None if value.grid is None else list(value.grid),
    }


# ---- reading ----


def load(path: str | os.PathLike[str]) -> tuple[ProgramSpec, dict[int, NDArray[Any]]]:
    """Read a file; see `loads`."""
    return loads(Path(path).read_bytes())


def loads(data: bytes) -> tuple[ProgramSpec, dict[int, NDArray[Any]]]:
    """The program and its constants.

    Raises
    ------
    ProgramError
        The bytes are no such file; the message names what is wrong.
    """
    if len(data) < 8:
        raise ProgramError(f"file: expected at least 8 bytes, got {len(data)}")
    length = int.from_bytes(data[:8], "little")
    if length > min(HEADER_MAX, len(data) - 8):
        raise ProgramError(
            f"file: expected a header of at most {min(HEADER_MAX, len(data) - 8)} bytes, "
            f"got {length} (cut off, or no safetensors file)"
        )
    header = _dictionary("header", _parse("header", data[8 : 8 + length]))
    metadata = _dictionary("__metadata__", header.pop("__metadata__", None))
    spec = _read_program(metadata)
    return spec, _read_constants(spec, header, memoryview(data)[8 + length :])


def _read_program(metadata: dict[str, Any]) -> ProgramSpec:
    keys = {"format", "version", "writer", "program"}
    if metadata.get("format") != FORMAT:
        raise ProgramError(f"file: expected format {FORMAT!r}, got {_short(metadata.get('format'))}")
    if metadata.get("version") != str(VERSION):
        raise ProgramError(f"file: expected version '{VERSION}', got {_short(metadata.get('version'))}")
    _expect_keys("__metadata__", metadata, keys)
    _string("writer", metadata["writer"])
    program = _dictionary("program", _parse("program", _string("program", metadata["program"]).encode()))
    _expect_keys("program", program, {"values", "instructions", "inputs", "outputs", "structure", "metadata"})
    free = _dictionary("metadata", program["metadata"])
    _check_metadata(free)
    spec = ProgramSpec(
        values=tuple(_items("values", program["values"], _read_value)),
        instructions=tuple(_items("instructions", program["instructions"], _read_instruction)),
        inputs=tuple(_items("inputs", program["inputs"], _read_index)),
        outputs=tuple(_items("outputs", program["outputs"], _read_index)),
        structure=program["structure"],
        metadata=free,
    )
    spec.check()
    structure.check(spec.structure, len(spec.outputs))
    return spec


def _read_value(where: str, index: int, item: Any) -> Value:
    fields = _dictionary(where, item)
    _expect_keys(where, fields, {"name", "kind", "dtype", "shape", "batched", "grid"})
    if not isinstance(fields["batched"], bool):
        raise ProgramError(f"{where}.batched: expected true or false, got {_short(fields['batched'])}")
    shape = tuple(_items(f"{where}.shape", fields["shape"], _read_index))
    return Value(
        index,
        _string(f"{where}.name", fields["name"]),
        _string(f"{where}.kind", fields["kind"]),
        _string(f"{where}.dtype", fields["dtype"]),
        shape,
        fields["batched"],
        _read_grid(f"{where}.grid", fields["grid"]),
    )


def _read_grid(where: str, item: Any) -> QParams | None:
    if item is None:
        return None
    if not isinstance(item, list) or len(item) != 4:
        raise ProgramError(
            f"{where}: expected null or [scale, zero_point, quant_min, quant_max], got {_short(item)}"
        )
    scale, *integers = item
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        raise ProgramError(f"{where}: expected a number as scale, got {_short(scale)}")
    try:
        grid = QParams(float(scale), *(_integer(where, number) for number in integers))
    except ValueError as error:
        raise ProgramError(f"{where}: {error}") from None
    if grid.scale != scale:
        raise ProgramError(f"{where}: expected a scale that float32 holds exactly, got {scale!r}")
    return grid


def _read_instruction(where: str, index: int, item: Any) -> Instruction:
    fields = _dictionary(where, item)
    _expect_keys(where, fields, {"op", "inputs", "output", "attrs"})
    attrs = _dictionary(f"{where}.attrs", fields["attrs"])
    return Instruction(
        _string(f"{where}.op", fields["op"]),
        tuple(_items(f"{where}.inputs", fields["inputs"], _read_optional_index)),
        _integer(f"{where}.output", fields["output"]),
        {name: _integer(f"{where}.attrs.{_short(name)}", value) for name, value in attrs.items()},
    )


def _read_index(where: str, index: int, item: Any) -> int:
    return _integer(where, item)


def _read_optional_index(where: str, index: int, item: Any) -> int | None:
    return None if item is None else _integer(where, item)


def _check_metadata(metadata: dict[str, Any]) -> None:
    rows = metadata.get("coverage")
    if rows is None:
        return
    try:
        Coverage.from_rows(rows)
    except (TypeError, ValueError) as error:
        raise ProgramError(
            f"metadata.coverage: expected rows of a coverage table: {_short(str(error))}"
        ) from None


def _read_constants(spec: ProgramSpec, header: dict[str, Any], data: memoryview) -> dict[int, NDArray[Any]]:
    constants: dict[int, NDArray[Any]] = {}
    spans: list[tuple[int, int]] = []
    for value in spec.values:
        if value.kind != "const":
            continue
        where = f"tensor {value.name!r}"
        if value.name not in header:
            raise ProgramError(f"{where}: missing")
        entry = _dictionary(where, header.pop(value.name))
        _expect_keys(where, entry, {"dtype", "shape", "data_offsets"})
        if entry["dtype"] != TENSOR_DTYPES[value.dtype]:
            raise ProgramError(
                f"{where}: expected dtype {TENSOR_DTYPES[value.dtype]}, got {_short(entry['dtype'])}"
            )
        shape = tuple(_items(f"{where}.shape", entry["shape"], _read_index))
        if shape != value.shape:
            raise ProgramError(f"{where}: expected shape {value.shape}, got {_short(shape)}")
        offsets = _items(f"{where}.data_offsets", entry["data_offsets"], _read_index)
        dtype = np.dtype(value.dtype).newbyteorder("<")
        size = math.prod(shape) * dtype.itemsize
        if len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1] <= len(data):
            raise ProgramError(
                f"{where}: expected offsets inside {len(data)} bytes of data, got {_short(offsets)}"
            )
        begin, end = offsets
        if end - begin != size:
            raise ProgramError(f"{where}: expected {size} bytes for shape {shape}, got {end - begin}")
        array = np.frombuffer(bytes(data[begin:end]), dtype).astype(value.dtype, copy=False).reshape(shape)
        array.flags.writeable = False
        constants[value.index] = array
        spans.append((begin, end))
    if header:
        raise ProgramError(f"tensor {_short(sorted(header)[0])}: not used by the program")
    _check_spans(spans, len(data))
    return constants


def _check_spans(spans: list[tuple[int, int]], size: int) -> None:
    """No gaps, no overlaps, nothing after the last: safetensors demands it too."""
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise ProgramError(f"file: expected a tensor at byte {at} of the data, got one at {begin}")
        at = end
    if at != size:
        raise ProgramError(f"file: expected {at} bytes of data, got {size}")


# ---- JSON, strictly ----


def _parse(what: str, text: bytes) -> Any:
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=lambda pairs: _unique(what, pairs),
            parse_constant=lambda name: _reject(f"{what}: expected finite numbers, got {name}"),
            parse_float=lambda digits: _finite(what, digits),
            parse_int=lambda digits: _bounded(what, digits),
        )
    except UnicodeDecodeError as error:
        raise ProgramError(f"{what}: expected UTF-8: {error}") from None
    except RecursionError:
        raise ProgramError(f"{what}: expected JSON, got one nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ProgramError(f"{what}: expected JSON: {error}") from None


def _reject(message: str) -> Any:
    raise ProgramError(message)


def _unique(what: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ProgramError(f"{what}: expected distinct keys, got {_short(name)} twice")
            seen.add(name)
    return result


def _bounded(what: str, digits: str) -> int:
    if len(digits) > NUMBER_MAX:
        raise ProgramError(f"{what}: expected numbers of at most {NUMBER_MAX} characters, got {len(digits)}")
    return int(digits)


def _finite(what: str, digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ProgramError(f"{what}: expected finite numbers, got {_short(digits)}")
    return value


def _dictionary(where: str, item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise ProgramError(f"{where}: expected an object, got {_short(item)}")
    return item


def _expect_keys(where: str, item: dict[str, Any], keys: set[str]) -> None:
    missing, unknown = sorted(keys - item.keys()), sorted(item.keys() - keys)
    if missing:
        raise ProgramError(f"{where}: missing {', '.join(missing)}")
    if unknown:
        raise ProgramError(f"{where}: unknown {', '.join(_short(name) for name in unknown[:4])}")


def _string(where: str, item: Any) -> str:
    if not isinstance(item, str) or not _is_text(item):
        raise ProgramError(f"{where}: expected a string, got {_short(item)}")
    return item


def _is_text(text: str) -> bool:
    return re.search("[\ud800-\udfff]", text) is None  # a lone surrogate cannot be written again


def _integer(where: str, item: Any) -> int:
    if isinstance(item, bool) or not isinstance(item, int):
        raise ProgramError(f"{where}: expected an integer, got {_short(item)}")
    if not -(2**63) <= item < 2**63:
        raise ProgramError(f"{where}: expected an integer of 64 bits, got {item}")
    return item


def _items(where: str, item: Any, read: Callable[[str, int, Any], T]) -> list[T]:
    if not isinstance(item, list):
        raise ProgramError(f"{where}: expected a list, got {_short(item)}")
    return [read(f"{where}[{i}]", i, element) for i, element in enumerate(item)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
