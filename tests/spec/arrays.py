"""A thin NumPy skin over the specification: arrays in, arrays out, nothing computed here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.spec import (
    attention,
    attention_online,
    elementwise,
    gemm,
    layernorm,
    norm_methods,
    softmax_rows,
)
from tests.spec.cases import Array, Case
from tests.spec.numbers import Clamp, Dyadic
from tests.spec.softmax import Lookup
from tests.spec.softmax import parse as parse_softmax

NORM_METHODS = ("exact", "ibert", "ivit", "ivit_published", "ptf")  # as programs number them


def expected(case: Case) -> dict[str, Array]:
    """The specification's outputs of a case, by name; `y` is the op's own output."""
    arrays: dict[str, Any] = {name: a for name, a in case.arrays.items() if a is not None}
    return RUN[case.op](arrays, dict(case.numbers))


def clamp_of(numbers: dict[str, Any]) -> Clamp:
    return Clamp(numbers["zero_point"], numbers["quant_min"], numbers["quant_max"])


def dyadic_of(numbers: dict[str, Any]) -> Dyadic:
    return Dyadic(numbers["multiplier"], numbers["shift"])


def run_gemm(a: dict[str, Any], n: dict[str, Any]) -> dict[str, Array]:
    x, w = a["x"].tolist(), a["w"].tolist()
    bias = a["bias"].tolist() if "bias" in a else [0] * len(w)
    shape = (len(x), len(w))
    if n["dtype"] == "int32":
        y = gemm.accumulate(x, n["x_zero_point"], w, bias)
    else:
        scales = [Dyadic(*pair) for pair in zip(a["multiplier"].tolist(), a["shift"].tolist(), strict=True)]
        y = gemm.gemm(x, n["x_zero_point"], w, bias, scales, clamp_of(n))
    return {"y": np.array(y, n["dtype"]).reshape(shape)}


def run_gemm_s8s4(a: dict[str, Any], n: dict[str, Any]) -> dict[str, Array]:
    x, k = a["x"].tolist(), a["x"].shape[1]
    w = [gemm.unpack_s4(row, k) for row in a["w"].tolist()]
    bias = a["bias"].tolist() if "bias" in a else [0] * len(w)
    factors = a["group_multiplier"].tolist() if "group_multiplier" in a else None
    if n["dtype"] == "int32":
        y = gemm.accumulate_s8s4(x, n["x_zero_point"], w, bias, n["group_size"], factors)
    else:
        scales = [Dyadic(*pair) for pair in zip(a["multiplier"].tolist(), a["shift"].tolist(), strict=True)]
        y = gemm.gemm_s8s4(x, n["x_zero_point"], w, bias, n["group_size"], factors, scales, clamp_of(n))
    return {"y": np.array(y, n["dtype"]).reshape(len(x), len(w))}


def softmax_of(a: dict[str, Any], n: dict[str, Any]) -> attention.Softmax | Lookup:
    slope, table = (n["delta_max"], n["softmax_multiplier"], n["softmax_shift"]), tuple(a["table"].tolist())
    method = parse_softmax(n["method"])
    return attention.Softmax(*slope, n["pmax"], table) if method is None else Lookup(*slope, method, table)


def heads_of(a: dict[str, Any], n: dict[str, Any]) -> Iterator[tuple[tuple[int, int], tuple[Any, ...]]]:
    """The arguments of the specification of one head, for each batch entry and head."""
    batch, heads, q_len, _ = a["q"].shape
    kv_heads, k_len = a["k"].shape[1:3]
    score_shape = (batch, heads, q_len, k_len)
    softmax = softmax_of(a, n)
    zero_points = (n["q_zero_point"], n["k_zero_point"], n["v_zero_point"])
    keep = np.broadcast_to(a["keep"], score_shape) != 0 if "keep" in a else None
    add = np.broadcast_to(a["mask_add"], score_shape) if "mask_add" in a else None
    for b in range(batch):
        for h in range(heads):
            shared = h // (heads // kv_heads)  # grouped queries share a key head
            yield (
                (b, h),
                (
                    a["q"][b, h].tolist(),
                    a["k"][b, shared].tolist(),
                    a["v"][b, shared].tolist(),
                    zero_points,
                    softmax,
                    dyadic_of(n),
                    clamp_of(n),
                    keep[b, h].tolist() if keep is not None else None,
                    add[b, h].tolist() if add is not None else None,
                    bool(n["causal"]),
                ),
            )


def run_attention(a: dict[str, Any], n: dict[str, Any]) -> dict[str, Array]:
    score_shape = (*a["q"].shape[:3], a["k"].shape[2])
    y = np.empty(a["q"].shape, np.int8)
    score, p = np.empty(score_shape, np.int32), np.empty(score_shape, np.uint16)
    total = np.empty(score_shape[:3], np.uint32)
    for at, arguments in heads_of(a, n):
        for i, row in enumerate(attention.attention(*arguments)):
            where = (*at, i)
            y[where], score[where], p[where], total[where] = row.y, row.score, row.p, row.total
    return {"y": y, "score": score, "p": p, "l": total}


def run_attention_online64(a: dict[str, Any], n: dict[str, Any]) -> dict[str, Array]:
    y = np.empty(a["q"].shape, np.int8)
    for at, arguments in heads_of(a, n):
        y[at] = np.reshape(attention_online.attention_online(*arguments), y[at].shape)
    return {"y": y}


def layernorm_rows(a: dict[str, Any], n: dict[str, Any]) -> list[list[int]]:
    x, gain, offset, out = a["x"].tolist(), a["gain"].tolist(), a["offset"].tolist(), clamp_of(n)
    rms, zero_point = bool(n["rms"]), n["x_zero_point"]
    method = NORM_METHODS[n.get("method", 0)]
    if method == "exact":
        constants = (n["epsilon"], gain, offset, n["shift"], out)
        return [layernorm.layernorm(row, *constants, rms, zero_point) for row in x]
    if method == "ptf":
        requant = Dyadic(n["ptf_multiplier"], n["ptf_shift"])
        factors = (a["alpha"].tolist(), gain, a["exponent"].tolist(), offset)
        ptf = norm_methods.Ptf(requant, n["ptf_zero_point"], *factors)
        return [norm_methods.layernorm_ptf(row, ptf, out, rms, zero_point) for row in x]
    steps = (method, n["iterations"], gain, offset, n["shift"], out)
    return [norm_methods.layernorm_newton(row, *steps, rms, zero_point) for row in x]


def run_layernorm(a: dict[str, Any], n: dict[str, Any]) -> dict[str, Array]:
    return {"y": np.array(layernorm_rows(a, n), n["dtype"]).reshape(a["x"].shape)}


def run_softmax(a: dict[str, Any], n: dict[str, Any]) -> dict[str, Array]:
    constants = softmax_of(a, n), dyadic_of(n), clamp_of(n)
    y = [softmax_rows.softmax_row(row, *constants) for row in a["x"].tolist()]
    return {"y": np.array(y, n["dtype"]).reshape(a["x"].shape)}


def run_table(a: dict[str, Any], _: dict[str, Any]) -> dict[str, Array]:
    return {"y": np.array(elementwise.table(a["x"].tolist(), a["table"].tolist()), np.int8)}


def run_requantize(a: dict[str, Any], n: dict[str, Any]) -> dict[str, Array]:
    y = elementwise.requantize(a["x"].tolist(), n["x_zero_point"], dyadic_of(n), clamp_of(n))
    return {"y": np.array(y, n["dtype"])}


def run_add(a: dict[str, Any], n: dict[str, Any]) -> dict[str, Array]:
    y = elementwise.add(
        a["a"].ravel().tolist(),
        a["b"].tolist(),
        (n["a_zero_point"], n["b_zero_point"]),
        (n["a_multiplier"], n["b_multiplier"]),
        n["shift"],
        clamp_of(n),
    )
    return {"y": np.array(y, n["dtype"]).reshape(a["a"].shape)}


def run_mean(a: dict[str, Any], n: dict[str, Any]) -> dict[str, Array]:
    y = elementwise.mean(a["x"].tolist(), n["x_zero_point"], dyadic_of(n), clamp_of(n))
    outer, _, inner = a["x"].shape
    return {"y": np.array(y, n["dtype"]).reshape(outer, inner)}


RUN = {
    "gemm": run_gemm,
    "gemm_s8s4": run_gemm_s8s4,
    "attention": run_attention,
    "attention_online64": run_attention_online64,
    "layernorm": run_layernorm,
    "softmax": run_softmax,
    "table": run_table,
    "requantize": run_requantize,
    "add": run_add,
    "mean": run_mean,
}
