"""ProgramBuilder: writes a program, one method an instruction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyquant import _C
from pyquant.engine.model import IntegerModel
from pyquant.engine.spec import INSTRUCTIONS, Instruction, ProgramSpec, Value
from pyquant.errors import ProgramError
from pyquant.numerics import (
    NORM_METHODS,
    AddConstants,
    AttentionConstants,
    Dyadic,
    GemmConstants,
    GemmS8S4Constants,
    LayerNormConstants,
    SoftmaxConstants,
    softmax_method_code,
)
from pyquant.qparams import QParams

__all__ = ["ProgramBuilder", "Strides"]

Strides: TypeAlias = tuple[int, int, int, int]
"""In elements, per sample: (offset, group, head, token), or of a mask (group, head, query, key)."""
Constant: TypeAlias = Value | NDArray[Any]


@dataclass
class ProgramBuilder:
    """Collects values and instructions; `finish` makes the model.

    Shapes are per sample: the batch axis is implied on every value that is `batched`. An instruction's
    result is batched if one of its inputs is. The name of a result is the name of the site; the C
    engine checks all the numbers when the model is made.

    Examples
    --------
    >>> from pyquant.numerics import derive_dyadic
    >>> build = ProgramBuilder()
    >>> x = build.input("x", (4,), QParams(0.5, 0, -128, 127))
    >>> y = build.requantize(x, derive_dyadic(0.5), QParams(1.0, 0, -128, 127), name="y")
    >>> model = build.finish([y])
    >>> model(np.array([[1, 2, 3, 4]], np.float32)).tolist()
    [[1.0, 2.0, 3.0, 4.0]]
    """

    values: list[Value] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    constants: dict[int, NDArray[Any]] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    # ---- values ----

    def input(
        self,
        name: str,
        shape: Sequence[int],
        grid: QParams | None = None,
        *,
        dtype: str | None = None,
        batched: bool = True,
    ) -> Value:
        """An argument of the model.

        With a `grid` the caller gives float32. Without one, `dtype` says what: "int32" takes indices
        (int64 too, if they fit), "uint8" masks, anything else plain integers.
        """
        if grid is None and dtype is None:
            raise ProgramError(f"input {name!r}: expected a grid or a dtype")
        kind = dtype or (grid.dtype if grid is not None else "")
        return self._value(name, "input", kind, tuple(shape), batched, grid)

    def constant(self, array: NDArray[Any], name: str | None = None, grid: QParams | None = None) -> Value:
        """An integer array stored in the program; a name is made up where none is given."""
        data = np.array(array, order="C")
        value = self._value(
            name if name is not None else self._fresh("const"),
            "const",
            str(data.dtype),
            data.shape,
            False,
            grid,
        )
        self.constants[value.index] = data
        return value

    def _value(
        self, name: str, kind: str, dtype: str, shape: tuple[int, ...], batched: bool, grid: QParams | None
    ) -> Value:
        if name in self._names:
            raise ProgramError(f"expected distinct names of values, got {name!r} twice")
        self._names.add(name)
        value = Value(len(self.values), name, kind, dtype, tuple(int(n) for n in shape), batched, grid)
        self.values.append(value)
        return value

    def _fresh(self, stem: str) -> str:
        number = len(self.values)
        while f"{stem}#{number}" in self._names:
            number += 1
        return f"{stem}#{number}"

    def _constant_of(self, given: Constant | None, name: str) -> Value | None:
        if given is None or isinstance(given, Value):
            return given
        return self.constant(given, name if name not in self._names else self._fresh(name))

    def emit(
        self,
        op: str,
        inputs: Sequence[Value | None],
        attrs: Mapping[str, int],
        *,
        name: str | None,
        dtype: str,
        shape: Sequence[int],
        batched: bool | None = None,
        grid: QParams | None = None,
    ) -> Value:
        """Any instruction, its attributes by name. The methods below fill them in.

        Raises
        ------
        ProgramError
            The op, the number of inputs or an attribute is not in the core's table.
        """
        row = INSTRUCTIONS.get(op)
        if row is None:
            raise ProgramError(f"expected op to be one of {', '.join(INSTRUCTIONS)}, got {op!r}")
        if not row.min_inputs <= len(inputs) <= row.max_inputs:
            raise ProgramError(
                f"{op}: expected {row.min_inputs} to {row.max_inputs} inputs, got {len(inputs)}"
            )
        if set(attrs) != set(row.attrs):
            wrong = sorted(set(attrs) ^ set(row.attrs))
            raise ProgramError(f"{op}: missing or unknown attributes {', '.join(wrong)}")
        for value in inputs:
            if value is not None and not (
                value.index < len(self.values) and self.values[value.index] is value
            ):
                raise ProgramError(f"{op}: input {value.name!r} belongs to another builder")
        if batched is None:
            batched = any(value is not None and value.batched for value in inputs)
        result = self._value(
            name if name is not None else self._fresh(op), "temp", dtype, tuple(shape), batched, grid
        )
        indices = tuple(None if value is None else value.index for value in inputs)
        ordered = {key: int(attrs[key]) for key in row.attrs}
        self.instructions.append(Instruction(op, indices, result.index, ordered))
        return result

    # ---- data movement ----

    def reshape(self, x: Value, shape: Sequence[int], name: str | None = None) -> Value:
        """The same elements under another shape."""
        return self.emit(
            "reshape", [x], {}, name=name, dtype=x.dtype, shape=shape, batched=x.batched, grid=x.grid
        )

    def copy(
        self,
        x: Value,
        shape: Sequence[int],
        strides: Sequence[int],
        offset: int = 0,
        *,
        name: str | None = None,
        batched: bool | None = None,
    ) -> Value:
        """``y[i0, i1, ..] = x.flat[offset + i0 * strides[0] + ..]``, per sample; up to 8 axes.

        ``batched=True`` on an unbatched x repeats it for every sample.
        """
        if len(shape) != len(strides) or len(shape) > _C.MAX_DIMS:
            raise ProgramError(
                f"copy: expected as many strides as sizes, at most {_C.MAX_DIMS}, "
                f"got {len(shape)} sizes and {len(strides)} strides"
            )
        attrs = {"offset": offset, "ndim": len(shape)}
        for i in range(_C.MAX_DIMS):
            attrs[f"dim{i}"] = shape[i] if i < len(shape) else 0
            attrs[f"stride{i}"] = strides[i] if i < len(shape) else 0
        return self.emit(
            "copy", [x], attrs, name=name, dtype=x.dtype, shape=shape, batched=batched, grid=x.grid
        )

    def concat(self, parts: Sequence[Value], axis: int, *, name: str | None = None) -> Value:
        """Join up to 8 values of one dtype and grid along an axis (of the sample; -1 is the last).

        An unbatched part is repeated for every sample; only where all axes before `axis` are 1.
        """
        first = parts[0]
        at = axis % len(first.shape)
        for part in parts:
            same = len(part.shape) == len(first.shape) and all(
                n == m for i, (n, m) in enumerate(zip(part.shape, first.shape, strict=True)) if i != at
            )
            if not same or part.dtype != first.dtype:
                raise ProgramError(
                    f"concat: expected parts that agree but for axis {at}, got {first.dtype} {first.shape} "
                    f"and {part.dtype} {part.shape}"
                )
        shape = list(first.shape)
        shape[at] = sum(part.shape[at] for part in parts)
        return self.emit(
            "concat",
            parts,
            {"outer": math.prod(first.shape[:at])},
            name=name,
            dtype=first.dtype,
            shape=shape,
            grid=first.grid,
        )

    def gather(
        self, index: Value, table: Constant, grid: QParams | None = None, *, name: str | None = None
    ) -> Value:
        """Rows ``table[index]``, an embedding: index int32, table constant [rows, ...]."""
        rows = self._constant_of(table, f"{name or 'gather'}.table")
        assert rows is not None
        attrs = {"rows": rows.shape[0], "inner": math.prod(rows.shape[1:])}
        shape = (*index.shape, *rows.shape[1:])
        return self.emit(
            "gather", [index, rows], attrs, name=name, dtype=rows.dtype, shape=shape, grid=grid or rows.grid
        )

    # ---- arithmetic ----

    def gemm(
        self,
        x: Value,
        constants: GemmConstants | GemmS8S4Constants,
        grid: QParams | None,
        *,
        name: str | None = None,
    ) -> Value:
        """A linear layer over the last axis. Without a `grid`, the int32 accumulators.

        The constants say which instruction: ``gemm``, or ``gemm_s8s4`` for weights two to a byte.
        """
        stem = name or "gemm"
        op, (n, k) = "gemm", constants.w.shape
        inputs: list[Value | None] = [
            x,
            self._constant_of(constants.w, f"{stem}.weight"),
            self._constant_of(constants.bias, f"{stem}.bias"),
        ]
        if grid is not None:
            inputs.append(self._constant_of(constants.multiplier, f"{stem}.multiplier"))
            inputs.append(self._constant_of(constants.shift, f"{stem}.shift"))
        attrs = {"n": n, "k": k, "x_zero_point": _zero_point(x), **_output(grid)}
        if isinstance(constants, GemmS8S4Constants):
            op = "gemm_s8s4"
            attrs |= {"k": x.shape[-1], "group_size": constants.group_size}
            if constants.group_multiplier is not None:
                inputs += [None] * (5 - len(inputs))
                inputs.append(self._constant_of(constants.group_multiplier, f"{stem}.group_multiplier"))
        return self.emit(
            op,
            inputs,
            attrs,
            name=name,
            dtype="int32" if grid is None else grid.dtype,
            shape=(*x.shape[:-1], n),
            grid=grid,
        )

    def attention(
        self,
        q: Value,
        k: Value,
        v: Value,
        constants: AttentionConstants,
        grid: QParams,
        *,
        shape: Sequence[int],
        heads: int,
        q_len: int,
        k_len: int,
        head_dim: int,
        q_strides: Strides,
        k_strides: Strides,
        v_strides: Strides,
        y_strides: Strides,
        kv_heads: int | None = None,
        groups: int = 1,
        keep: Value | NDArray[Any] | None = None,
        keep_strides: Strides = (0, 0, 0, 0),
        mask_add: Constant | None = None,
        mask_strides: Strides = (0, 0, 0, 0),
        causal: bool = False,
        name: str | None = None,
    ) -> Value:
        """Attention with its softmax; the layouts of q, k, v and the result are strides of elements.

        Parameters
        ----------
        shape : sequence of int
            Of the result, per sample.
        q_strides, k_strides, v_strides, y_strides : (offset, group, head, token)
        keep_strides, mask_strides : (group, head, query, key)
        """
        stem = name or "attention"
        inputs: list[Value | None] = [q, k, v, self._constant_of(constants.table, f"{stem}.table")]
        if keep is not None or mask_add is not None:
            inputs.append(self._constant_of(keep, f"{stem}.keep"))
        if mask_add is not None:
            inputs.append(self._constant_of(mask_add, f"{stem}.mask_add"))
        attrs = {
            "groups": groups,
            "heads": heads,
            "kv_heads": heads if kv_heads is None else kv_heads,
            "q_len": q_len,
            "k_len": k_len,
            "head_dim": head_dim,
            "causal": int(causal),
            "q_zero_point": _zero_point(q),
            "k_zero_point": _zero_point(k),
            "v_zero_point": _zero_point(v),
            **_softmax(constants),
            **_output(grid),
        }
        for operand, numbers in zip("qkvy", (q_strides, k_strides, v_strides, y_strides), strict=True):
            for part, number in zip(("offset", "group", "head", "token"), numbers, strict=True):
                attrs[f"{operand}_{part}"] = number
        for operand, numbers in (("keep", keep_strides), ("mask", mask_strides)):
            for part, number in zip(("group", "head", "query", "key"), numbers, strict=True):
                attrs[f"{operand}_{part}"] = number
        return self.emit("attention", inputs, attrs, name=name, dtype="int8", shape=shape, grid=grid)

    def layernorm(
        self,
        x: Value,
        constants: LayerNormConstants,
        grid: QParams,
        *,
        rms: bool = False,
        name: str | None = None,
    ) -> Value:
        """LayerNorm (or RMSNorm) over the last axis, by the method of the constants."""
        stem = name or "layernorm"
        gain = self._constant_of(constants.gain, f"{stem}.gain")
        offset = self._constant_of(constants.offset, f"{stem}.offset")
        inputs: list[Value | None] = [x, gain, offset]
        for part in ("alpha", "exponent"):
            values = getattr(constants, part)
            if values is not None:
                inputs.append(self._constant_of(values, f"{stem}.{part}"))
        attrs = {
            "channels": x.shape[-1],
            "rms": int(rms),
            "x_zero_point": _zero_point(x) if rms or constants.method == "ptf" else 0,
            "epsilon": constants.epsilon,
            "shift": constants.shift,
            **_output(grid),
            "method": NORM_METHODS[constants.method],
            "iterations": constants.iterations,
            "ptf_multiplier": constants.ptf_multiplier,
            "ptf_shift": constants.ptf_shift,
            "ptf_zero_point": constants.ptf_zero_point,
        }
        return self.emit("layernorm", inputs, attrs, name=name, dtype=grid.dtype, shape=x.shape, grid=grid)

    def softmax(
        self, x: Value, constants: SoftmaxConstants, grid: QParams, *, name: str | None = None
    ) -> Value:
        """Softmax over the last axis."""
        table = self._constant_of(constants.table, f"{name or 'softmax'}.table")
        attrs = {"n": x.shape[-1], **_softmax(constants), **_output(grid)}
        return self.emit("softmax", [x, table], attrs, name=name, dtype=grid.dtype, shape=x.shape, grid=grid)

    def table(self, x: Value, table: Constant, grid: QParams, *, name: str | None = None) -> Value:
        """Any function of int8 to int8, element by element."""
        entries = self._constant_of(table, f"{name or 'table'}.table")
        return self.emit("table", [x, entries], {}, name=name, dtype="int8", shape=x.shape, grid=grid)

    def requantize(self, x: Value, factor: Dyadic, grid: QParams, *, name: str | None = None) -> Value:
        """Move to another grid; `factor` is x's scale over the new one."""
        attrs = {"x_zero_point": _zero_point(x), **factor.keywords(), **_output(grid)}
        return self.emit("requantize", [x], attrs, name=name, dtype=grid.dtype, shape=x.shape, grid=grid)

    def add(
        self, a: Value, b: Value, constants: AddConstants, grid: QParams, *, name: str | None = None
    ) -> Value:
        """Residual add. b may have fewer elements: its shape is then the end of a's."""
        if len(b.shape) > len(a.shape) or (b.shape and a.shape[-len(b.shape) :] != b.shape):
            raise ProgramError(f"add: expected b of the last axes of a {a.shape}, got {b.shape}")
        attrs = {
            "a_zero_point": _zero_point(a),
            "b_zero_point": _zero_point(b),
            **constants.keywords(),
            **_output(grid),
        }
        return self.emit("add", [a, b], attrs, name=name, dtype=grid.dtype, shape=a.shape, grid=grid)

    def mean(
        self,
        x: Value,
        axis: int,
        factor: Dyadic,
        grid: QParams,
        *,
        keepdims: bool = False,
        name: str | None = None,
    ) -> Value:
        """Mean over one axis of the sample; `factor` is x's scale over (elements times the new scale)."""
        at = axis % len(x.shape)
        before, after = x.shape[:at], x.shape[at + 1 :]
        attrs = {
            "outer": math.prod(before),
            "reduce": x.shape[at],
            "inner": math.prod(after),
            "x_zero_point": _zero_point(x),
            **factor.keywords(),
            **_output(grid),
        }
        shape = (*before, *((1,) if keepdims else ()), *after)
        return self.emit("mean", [x], attrs, name=name, dtype=grid.dtype, shape=shape, grid=grid)

    # ---- the model ----

    def finish(
        self,
        outputs: Sequence[Value],
        *,
        inputs: Sequence[Value] | None = None,
        structure: Any = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> IntegerModel:
        """Make the model.

        Parameters
        ----------
        outputs : sequence of Value
        inputs : sequence of Value, optional
            Order of the arguments; as declared if None.
        structure : JSON tree, optional
            How the outputs are put together (`pyquant.engine.structure`); one output alone, or a tuple
            of several, if None.
        metadata : mapping, optional
            JSON; ``"coverage"`` holds the rows that `IntegerModel.coverage` shows.

        Raises
        ------
        ProgramError
            The program is malformed; the message names the instruction and the rule.
        """
        declared = [value for value in self.values if value.kind == "input"]
        if structure is None:
            leaves = [{"output": i} for i in range(len(outputs))]
            structure = leaves[0] if len(leaves) == 1 else {"tuple": leaves}
        spec = ProgramSpec(
            values=tuple(self.values),
            instructions=tuple(self.instructions),
            inputs=tuple(value.index for value in (declared if inputs is None else inputs)),
            outputs=tuple(value.index for value in outputs),
            structure=structure,
            metadata=dict(metadata or {}),
        )
        return IntegerModel(spec, self.constants)


def _softmax(constants: SoftmaxConstants) -> dict[str, int]:
    """The attributes of a softmax and of the requantization behind it."""
    numbers = {key: value for key, value in constants.keywords().items() if key != "table"}
    return {**numbers, "method": softmax_method_code(constants.method)}


def _zero_point(x: Value) -> int:
    if x.grid is None:
        raise ProgramError(f"expected {x.name!r} to have a grid")
    return x.grid.zero_point


def _output(grid: QParams | None) -> dict[str, int]:
    """The attributes of a requantized output; zeros for accumulators."""
    if grid is None:
        return {"zero_point": 0, "quant_min": 0, "quant_max": 0}
    return {"zero_point": grid.zero_point, "quant_min": grid.quant_min, "quant_max": grid.quant_max}
