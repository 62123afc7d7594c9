"""One clear error for each rule, with the op and the operand, from the shim and from pure torch alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pyquant.torch_ops import new_histogram, new_minmax, observe

from .cases import BODIES, grid, op

X, Y, WIDE = grid(0.05, 3), grid(0.1, -7), grid(0.001, 0, 16)
x34, x45 = torch.ones(3, 4), torch.ones(4, 5)
NAN = torch.tensor([[1.0, float("nan"), 0.0, 0.0]])
Z = X[1]


def qkv(**changes: Any) -> tuple[Any, ...]:
    values = {
        "q": torch.ones(2, 4, 3, 8),
        "k": torch.ones(2, 2, 5, 8),
        "v": torch.ones(2, 2, 5, 8),
        "mask": None,
        "scale": 0.3,
        "method": "table16",
        "y": Y,
        **changes,
    }
    return (
        *(values["q"], *X, values["k"], *X, values["v"], *X),
        *(values["mask"], False, values["scale"], values["method"], *values["y"]),
    )


def linear(**changes: Any) -> tuple[Any, ...]:
    values = {
        "x": x34,
        "x_grid": X,
        "w": torch.ones(5, 4),
        "b": None,
        "s": None,
        "bits": 8,
        "group": 0,
        "y": Y,
        **changes,
    }
    return (
        *(values["x"], *values["x_grid"], values["w"], values["b"], values["s"], values["bits"]),
        values["group"],
        *values["y"],
    )


RANGE = torch.tensor([[-1.0], [1.0]]).expand(2, 4)


def norm(**changes: Any) -> tuple[Any, ...]:
    values = {"x": x34, "w": None, "b": None, "eps": 1e-5, "method": "exact", "range": None, **changes}
    layer = (values["w"], values["b"], values["eps"], False, values["method"], values["range"])
    return (values["x"], *WIDE, *layer, *WIDE)


ERRORS = [
    ("quantize", (x34.bfloat16(), *X), "x of dtype torch.float32, got torch.bfloat16.*half precision"),
    ("quantize", (x34.half(), *X), "x of dtype torch.float32, got torch.float16"),
    ("quantize", (x34.double(), *X), "x of dtype torch.float32, got torch.float64"),
    ("quantize", (x34.to_sparse(), *X), "strided x"),
    ("quantize", (NAN, *X), "NaN"),
    ("quantize", (x34, torch.ones(1), *X[1:]), "scale as a scalar"),
    ("quantize", (x34, X[0].double(), *X[1:]), "scale as a scalar"),
    ("quantize", (x34, X[0], Z.long(), -128, 127), "zero_point as a scalar"),
    ("quantize", (x34, X[0], Z, 5, -5), "quant_min <= quant_max"),
    ("quantize", (x34, X[0], Z, -40000, 127), "-32768"),
    ("quantize", (x34, X[0], Z, 2**40, 2**40), "32767"),
    ("quantize", (x34, X[0], Z, -128, 2), "zero.point"),
    ("quantize", (x34, torch.tensor(0.0), *X[1:]), "scale"),
    ("quantize", (x34, torch.tensor(-0.1), *X[1:]), "scale"),
    ("quantize", (x34, torch.tensor(float("nan")), *X[1:]), "scale"),
    ("quantize", (x34, torch.tensor(2.0**101), *X[1:]), "scale"),
    ("requantize", (NAN, *X, *Y), "NaN"),
    ("requantize", (x34, *grid(2.0**90), *grid(2.0**-90)), "2\\^30"),
    ("requantize", (x34.half(), *X, *Y), "x of dtype"),
    ("linear", linear(x=x34.bfloat16()), "x of dtype torch.float32, got torch.bfloat16"),
    ("linear", linear(w=torch.ones(5, 4).half()), "weight of dtype torch.float32"),
    ("linear", linear(w=torch.ones(5, 3)), "x \\(.., k\\) and weight \\(n, k\\)"),
    ("linear", linear(x=torch.tensor(1.0)), "x \\(.., k\\) and weight"),
    ("linear", linear(b=torch.ones(4)), "bias \\(5,\\)"),
    ("linear", linear(s=torch.ones(5, 1)), "weight_scale \\(5,\\)"),
    ("linear", linear(s=torch.zeros(5)), "scale"),
    ("linear", linear(bits=9), "weight_bits"),
    ("linear", linear(group=4), "group_size 0, or a multiple of 4 with weight_bits <= 4, got 4 with 8"),
    ("linear", linear(bits=4, group=6), "multiple of 4 with weight_bits <= 4, got 6 with 4"),
    ("linear", linear(bits=4, group=-4), "group_size 0, or a multiple of 4"),
    ("linear", linear(bits=4, group=4, s=torch.ones(5)), "weight_scale \\(5, 1\\)"),
    ("linear", linear(bits=4, group=4, s=torch.zeros(5, 1)), "scale"),
    ("linear", linear(x_grid=WIDE), "int8"),
    ("linear", linear(x=NAN), "NaN"),
    ("linear", linear(w=NAN.expand(5, 4)), "NaN"),
    ("linear", linear(b=torch.full((5,), float("nan"))), "NaN"),
    ("linear", linear(w=torch.full((5, 4), float("inf"))), "finite"),
    ("linear", linear(x=torch.ones(1, 70000), w=torch.ones(1, 70000)), "2147483647|2\\^31"),
    ("attention", qkv(q=torch.ones(3, 8)), "q \\(.., heads, t, d\\)"),
    ("attention", qkv(v=torch.ones(2, 2, 6, 8)), "kv_heads, s, d"),
    ("attention", qkv(k=torch.ones(2, 3, 5, 8), v=torch.ones(2, 3, 5, 8)), "kv_heads to divide heads"),
    ("attention", qkv(mask=torch.ones(3, 4, dtype=torch.bool)), "broadcast to"),
    ("attention", qkv(mask=torch.ones(1, 2, 4, 3, 5)), "broadcast to"),
    ("attention", qkv(mask=torch.full((3, 5), float("nan"))), "NaN"),
    ("attention", qkv(mask=torch.ones(3, 5).half()), "attn_mask of dtype"),
    ("attention", qkv(scale=-1.0), "scale"),
    ("attention", qkv(scale=float("nan")), "scale"),
    ("attention", qkv(scale=1e30), "2\\^31"),
    ("attention", qkv(method="exact"), "softmax: expected a method"),
    ("attention", qkv(method="ibert(bits=99)"), "softmax: expected bits of ibert"),
    ("attention", qkv(y=WIDE), "\\[-128, 127\\]|int8"),
    ("attention", qkv(y=grid(2.0**40)), "scale"),
    ("attention", qkv(k=torch.full((2, 2, 5, 8), float("nan"))), "NaN"),
    ("attention", qkv(v=torch.ones(2, 2, 5, 8).bfloat16()), "v of dtype torch.float32"),
    ("layer_norm", norm(x=NAN), "NaN"),
    ("layer_norm", norm(x=torch.ones(3, 0)), "1 to 32767 channels"),
    ("layer_norm", norm(x=torch.ones(1, 32768)), "1 to 32767 channels"),
    ("layer_norm", norm(w=torch.ones(5)), "weight \\(4,\\)"),
    ("layer_norm", norm(b=torch.ones(4).bfloat16()), "bias of dtype"),
    ("layer_norm", norm(w=torch.full((4,), float("inf"))), "finite"),
    ("layer_norm", norm(eps=-1.0), "eps"),
    ("layer_norm", norm(eps=1e30), "2\\^61"),
    ("layer_norm", norm(method="newton"), "a method \\(exact, ibert, ivit.*got 'newton'"),
    ("layer_norm", norm(method="ivit(iterations=0)"), "iterations of ivit an integer in \\[1, 16\\]"),
    ("layer_norm", norm(method="ptf"), "ranges of all channels.*with method ptf"),
    ("layer_norm", norm(method="ptf", range=torch.zeros(4, 2)), "x_range \\(2, 4\\)"),
    ("layer_norm", norm(method="ptf", range=torch.full((2, 4), torch.inf)), "the range of each channel"),
    ("layer_norm", norm(method="ptf", range=RANGE, w=torch.full((4,), 1e9)), "2\\^30"),
    ("layer_norm", norm(method="ibert", w=torch.full((4,), 1e30)), "2\\^60"),
    ("softmax", (NAN, *X, "table16", *Y), "NaN"),
    ("softmax", (torch.tensor(1.0), *X, "table16", *Y), "at least 1 axis"),
    ("softmax", (x34.half(), *X, "table16", *Y), "x of dtype"),
    ("softmax", (x34, *X, "exact", *Y), "softmax: expected a method"),
    ("softmax", (x34, *grid(2.0**40), "table16", *Y), "2\\^31"),
    ("softmax", (x34, *X, "table16", *grid(2.0**50)), "y_scale"),
    ("softmax", (torch.ones(1, 1100), *X, "ivit", *Y), "at most 1023 keys"),
    ("unary", (x34, *X, "cosine", "table", *Y), "expected one of identity, relu"),
    ("unary", (x34, *WIDE, "gelu", "table", *Y), "int8|\\[-128, 127\\]"),
    ("unary", (x34, *X, "gelu", "table", *WIDE), "int8|\\[-128, 127\\]"),
    ("unary", (NAN, *X, "gelu", "table", *Y), "NaN"),
    ("unary", (x34, *X, "gelu", "cubic", *Y), "expected a method \\(table, ibert, .*got 'cubic'"),
    ("unary", (x34, *X, "gelu", "ivit(bits=1)", *Y), "bits of ivit an integer in \\[2, 16\\], got 1"),
    ("unary", (x34, *X, "relu", "ivit", *Y), "a function that method ivit has \\(gelu, .*got relu"),
    ("add", (x34, *X, x45, *X, *Y), "shapes that broadcast, got \\(3, 4\\) and \\(4, 5\\)"),
    ("add", (x34, *X, NAN, *X, *Y), "NaN"),
    ("add", (x34, *X, x34.half(), *X, *Y), "b of dtype"),
    ("mean", (x34, *X, [2], False, *Y), "different axes"),
    ("mean", (x34, *X, [0, -2], False, *Y), "different axes"),
    ("mean", (torch.ones(3, 0), *X, [1], False, *Y), "1 to 32767|\\[1, 32767\\]"),
    ("mean", (torch.ones(1, 40000), *X, [1], False, *Y), "32767"),
    ("mean", (NAN, *X, [1], False, *Y), "NaN"),
]


@pytest.mark.parametrize(("name", "args", "rule"), ERRORS, ids=range(len(ERRORS)))
def test_rule(name: str, args: tuple[Any, ...], rule: str) -> None:
    for function in (op(name), BODIES[name]):
        with pytest.raises(RuntimeError, match=f"^{name}: .*({rule})"):
            function(*args)


def test_fake_tensors_meet_the_same_rules() -> None:
    with pytest.raises(RuntimeError, match=r"quantize: expected x of dtype torch\.float32"):
        op("quantize")(x34.bfloat16().to("meta"), *(t.to("meta") for t in X[:2]), -128, 127)
    with pytest.raises(RuntimeError, match="quantize: expected scale on meta, got cpu"):
        op("quantize")(x34.to("meta"), *X)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_edge_under_autocast(dtype: torch.dtype) -> None:
    with (
        torch.autocast("cpu", dtype=dtype),
        pytest.raises(RuntimeError, match=f"linear: expected x of dtype torch.float32, got {dtype}"),
    ):
        op("linear")(*linear(x=torch.nn.functional.linear(x34, torch.ones(4, 4))))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_observers_refuse_what_has_no_range(bad: float) -> None:
    x = torch.tensor([1.0, bad])
    for function in (op("observe_minmax"), observe.minmax_body):
        with pytest.raises(RuntimeError, match=r"^observe_minmax: "):
            function(x, *new_minmax())
    for function in (op("observe_histogram"), observe.histogram_body):
        state = new_histogram()
        with pytest.raises(RuntimeError, match=r"^observe_histogram: "):
            function(x, *state)
        assert int(state[0].sum()) == 0, "a failed call leaves the state as it was"


def test_observers_refuse_other_states() -> None:
    low, high = new_minmax((3,))
    for function in (op("observe_minmax"), observe.minmax_body):
        with pytest.raises(RuntimeError, match="a single axis longer than 1"):
            function(x34, low, high)
        with pytest.raises(RuntimeError, match="of one shape"):
            function(x34, low, new_minmax()[1])
    counts, meta = new_histogram()
    for function in (op("observe_histogram"), observe.histogram_body):
        with pytest.raises(RuntimeError, match=r"expected counts \(2048,\)"):
            function(x34, counts[:5], meta)
        with pytest.raises(RuntimeError, match=r"expected meta \(4,\)"):
            function(x34, counts, meta.float())
