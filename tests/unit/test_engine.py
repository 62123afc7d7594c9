"""ProgramBuilder and IntegerModel."""

from __future__ import annotations

import copy
import hashlib
import pickle

import numpy as np
import pytest

from pyquant import IntegerModel, Output, ProgramBuilder, ProgramError, QParams, numerics, ops
from tests.safety.programs import GRID, STREAM, arguments, block

INTEGERS = QParams(1.0, 0, -128, 127)


def halve(batched: bool = True) -> IntegerModel:
    build = ProgramBuilder()
    x = build.input("x", (3,), INTEGERS, batched=batched)
    return build.finish([build.requantize(x, numerics.derive_dyadic(0.5), INTEGERS, name="half")])


def same(a: Output, b: Output) -> bool:
    return np.array_equal(a.logits, b.logits) and np.array_equal(a.extra[0], b.extra[0])


def test_a_model_of_one_instruction():
    model = halve()
    y = model(np.array([[4, 3, -3], [300, 0.5, 1.5]], np.float32))
    assert y.dtype == np.float32
    # 3 / 2 -> 2, -3 / 2 -> -1; 300 saturates at 127; 0.5 is 0, 1.5 is 2
    assert y.tolist() == [[2, 2, -1], [64, 0, 1]]
    q = model.run_integers(np.array([[4, 3, -3]], np.int8))
    assert q.dtype == np.int8
    assert q.tolist() == [[2, 2, -1]]
    assert model(x=np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert halve(False)(np.array([4, 3, -3], np.float32)).tolist() == [2, 2, -1]


def test_the_program_is_the_composition_of_the_ops():
    model, given = block(), arguments()
    traced = model.trace(**given)
    x = ops.quantize(given["x"], GRID.scale, GRID.zero_point)
    assert np.array_equal(traced["x"].integers, x)
    constants = {v.name: model._constants[v.index] for v in model.spec.values if v.kind == "const"}
    embeddings = constants["embeddings.table"][given["ids"]]
    assert np.array_equal(traced["embeddings"].integers, embeddings)
    add = numerics.derive_add(GRID.scale, STREAM.scale, STREAM.scale)
    stream = ops.add(x, embeddings, **add.keywords(), a_zero_point=GRID.zero_point, quant_min=-32768)
    assert np.array_equal(traced["stream"].integers, stream)
    q = ops.gemm(
        traced["norm1"].integers,
        *(constants[f"attention.q.{part}"] for part in ("weight", "bias", "multiplier", "shift")),
        x_zero_point=GRID.zero_point,
        zero_point=GRID.zero_point,
    )
    assert np.array_equal(traced["attention.q"].integers, q)
    heads = [traced[f"attention.{p}"].integers.reshape(2, 5, 2, 4).transpose(0, 2, 1, 3) for p in "qkv"]
    softmax = numerics.derive_attention("table16", GRID, GRID, GRID, GRID, 0.5, 4, 5)
    expected = ops.attention_trace(
        *heads,
        **softmax.keywords(),
        q_zero_point=3,
        k_zero_point=3,
        v_zero_point=3,
        zero_point=3,
        keep=given["mask"][:, None, None, :],
    )
    assert np.array_equal(traced["attention"].integers, expected.y.transpose(0, 2, 1, 3).reshape(2, 5, 8))
    assert np.array_equal(traced["attention.scores"].integers, expected.score)
    assert np.array_equal(traced["attention.softmax.p"].integers, expected.p)
    assert np.array_equal(traced["attention.softmax.l"].integers, expected.l)
    gelu = ops.table(traced["fc1"].integers, constants["gelu.table"])
    assert np.array_equal(traced["gelu"].integers, gelu)
    assert np.array_equal(traced["turned"].integers, gelu.transpose(0, 2, 1))
    assert traced["both"].integers.shape == (2, 2, 80)


def test_trace_gives_the_same_outputs_in_real_units():
    model, given = block(), arguments()
    traced, y = model.trace(**given), model(**given)
    assert np.array_equal(traced["head"].dequantize(), y.logits)
    assert np.array_equal(traced["mean"].dequantize(), y.extra[0])
    assert traced["attention.scores"].scale == GRID.scale**2
    with pytest.raises(ValueError, match="scale"):
        traced["attention.softmax.p"].dequantize()


def test_outputs_have_the_structure_of_the_model():
    y = block()(**arguments())
    assert isinstance(y, Output)
    assert y.logits is y["logits"]
    assert y.extra[1] is None
    assert "logits" in dir(y)
    assert same(pickle.loads(pickle.dumps(y)), y)
    with pytest.raises(AttributeError, match="logits"):
        _ = y.logit


def test_positional_and_keyword_arguments():
    model, given = block(), arguments()
    y = model(**given)
    assert same(model(*given.values()), y)
    assert same(model(given["x"], mask=given["mask"], ids=given["ids"]), y)
    assert same(model(given["x"], given["ids"].astype(np.int32), given["mask"].astype(np.int64)), y)
    assert model.input_names == ("x", "ids", "mask")


def test_results_do_not_depend_on_the_batch_or_threads():
    model, given = block(), arguments(batch=7)
    whole = model(**given)
    for i in range(7):
        one = model(**{name: a[i : i + 1] for name, a in given.items()})
        assert np.array_equal(one.logits[0], whole.logits[i])
    for threads in (1, 2, 3):
        model.set_num_threads(threads)
        assert same(model(**given), whole)
    model.set_num_threads(None)
    strided = {name: np.ascontiguousarray(np.moveaxis(a, 0, -1)) for name, a in given.items()}
    assert same(model(**{name: np.moveaxis(a, -1, 0) for name, a in strided.items()}), whole)


def test_argument_order_need_not_be_that_of_the_values():
    build = ProgramBuilder()
    a = build.input("a", (2,), INTEGERS)
    b = build.input("b", (2,), INTEGERS)
    half = build.requantize(b, numerics.derive_dyadic(0.5), INTEGERS)
    y = build.add(a, half, numerics.derive_add(1.0, 1.0, 1.0), INTEGERS)
    model = build.finish([y], inputs=[b, a])
    assert model.input_names == ("b", "a")
    assert model(np.array([[2, 4]], np.float32), np.array([[10, 20]], np.float32)).tolist() == [[11, 22]]
    assert model.run_integers(np.int8([[2, 4]]), np.int8([[10, 20]])).tolist() == [[11, 22]]


def test_accumulators_come_out_as_integers():
    build = ProgramBuilder()
    x = build.input("x", (2,), INTEGERS)
    constants = numerics.derive_gemm([[1.0, -1.0]], None, [1 / 127], 1.0, 1.0)
    model = build.finish([build.gemm(x, constants, None)])
    y = model(np.array([[3, 1]], np.float32))
    assert y.dtype == np.int32
    assert y.tolist() == [[254]]


def test_pickle_copy_and_digest():
    model, given = block(), arguments()
    model.set_num_threads(1)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert twin.digest() == model.digest()
        assert same(twin(**given), model(**given))
        assert twin._threads == 1
    assert block(seed=1).digest() != model.digest()
    changed = ProgramBuilder()
    x = changed.input("x", (3,), INTEGERS)
    other = changed.finish([changed.requantize(x, numerics.derive_dyadic(0.25), INTEGERS, name="half")])
    assert other.digest() != halve().digest()
    assert len(model.digest()) == 64


def test_the_digest_is_of_this_text():
    # What a digest covers is a promise to those who compare saved ones.
    text = (
        '{"inputs":[0],"instructions":[["requantize",[0],1,[["multiplier",1073741824],["quant_max",127],'
        '["quant_min",-128],["shift",31],["x_zero_point",0],["zero_point",0]]]],"outputs":[1],'
        '"structure":{"output":0},"values":[["x","input","int8",[3],true,["0x1.0000000000000p+0",0,-128,127]],'
        '["half","temp","int8",[3],true,["0x1.0000000000000p+0",0,-128,127]]]}'
    )
    assert halve().digest() == hashlib.sha256(text.encode()).hexdigest()


def test_coverage_and_repr():
    model = block()
    table = model.coverage()
    assert table.percent_integer == 100.0
    assert {row.kind for row in table} == {"integer", "view"}
    assert "attention" in str(table)
    assert "18 instructions" in repr(model)
    rows = [{"site": "a", "op": "dropout", "kind": "folded", "reason": "inference"}]
    build = ProgramBuilder()
    x = build.input("x", (1,), INTEGERS)
    kept = build.finish([x], metadata={"coverage": rows})
    assert IntegerModel.from_bytes(kept.to_bytes()).coverage().to_rows() == rows


@pytest.mark.parametrize(
    ("change", "exception", "words"),
    [
        ({"x": None}, TypeError, ["x", "NoneType"]),
        ({"x": np.zeros((2, 5, 8))}, TypeError, ["x", "float32", "float64"]),
        ({"x": np.zeros((2, 5, 9), np.float32)}, ValueError, ["x", "(batch, 5, 8)", "(2, 5, 9)"]),
        ({"x": np.zeros((3, 5, 8), np.float32)}, ValueError, ["ids", "3", "2"]),
        ({"x": np.full((2, 5, 8), np.nan, np.float32)}, ValueError, ["x", "NaN"]),
        ({"ids": np.full((2, 5), 7)}, IndexError, ["7"]),
        ({"ids": np.full((2, 5), -1)}, IndexError, ["-1"]),
        ({"ids": np.full((2, 5), 2**31)}, ValueError, ["ids", str(2**31)]),
        ({"ids": np.zeros((2, 5))}, TypeError, ["ids", "integer", "float64"]),
        ({"mask": np.zeros((2, 5))}, TypeError, ["mask", "float64"]),
        ({"y": 1}, TypeError, ["'y'", "ids"]),
    ],
)
def test_bad_arguments(change, exception, words):
    with pytest.raises(exception) as caught:
        block()(**{**arguments(), **change})
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


def test_missing_and_repeated_arguments():
    model, given = block(), arguments()
    with pytest.raises(TypeError, match="missing argument 'mask'"):
        model(given["x"], given["ids"])
    with pytest.raises(TypeError, match="two values for argument 'x'"):
        model(given["x"], x=given["x"])
    with pytest.raises(TypeError, match="at most 3"):
        model(*given.values(), 1)
    with pytest.raises(TypeError, match="int8"):
        model.run_integers(**given)
    with pytest.raises(ValueError, match="threads"):
        model.set_num_threads(0)


def test_the_builder_names_what_is_wrong():
    build = ProgramBuilder()
    x = build.input("x", (4,), INTEGERS)
    with pytest.raises(ProgramError, match="'x' twice"):
        build.input("x", (4,), INTEGERS)
    with pytest.raises(ProgramError, match="divide"):
        build.emit("divide", [x], {}, name=None, dtype="int8", shape=(4,))
    with pytest.raises(ProgramError, match="shift"):
        build.emit("requantize", [x], {"multiplier": 1}, name=None, dtype="int8", shape=(4,))
    with pytest.raises(ProgramError, match="another builder"):
        ProgramBuilder().reshape(x, (2, 2))
    with pytest.raises(ProgramError, match=r"\(3,\)"):
        build.add(x, build.input("b", (3,), INTEGERS), numerics.derive_add(1.0, 1.0, 1.0), INTEGERS)
    with pytest.raises(ProgramError, match="grid"):
        build.input("z", (3,))
    bad = ProgramBuilder()
    x = bad.input("x", (4,), INTEGERS)
    bad.reshape(x, (5,), name="r")
    with pytest.raises(ProgramError, match=r"instruction 0 \(reshape\)"):
        bad.finish([x])


def test_constants_are_the_programs_own():
    build = ProgramBuilder()
    x = build.input("x", (2,), INTEGERS)
    table = np.arange(-128, 128).astype(np.int8)
    y = build.table(x, table, INTEGERS)
    model = build.finish([y])
    before = model.digest()
    table[:] = 0
    build.constants[y.index - 1][:] = 0
    assert model.digest() == before
    assert model(np.array([[5, -7]], np.float32)).tolist() == [[5, -7]]
