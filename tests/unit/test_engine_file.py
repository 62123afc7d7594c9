"""The file: what is written, and that every rule of the reader is one clear error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from pyquant import IntegerModel, ProgramError
from tests.safety.programs import arguments, block

DATA = block().to_bytes()


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: dict[str, Any] | str, tensors: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + tensors


def test_plain_safetensors_reads_the_tensors(tmp_path):
    model = block()
    model.save(tmp_path / "m.safetensors")
    tensors = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    for value in model.spec.values:
        if value.kind == "const":
            array = tensors.pop(value.name)
            assert (array.dtype, array.shape) == (value.dtype, value.shape)
            assert np.array_equal(array, model._constants[value.index])
    assert not tensors


def test_a_loaded_model_is_the_same(tmp_path):
    model, given = block(), arguments()
    model.save(tmp_path / "m.safetensors")
    loaded = IntegerModel.load(str(tmp_path / "m.safetensors"))
    assert loaded.digest() == model.digest()
    assert loaded.spec == model.spec
    assert loaded.metadata == {"note": "synthetic"}
    assert np.array_equal(loaded(**given).logits, model(**given).logits)
    assert loaded.to_bytes() == model.to_bytes()


def test_the_layout_of_the_file_does_not_matter():
    header, tensors = split(DATA)
    names = [name for name in header if name != "__metadata__"]
    moved, data = {"__metadata__": header["__metadata__"]}, b""
    for name in reversed(names):
        begin, end = header[name]["data_offsets"]
        moved[name] = {**header[name], "data_offsets": [len(data), len(data) + end - begin]}
        data += tensors[begin:end]
    again = IntegerModel.from_bytes(join(moved, data))
    assert again.digest() == block().digest()
    assert again.to_bytes() == DATA


def test_saving_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"before")
    path.chmod(0o640)

    def full(descriptor: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        block().save(path)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["m.safetensors"]
    monkeypatch.undo()
    block().save(path)
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(FileNotFoundError):
        block().save(tmp_path / "missing" / "m.safetensors")


def program_of(header: dict[str, Any]) -> dict[str, Any]:
    return json.loads(header["__metadata__"]["program"])


def edit(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The file with its program changed."""
    header, tensors = split(DATA)
    program = program_of(header)
    change(program)
    header["__metadata__"]["program"] = json.dumps(program)
    return join(header, tensors)


def edit_header(change: Callable[[dict[str, Any]], object]) -> bytes:
    header, tensors = split(DATA)
    change(header)
    return join(header, tensors)


def edit_text(old: str, new: str) -> bytes:
    """The file with the text of its program changed."""
    header, tensors = split(DATA)
    text = header["__metadata__"]["program"]
    assert old in text
    header["__metadata__"]["program"] = text.replace(old, new, 1)
    return join(header, tensors)


def value(program: dict[str, Any], name: str) -> dict[str, Any]:
    return next(v for v in program["values"] if v["name"] == name)


def step(program: dict[str, Any], op: str) -> dict[str, Any]:
    return next(s for s in program["instructions"] if s["op"] == op)


def widen(program: dict[str, Any], shape: list[int]) -> None:
    value(program, "x")["shape"] = shape


WEIGHT = "fc1.weight"

# what: (bytes, words of the message)
CASES: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "empty": (lambda: b"", ["8 bytes", "0"]),
    "header cut off": (lambda: DATA[:100], ["header", "92"]),
    "data cut off": (lambda: DATA[:-1], ["offsets", "bytes of data"]),
    "data too long": (lambda: DATA + b"\0", ["bytes of data"]),
    "no JSON": (lambda: join("hello", b""), ["header", "JSON"]),
    "no UTF-8": (lambda: (1).to_bytes(8, "little") + b"\xff", ["header", "UTF-8"]),
    "a list": (lambda: join("[]", b""), ["header", "object"]),
    "no metadata": (lambda: join("{}", b""), ["__metadata__"]),
    "foreign file": (lambda: safetensors.numpy.save({"w": np.ones(3, np.int8)}), ["__metadata__"]),
    "nesting": (lambda: join("[" * 200_000, b""), ["header", "deep"]),
    "nested program": (lambda: edit_text('"structure":', '"structure":' + '{"list":[' * 50_000), ["deep"]),
    "duplicate key": (lambda: join('{"a": 1, "a": 2}', b""), ["'a' twice"]),
    "duplicate key inside": (lambda: edit_text('"op":"gemm"', '"op":"gemm","op":"gemm"'), ["'op' twice"]),
    "NaN": (lambda: edit_text('"heads":2', '"heads":NaN'), ["NaN"]),
    "Infinity": (lambda: edit_text('"heads":2', '"heads":-Infinity'), ["Infinity"]),
    "overflowing float": (lambda: edit_text('"heads":2', '"heads":1e999'), ["finite", "1e999"]),
    "long number": (lambda: edit_text('"heads":2', '"heads":2' + "0" * 5000), ["characters", "5001"]),
    "65-bit number": (lambda: edit_text('"heads":2', '"heads":18446744073709551616'), ["heads", "64 bits"]),
    "float attribute": (lambda: edit_text('"heads":2', '"heads":2.0'), ["heads", "integer", "2.0"]),
    "bool attribute": (lambda: edit_text('"heads":2', '"heads":true'), ["heads", "True"]),
    "format": (lambda: edit_header(lambda h: h["__metadata__"].update(format="other")), ["format", "other"]),
    "version": (lambda: edit_header(lambda h: h["__metadata__"].update(version="2")), ["version", "'2'"]),
    "no program": (lambda: edit_header(lambda h: h["__metadata__"].pop("program")), ["program"]),
    "more metadata": (
        lambda: edit_header(lambda h: h["__metadata__"].update(extra="1")),
        ["unknown", "extra"],
    ),
    "missing key": (lambda: edit(lambda p: p.pop("outputs")), ["program", "missing", "outputs"]),
    "unknown key": (lambda: edit(lambda p: p.update(hook="rm")), ["program", "unknown", "hook"]),
    "value key": (lambda: edit(lambda p: p["values"][2].pop("dtype")), ["values[2]", "dtype"]),
    "value kind": (lambda: edit(lambda p: p["values"][0].update(kind="file")), ["value 0", "kind", "file"]),
    "value dtype": (lambda: edit(lambda p: p["values"][0].update(dtype="float32")), ["dtype", "float32"]),
    "value twice": (lambda: edit(lambda p: value(p, "gelu").update(name="fc1")), ["'fc1' twice"]),
    "empty name": (lambda: edit(lambda p: value(p, "gelu").update(name="")), ["name"]),
    "surrogate name": (lambda: edit(lambda p: value(p, "gelu").update(name="\ud800")), ["name", "string"]),
    "batched 1": (lambda: edit(lambda p: value(p, "gelu").update(batched=1)), ["batched", "1"]),
    "negative size": (lambda: edit(lambda p: widen(p, [-5, -8])), ["shape", "-5"]),
    "overflowing shape": (lambda: edit(lambda p: widen(p, [2**62, 4])), ["shape", "2^48"]),
    "hidden overflow": (lambda: edit(lambda p: widen(p, [0, 2**62, 4])), ["shape", "2^48"]),
    "large size": (lambda: edit(lambda p: widen(p, [2**40])), ["instruction 1 (add)"]),
    "scale 0": (lambda: edit(lambda p: value(p, "x").update(grid=[0.0, 0, -128, 127])), ["grid", "scale"]),
    "float64 scale": (
        lambda: edit(lambda p: value(p, "x").update(grid=[0.1, 0, -128, 127])),
        ["float32", "0.1"],
    ),
    "huge scale": (lambda: edit(lambda p: value(p, "x").update(grid=[10**39, 0, -128, 127])), ["scale"]),
    "grid too wide": (
        lambda: edit(lambda p: value(p, "x").update(grid=[0.5, 0, -300, 127])),
        ["grid", "int8"],
    ),
    "grid on int32": (
        lambda: edit(lambda p: value(p, "ids").update(grid=[0.5, 0, -5, 5])),
        ["grid", "int32"],
    ),
    "unknown op": (lambda: edit(lambda p: p["instructions"][0].update(op="exec")), ["instruction 0", "exec"]),
    "missing attribute": (lambda: edit(lambda p: step(p, "mean")["attrs"].pop("inner")), ["mean", "inner"]),
    "unknown attribute": (lambda: edit(lambda p: step(p, "mean")["attrs"].update(a=1)), ["mean", "a"]),
    "too many inputs": (lambda: edit(lambda p: step(p, "mean").update(inputs=[0] * 9)), ["mean", "9"]),
    "input out of range": (lambda: edit(lambda p: step(p, "mean").update(inputs=[999])), ["mean", "999"]),
    "input not yet written": (lambda: edit(lambda p: p["instructions"].reverse()), ["written"]),
    "writes a constant": (lambda: edit(lambda p: step(p, "mean").update(output=0)), ["mean", "output"]),
    "outputs": (lambda: edit(lambda p: p.update(outputs=[999])), ["output", "999"]),
    "no outputs": (lambda: edit(lambda p: p.update(outputs=[])), ["output"]),
    "inputs": (lambda: edit(lambda p: p["inputs"].append(0)), ["inputs"]),
    "structure leaf": (lambda: edit(lambda p: p.update(structure={"output": 2})), ["structure", "2"]),
    "structure kind": (lambda: edit(lambda p: p.update(structure={"pickle": "x"})), ["structure", "pickle"]),
    "structure keys": (lambda: edit(lambda p: p.update(structure={"output": 0, "none": None})), ["one key"]),
    "structure deep": (
        lambda: edit(lambda p: p.update(structure=json.loads('{"list":[' * 40 + '{"output":0}' + "]}" * 40))),
        ["structure", "levels"],
    ),
    "coverage": (lambda: edit(lambda p: p.update(metadata={"coverage": [{"site": 1}]})), ["coverage"]),
    "coverage no rows": (lambda: edit(lambda p: p.update(metadata={"coverage": 7})), ["coverage"]),
    "tensor missing": (lambda: edit_header(lambda h: h.pop(WEIGHT)), [WEIGHT, "missing"]),
    "tensor unused": (lambda: edit_header(lambda h: h.update(spy=h[WEIGHT])), ["spy", "not used"]),
    "tensor dtype": (lambda: edit_header(lambda h: h[WEIGHT].update(dtype="F32")), [WEIGHT, "I8", "F32"]),
    "tensor shape": (lambda: edit_header(lambda h: h[WEIGHT].update(shape=[8, 16])), [WEIGHT, "(16, 8)"]),
    "tensor offsets": (lambda: edit_header(lambda h: h[WEIGHT].update(data_offsets=[0, 3])), [WEIGHT, "128"]),
    "offsets reversed": (
        lambda: edit_header(lambda h: h[WEIGHT].update(data_offsets=[9, 3])),
        [WEIGHT, "[9, 3]"],
    ),
    "offsets negative": (
        lambda: edit_header(lambda h: h[WEIGHT].update(data_offsets=[-128, 0])),
        [WEIGHT, "-128"],
    ),
    "offsets huge": (
        lambda: edit_header(lambda h: h[WEIGHT].update(data_offsets=[2**62, 2**62 + 128])),
        [WEIGHT, "offsets"],
    ),
    "offsets overlap": (
        lambda: edit_header(lambda h: h[WEIGHT].update(data_offsets=[0, 128])),
        ["tensor", "byte"],
    ),
    "offsets text": (lambda: edit_header(lambda h: h[WEIGHT].update(data_offsets="ab")), [WEIGHT, "'ab'"]),
    "tensor no object": (lambda: edit_header(lambda h: h.update({WEIGHT: 3})), [WEIGHT, "object"]),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_file(name: str) -> None:
    make, words = CASES[name]
    with pytest.raises(ProgramError) as caught:
        IntegerModel.from_bytes(make())
    message = str(caught.value)
    assert not [word for word in words if word not in message], message
    assert len(message) < 400


def test_hostile_constants_are_refused():
    """A weight that could overflow its accumulator, and a table that would break the softmax's bound."""
    header, tensors = split(DATA)
    begin, end = header["fc1.bias"]["data_offsets"]
    with pytest.raises(ProgramError, match=r"\(gemm\)"):
        IntegerModel.from_bytes(join(header, tensors[:begin] + b"\xff\xff\xff\x7f" * 16 + tensors[end:]))
    begin, end = header["attention.table"]["data_offsets"]
    with pytest.raises(ProgramError, match=r"\(attention\)"):
        IntegerModel.from_bytes(join(header, tensors[:begin] + b"\xff" * 64 + tensors[end:]))
