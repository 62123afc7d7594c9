"""IntegerModel: a program in the C engine, between float edges."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyquant import ops
from pyquant.coverage import Coverage, CoverageRow
from pyquant.engine import file, structure
from pyquant.engine.profile import Profile, made_up_inputs, measure
from pyquant.engine.spec import ProgramSpec, Value
from pyquant.errors import ProgramError

__all__ = ["IntegerModel", "TraceEntry"]

Array = NDArray[Any]
_VIEWS = ("reshape", "copy", "concat", "gather")


@dataclass(frozen=True, eq=False)
class TraceEntry:
    """The integers of one site: ``(integers - zero_point) * scale`` are the real values.

    ``scale`` is None where a row or column has its own (accumulators, the softmax's ``.p`` and ``.l``),
    and where the integers are no reals (indices, masks).
    """

    integers: Array
    scale: float | None
    zero_point: int

    def dequantize(self) -> NDArray[np.float32]:
        """The real values, float32.

        Raises
        ------
        ValueError
            There is no scale.
        """
        if self.scale is None:
            raise ValueError("dequantize: these integers have no single scale")
        centred = self.integers.astype(np.int64) - self.zero_point
        return (centred.astype(np.float64) * self.scale).astype(np.float32)


class IntegerModel:
    """An integer program, run by the C engine; no torch, no float arithmetic inside.

    Call it with what the original model took: float32 arrays (or CPU tensors), positional or by name;
    int64 or int32 indices and Boolean masks where it took those. A model that returned a tensor gives
    a float32 array, one that returned something else an `Output`, a tuple or a list.

    Several threads may run one model. Results do not depend on threads, instruction set or the split
    of a batch.

    Parameters
    ----------
    spec : ProgramSpec
    constants : mapping of value index to ndarray

    Raises
    ------
    ProgramError
        The program is malformed.
    """

    def __init__(self, spec: ProgramSpec, constants: Mapping[int, Array]) -> None:
        spec.check()
        structure.check(spec.structure, len(spec.outputs))
        self._spec = spec
        self._constants = {i: _frozen(spec.values[i], array) for i, array in constants.items()}
        self._program = spec.compile(self._constants)
        self._inputs = tuple(spec.values[i] for i in spec.inputs)
        self._threads: int | None = None

    # ---- files ----

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> IntegerModel:
        """Read a model from a file; nothing in it is trusted.

        Raises
        ------
        ProgramError
            The file is not a valid program; the message names what is wrong.
        OSError
        """
        return cls(*file.load(path))

    @classmethod
    def from_bytes(cls, data: bytes) -> IntegerModel:
        """Read a model from the bytes of a file."""
        return cls(*file.loads(data))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, whole or not at all."""
        file.save(path, self._spec, self._constants)

    def to_bytes(self) -> bytes:
        """The bytes that `save` writes."""
        return file.dumps(self._spec, self._constants)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (self.to_bytes(), self._threads))

    # ---- what it is ----

    @property
    def spec(self) -> ProgramSpec:
        """The program without its constants' data."""
        return self._spec

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the writer noted; no part of the computation."""
        return self._spec.metadata

    @property
    def input_names(self) -> tuple[str, ...]:
        """Arguments, in positional order."""
        return tuple(value.name for value in self._inputs)

    def digest(self) -> str:
        """SHA-256 of program and constants; equal for equal computations, whatever the file's layout."""
        return self._spec.digest(self._constants)

    def coverage(self) -> Coverage:
        """What became of each operation of the model; all rows are integer, folded or views."""
        if "coverage" in self._spec.metadata:
            return Coverage.from_rows(self._spec.metadata["coverage"])
        return Coverage(
            CoverageRow(self._spec.values[s.output].name, s.op, "view" if s.op in _VIEWS else "integer")
            for s in self._spec.instructions
        )

    def __repr__(self) -> str:
        arguments = ", ".join(f"{v.name}: {_shape_text(v)} {v.dtype}" for v in self._inputs)
        size = sum(array.nbytes for array in self._constants.values())
        return (
            f"IntegerModel({arguments}; {len(self._spec.instructions)} instructions, "
            f"{size / 2**20:.1f} MiB of constants)"
        )

    # ---- running ----

    def set_num_threads(self, threads: int | None) -> None:
        """Threads for later calls; None is the default (`OMP_NUM_THREADS`, else all processors)."""
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise ValueError(f"set_num_threads: expected threads >= 1 or None, got {threads!r}")
        self._threads = threads

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Quantize the arguments, run, dequantize.

        Raises
        ------
        TypeError
            Arguments are missing, unknown, or of a wrong dtype.
        ValueError
            A shape is wrong, a float is NaN, or an index does not fit in int32.
        IndexError
            An index is outside its table.
        """
        batch, integers = self._quantize(args, kwargs)
        return self._assemble(self._run(batch, integers))

    def run_integers(self, *args: Any, **kwargs: Any) -> Any:
        """The same with the program's own integers, in and out (dtypes and shapes of `spec`)."""
        arrays = []
        for value, given in zip(self._inputs, self._bind(args, kwargs), strict=True):
            array = _to_numpy(value.name, given)
            if array.dtype != np.dtype(value.dtype) and not (
                value.dtype == "uint8" and array.dtype == np.bool_
            ):
                raise TypeError(f"expected {value.name} of dtype {value.dtype}, got {array.dtype}")
            arrays.append(np.ascontiguousarray(array).reshape(array.shape))
        batch = self._batch_size(arrays)
        return structure.build(self._spec.structure, self._run(batch, arrays))

    def trace(self, *args: Any, **kwargs: Any) -> dict[str, TraceEntry]:
        """Run, and keep every site's integers by name.

        Arguments as for a call. The integers have the shape that the edge has in the model, whatever
        the order in which the program stores them. An attention site ``a.context`` (or ``a``) also
        gives ``a.scores`` (int32, in steps of q's scale times k's, zero point and mask included),
        ``a.softmax.p`` (uint16, the softmax's weights before normalisation) and ``a.softmax.l``
        (uint32, their sums); the softmax is ``p / l``.

        Raises
        ------
        ProgramError
            The file's note on the shape of an edge does not fit the value.
        """
        batch, integers = self._quantize(args, kwargs)
        spec = self._spec
        wanted = [v.index for v in spec.values if v.kind == "temp"]
        attention = [i for i, step in enumerate(spec.instructions) if step.op == "attention"]
        _, arrays, parts = self._program.trace(
            batch, self._in_core_order(integers), wanted, attention, self._threads
        )
        entries = {v.name: _entry(v, a) for v, a in zip(self._inputs, integers, strict=True)}
        for i, array in zip(wanted, arrays, strict=True):
            value = spec.values[i]
            entries[value.name] = _entry(value, array.reshape(value.full_shape(batch)))
        views = self._spec.metadata.get("views", {})
        for name, entry in entries.items():
            if isinstance(views, Mapping) and name in views:
                shaped = _as_edge(name, entry.integers, views[name])
                entries[name] = TraceEntry(shaped, entry.scale, entry.zero_point)
        for i, (scores, p, l) in zip(attention, parts, strict=True):  # noqa: E741
            step = spec.instructions[i]
            q, k = (spec.values[j] for j in step.inputs[:2] if j is not None)
            scale = q.scale * k.scale if q.scale is not None and k.scale is not None else None
            name = spec.values[step.output].name
            entries[_sub_site(name, "scores")] = TraceEntry(scores, scale, 0)
            entries[_sub_site(name, "softmax.p")] = TraceEntry(p, None, 0)
            entries[_sub_site(name, "softmax.l")] = TraceEntry(l, None, 0)
        return entries

    def profile(self, *args: Any, repeat: int = 10, batch: int | None = None, **kwargs: Any) -> Profile:
        """Where the time of a run goes: time, multiply-adds, bytes and share of the machine's limit by site.

        Arguments as for a call; without any, integers are made up for `batch` samples (default 1). Two sites
        that run as one pass are one row. Where threads take whole samples, a time is their mean. Products of
        small weights may pass 100 % of the limit (`Limits`).

        Parameters
        ----------
        repeat : int
            Runs step by step, each beside a plain one; times are medians.
        batch : int, optional

        Raises
        ------
        ValueError
            `repeat` or `batch` is below 1, or `batch` is given beside arguments.
        """
        if args or kwargs:
            if batch is not None:
                raise ValueError("profile: expected either arguments or a batch size, got both")
            size, given = self._quantize(args, kwargs)
            integers = self._in_core_order(given)
        else:
            size = 1 if batch is None else batch
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"profile: expected batch >= 1, got {batch!r}")
            integers = made_up_inputs(self._spec, size)
        return measure(self._spec, self._program, size, integers, self._threads, repeat)

    def _run(self, batch: int, integers: list[Array]) -> list[Array]:
        outputs = self._program.run(batch, self._in_core_order(integers), None, self._threads)
        values = (self._spec.values[i] for i in self._spec.outputs)
        return [array.reshape(v.full_shape(batch)) for v, array in zip(values, outputs, strict=True)]

    def _in_core_order(self, integers: list[Array]) -> list[Array]:
        """The core takes inputs in the order of the values, callers in the order of the arguments."""
        places = sorted(range(len(self._inputs)), key=lambda i: self._inputs[i].index)
        return [integers[i] for i in places]

    def _assemble(self, outputs: list[Array]) -> Any:
        reals = []
        for i, integers in zip(self._spec.outputs, outputs, strict=True):
            grid = self._spec.values[i].grid
            reals.append(
                integers
                if grid is None
                else ops.dequantize(integers, grid.scale, grid.zero_point, threads=self._threads)
            )
        return structure.build(self._spec.structure, reals)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        names = self.input_names
        if len(args) > len(names):
            raise TypeError(f"expected at most {len(names)} arguments ({', '.join(names)}), got {len(args)}")
        given = dict(zip(names, args, strict=False))
        for name, argument in kwargs.items():
            if name not in names:
                raise TypeError(f"unknown argument {name!r}; this model takes {', '.join(names)}")
            if name in given:
                raise TypeError(f"got two values for argument {name!r}")
            given[name] = argument
        missing = [name for name in names if name not in given]
        if missing:
            raise TypeError(f"missing argument {missing[0]!r}; this model takes {', '.join(names)}")
        return [given[name] for name in names]

    def _quantize(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, list[Array]]:
        arrays = [_to_numpy(v.name, a) for v, a in zip(self._inputs, self._bind(args, kwargs), strict=True)]
        batch = self._batch_size(arrays)
        return batch, [
            _to_integers(value, array, self._threads)
            for value, array in zip(self._inputs, arrays, strict=True)
        ]

    def _batch_size(self, arrays: list[Array]) -> int:
        """The batch on which all batched arguments agree; 1 if none is batched."""
        batch: int | None = None
        for value, array in zip(self._inputs, arrays, strict=True):
            sample = array.shape[1:] if value.batched else array.shape
            if (value.batched and array.ndim == 0) or sample != value.shape:
                raise ValueError(f"expected {value.name} of shape {_shape_text(value)}, got {array.shape}")
            if value.batched:
                if batch is not None and batch != array.shape[0]:
                    raise ValueError(f"expected {value.name} of batch size {batch}, got {array.shape[0]}")
                batch = array.shape[0]
        return 1 if batch is None else batch


def _restore(data: bytes, threads: int | None) -> IntegerModel:
    model = IntegerModel.from_bytes(data)
    model.set_num_threads(threads)
    return model


def _frozen(value: Value, array: Array) -> Array:
    """A constant that nobody can change behind the program's back."""
    if array.shape != value.shape or array.dtype != np.dtype(value.dtype):
        raise ProgramError(
            f"program: expected constant {value.name!r} as {value.dtype} {value.shape}, "
            f"got {array.dtype} {array.shape}"
        )
    if array.flags.writeable or not array.flags.c_contiguous:
        array = np.array(array, order="C")
        array.flags.writeable = False
    return array


def _shape_text(value: Value) -> str:
    sizes = [*(["batch"] if value.batched else []), *map(str, value.shape)]
    return f"({', '.join(sizes)})"


def _entry(value: Value, array: Array) -> TraceEntry:
    return TraceEntry(array, value.scale, value.zero_point or 0)


def _sub_site(name: str, part: str) -> str:
    """``a.scores`` of ``a.context`` or ``a``; the number of a repeated call (``#1``) stays last."""
    stem, mark, number = name.partition("#")
    return f"{stem.removesuffix('.context')}.{part}{mark}{number}"


def _as_edge(name: str, array: Array, view: Any) -> Array:
    """Stored integers as the edge they make: split into ``sizes``, put in ``order``, joined to ``shape``.

    The batch is axis 0 of what is put in order; -c in ``shape`` stands for c * batch.
    """
    try:
        sizes, order, shape = ([int(n) for n in view[key]] for key in ("sizes", "order", "shape"))
        batched = any(n < 0 for n in shape)
        batch = array.shape[0] if batched else 1
        parts = array.reshape([batch, *sizes]).transpose(order)
        return np.ascontiguousarray(parts).reshape([-n * batch if n < 0 else n for n in shape])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ProgramError(f"trace: the view of {name!r} does not fit its value: {error}") from None


def _to_numpy(name: str, given: Any) -> Array:
    """A NumPy array, or a CPU tensor seen as one (torch is not imported for it)."""
    if isinstance(given, np.ndarray):
        return given
    if type(given).__module__.partition(".")[0] == "torch" and hasattr(given, "detach"):
        if given.device.type != "cpu":
            raise TypeError(f"expected {name} on the CPU, got a tensor on {given.device}")
        try:
            array: Array = given.detach().numpy()
        except TypeError:  # bfloat16 and others that NumPy lacks
            raise TypeError(f"expected {name} of dtype float32, got {given.dtype}") from None
        return array
    raise TypeError(f"expected {name} to be a NumPy array or a CPU tensor, got {type(given).__name__}")


def _to_integers(value: Value, array: Array, threads: int | None) -> Array:
    if value.grid is not None:
        if array.dtype != np.float32:
            raise TypeError(f"expected {value.name} of dtype float32, got {array.dtype}")
        q = value.grid
        try:
            return ops.quantize(
                array, q.scale, q.zero_point, q.quant_min, q.quant_max, dtype=value.dtype, threads=threads
            )
        except ValueError as error:  # NaN
            raise ValueError(f"argument {value.name}: {error}") from None
    if value.dtype == "uint8":
        if array.dtype.kind not in "bui":
            raise TypeError(f"expected {value.name} as a Boolean or integer mask, got {array.dtype}")
        return np.ascontiguousarray(array != 0).astype(np.uint8).reshape(array.shape)
    if array.dtype.kind not in "iu":
        raise TypeError(f"expected {value.name} of an integer dtype, got {array.dtype}")
    info = np.iinfo(value.dtype)
    if array.size and not (info.min <= int(array.min()) and int(array.max()) <= info.max):
        raise ValueError(
            f"expected {info.min} <= {value.name} <= {info.max}, got {int(array.min())} to {int(array.max())}"
        )
    return np.ascontiguousarray(array, value.dtype).reshape(array.shape)
