"""Gradients of the approximation: what a method computes, taken from its results through the forward op."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyquant.methods import methods
from pyquant.numerics import unary_functions

from .cases import edge, grid, op

BYTE = grid(0.05, 3)
SOFTMAX = methods("softmax")
UNARY = [
    (f, m) for m in methods("unary") for f in ("gelu", "silu", "exp", "sigmoid") if f in unary_functions(m)
]
NORM = ("exact", "ibert", "ivit(iterations=10)", "ptf")


def leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


def upstream(shape: tuple[int, ...] | torch.Size) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(9))


def both(
    name: str, leaves: tuple[Tensor, ...], args: tuple[Any, ...]
) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """(the result, its gradients: of the float function, of the approximation)"""
    found = []
    for flag in (False, True):
        y = op(name)(*args, flag)
        found.append(torch.autograd.grad(y, leaves, upstream(y.shape)))
    return y, found


def inside(y: Tensor, to: tuple[Any, ...]) -> Tensor:
    scale, zero_point, low, high = to
    return (y > (low - zero_point) * scale) & (y < (high - zero_point) * scale)


# -- unary functions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "method"), UNARY)
@pytest.mark.parametrize("ends", [(-128, 127), (-60, 71)])
def test_unary_is_the_central_difference_of_its_table(
    function: str, method: str, ends: tuple[int, int]
) -> None:
    scale, zero_point = torch.tensor(0.03), torch.tensor(3, dtype=torch.int32)
    to = grid(0.02, -90)
    codes = torch.arange(ends[0], ends[1] + 1)
    x = leaf((codes - 3).float() * scale)
    args = (x, scale, zero_point, *ends, function, method, *to)
    y, (_, (got,)) = both("unary", (x,), args)
    t = (y.detach().double() / float(to[0])).round() * float(
        to[0]
    )  # of the codes, without float32's rounding
    slope = torch.empty_like(t)
    slope[1:-1] = (t[2:] - t[:-2]) / 2
    slope[0], slope[-1] = t[1] - t[0], t[-1] - t[-2]  # one-sided
    want = torch.where(inside(y, to), upstream(y.shape), 0.0).double() * slope / float(scale)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)
    assert inside(y, to).sum() > 50
    if (function, ends) == ("exp", (-128, 127)):
        assert not inside(y, to).all()  # clipped above: no gradient
        assert not got[~inside(y, to)].any()


@pytest.mark.parametrize("function", ["gelu", "silu", "tanh", "sigmoid", "softplus"])
def test_a_table_has_nearly_the_slope_of_its_function(function: str) -> None:
    """Each of two codes is rounded by half a step s_y at most, which gives s_y / (2 s_x); the difference of a
    smooth function over 2 s_x is off by s_x^2 / 6 of its third derivative (at most 2 for these)."""
    x_grid, to = grid(0.03), grid(0.0005, 0, 8)
    to = (torch.tensor(0.012), torch.tensor(-20, dtype=torch.int32), -128, 127)
    x = leaf(edge(torch.Generator().manual_seed(0), (500,), x_grid).clamp(-1.2, 1.2))
    y, ((real,), (got,)) = both("unary", (x,), (x, *x_grid, function, "table", *to))
    assert inside(y, to).all()
    bound = (0.012 / (2 * 0.03) + 0.03**2 / 3) * upstream(y.shape).abs() + 1e-6
    assert bool(((got - real).abs() <= bound).all())
    assert bool((got != real).any())


def test_one_code_has_no_slope() -> None:
    x = leaf(torch.zeros(3))
    zero = torch.tensor(0, dtype=torch.int32)
    args = (x, torch.tensor(0.1), zero, 0, 0, "gelu", "table", *BYTE)
    _, (_, (got,)) = both("unary", (x,), args)
    assert not got.any()


# -- softmax -------------------------------------------------------------------------------------------------

FINE = (torch.tensor(2.0**-15), torch.tensor(0, dtype=torch.int32), -32768, 32767)


def jacobian(p: Tensor, g: Tensor) -> Tensor:
    return p * (g - (p * g).sum(dim=-1, keepdim=True))


@pytest.mark.parametrize("method", SOFTMAX)
def test_softmax_uses_the_probabilities_of_its_integers(method: str) -> None:
    """Read from the op's own result on a grid of 2^-15, half a step off: |J| g changes by at most three steps
    of the largest |g| (p, p in the sum, and the sum of n of them, each with |p| <= 1)."""
    x_grid = grid(0.04, 5)
    x = leaf(edge(torch.Generator().manual_seed(1), (6, 12), x_grid))
    y, (_, (got,)) = both("softmax", (x,), (x, *x_grid, method, *FINE))
    p, g = y.detach().double(), torch.where(inside(y, FINE), upstream(y.shape), 0.0).double()
    bound = float(g.abs().max()) * 2.0**-16 * (2 + 2 * x.shape[-1])
    assert float((got.double() - jacobian(p, g)).abs().max()) <= bound


def test_a_table_of_exponentials_is_near_the_float_softmax_and_powers_of_two_are_not() -> None:
    x_grid = grid(0.04, 5)
    x = leaf(edge(torch.Generator().manual_seed(1), (6, 12), x_grid))
    distance = {}
    for method in ("table16", "fqvit", "sole"):
        _, ((real,), (got,)) = both("softmax", (x,), (x, *x_grid, method, *FINE))
        distance[method] = float((got - real).norm() / real.norm())
    assert distance["table16"] < 0.01
    assert distance["fqvit"] > 0.1
    assert distance["sole"] > 0.1


def test_softmax_finite_differences() -> None:
    """Of the op itself over many input steps, for a method that is smooth on that scale."""
    x_grid = grid(2.0**-10, 0, 16)
    x = leaf(edge(torch.Generator().manual_seed(1), (4, 7), x_grid).clamp(-2, 2))
    to = FINE
    _, (_, (got,)) = both("softmax", (x,), (x, *x_grid, "table16", *to))
    h, g = 2.0**-4, upstream(x.shape).double()
    for i in range(x.shape[-1]):
        with torch.no_grad():
            shift = torch.zeros_like(x)
            shift[:, i] = h
            ahead, behind = (op("softmax")(x + d, *x_grid, "table16", *to).double() for d in (shift, -shift))
        slope = ((ahead - behind) / (2 * h) * g).sum(dim=-1)
        # rounding of results: 2^-16 each over 2 h; curvature: h^2 / 6 times a third derivative below 1
        bound = (2.0**-16 / h + h * h / 6) * float(g.abs().sum(dim=-1).max()) * 4
        assert float((got[:, i].double() - slope).abs().max()) <= bound


# -- attention -----------------------------------------------------------------------------------------------


def attention_case(
    method: str, kind: str, causal: bool, kv_heads: int
) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(3)
    q_grid, k_grid, v_grid = grid(0.012), grid(0.05), grid(0.02)
    q = leaf(edge(generator, (2, 4, 5, 8), q_grid))
    k, v = (leaf(edge(generator, (2, kv_heads, 7, 8), g)) for g in (k_grid, v_grid))
    leaves: tuple[Tensor, ...] = (q, k, v)
    mask = None
    if kind == "keep":
        mask = torch.rand(2, 1, 5, 7, generator=generator) > 0.3
        mask[:, :, 2] = False
    if kind == "additive":
        mask = leaf(torch.randn(4, 5, 7, generator=generator))
        with torch.no_grad():
            mask[0, :, 0] = -math.inf
        leaves = (q, k, v, mask)
    return leaves, (q, *q_grid, k, *k_grid, v, *v_grid, mask, causal, 0.4, method)


def probabilities(args: tuple[Any, ...], steps: float = 2.0**-7) -> tuple[Tensor, float]:
    """(P, its error): one attention for each key, whose value alone is 1."""
    q, k, v, mask, causal, scale, method = args[0], args[5], args[10], *args[15:19]
    one = (torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), -128, 127)
    to = (torch.tensor(steps), torch.tensor(-128, dtype=torch.int32), -128, 127)
    columns = []
    for key in range(k.shape[-2]):
        value = torch.zeros_like(v)
        value[..., key, :] = 1.0
        y = op("attention")(q, *args[1:5], k, *args[6:10], value, *one, mask, causal, scale, method, *to)
        columns.append(y[..., 0])
    return torch.stack(columns, dim=-1).detach().double(), steps / 2


@pytest.mark.parametrize("method", ["table16", "ibert", "fqvit", "sole"])
@pytest.mark.parametrize(
    ("kind", "causal", "kv_heads"), [("none", False, 4), ("keep", True, 2), ("additive", False, 1)]
)
def test_attention_uses_the_probabilities_of_its_integers(
    method: str, kind: str, causal: bool, kv_heads: int
) -> None:
    leaves, args = attention_case(method, kind, causal, kv_heads)
    to = grid(0.015)
    y, (_, got) = both("attention", leaves, (*args, *to))
    op_p = torch.ops.pyquant.attention_probabilities(*args[:10], *args[11:19])
    p, error = probabilities(args)
    assert float((op_p - p).abs().max()) <= error + 1e-6  # the op, by another way through the kernel
    p = op_p.double()
    q, k, v = (x.detach().double() for x in leaves[:3])
    repeat = 4 // kv_heads
    key, value = (x.repeat_interleave(repeat, dim=1) for x in (k, v))
    g = torch.where(inside(y, to), upstream(y.shape), 0.0).double()
    grad_score = jacobian(p, g @ value.mT)
    want = [grad_score @ key * 0.4]
    full = (grad_score.mT @ q * 0.4, p.mT @ g)
    want += [x.reshape(2, kv_heads, repeat, 7, 8).sum(dim=2) for x in full]
    if kind == "additive":
        want.append(grad_score.sum(dim=0))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


def test_attention_differs_where_the_method_is_rough() -> None:
    distance = {}
    for method in ("table16", "fqvit"):
        leaves, args = attention_case(method, "none", False, 4)
        _, (real, got) = both("attention", leaves, (*args, *grid(0.015)))
        distance[method] = [float((a - b).norm() / b.norm()) for a, b in zip(got, real, strict=True)]
    assert max(distance["table16"]) < 0.01
    assert min(distance["fqvit"]) > 0.05


# -- norms ---------------------------------------------------------------------------------------------------


def norm_case(rms: bool, method: str) -> tuple[tuple[Tensor, ...], tuple[Any, ...], tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(5)
    x_grid = grid(0.001, 100, 16)
    x = leaf(torch.randn(3, 5, 24, generator=generator) + 0.3)
    with torch.no_grad():
        x.copy_(op("quantize")(x, *x_grid))
    weight, bias = (leaf(torch.randn(24, generator=generator)) for _ in range(2))
    flat = x.detach().reshape(-1, 24)
    x_range = torch.stack([flat.amin(dim=0), flat.amax(dim=0)])
    return (x, weight, bias), (*x_grid,), (weight, bias, 1e-5, rms, method, x_range)


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("method", NORM)
def test_norms_use_the_statistics_of_their_integers(rms: bool, method: str) -> None:
    """Mean and reciprocal deviation are such that the formula gives the op's own result (without weight and
    bias, on a fine grid), and the gradient is the formula with them."""
    leaves, x_grid, layer = norm_case(rms, method)
    x, weight = leaves[0].detach(), leaves[1]
    mean, inverse = torch.ops.pyquant.layer_norm_statistics(x, *x_grid, *layer[2:])
    assert mean.shape == inverse.shape == (3, 5, 1)
    fine = (torch.tensor(2.0**-12), torch.tensor(0, dtype=torch.int32), -32768, 32767)
    y = op("layer_norm")(x, *x_grid, None, None, *layer[2:], *fine).double()
    # Of ptf x itself lies on another grid: 8 bits a channel, half a step off (at most a range of 7 / 255).
    loose = 7 / 255 / 2 * float(inverse.max()) if method == "ptf" else 0.0
    error = ((x.double() - mean.double()) * inverse.double() - y).abs().max()
    assert float(error) <= 2.0**-11 + loose

    to = grid(0.02, -9)
    y, (_, got) = both("layer_norm", leaves, (leaves[0], *x_grid, *layer, *to))
    g = torch.where(inside(y, to), upstream(y.shape), 0.0).double()
    normal = (x.double() - mean.double()) * inverse.double()
    gx = g * weight.detach().double()
    centred = 0.0 if rms else gx.mean(dim=-1, keepdim=True)
    want = [
        inverse.double() * (gx - centred - normal * (gx * normal).mean(dim=-1, keepdim=True)),
        (g * normal).sum(dim=(0, 1)),
        g.sum(dim=(0, 1)),
    ]
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("rms", [False, True])
def test_an_exact_norm_has_the_float_gradient_and_a_rough_one_has_not(rms: bool) -> None:
    distance = {}
    for method in ("exact", "ibert", "ivit(iterations=1)"):
        leaves, x_grid, layer = norm_case(rms, method)
        _, (real, got) = both("layer_norm", leaves, (leaves[0], *x_grid, *layer, *grid(0.02, -9)))
        distance[method] = float((got[0] - real[0]).norm() / real[0].norm())
    assert distance["exact"] < 1e-4
    assert distance["ibert"] < 0.01
    assert distance["ivit(iterations=1)"] > 0.02


def test_norm_finite_differences() -> None:
    """Of the exact integers over many input steps."""
    leaves, x_grid, layer = norm_case(False, "exact")
    x = leaves[0]
    fine = (torch.tensor(2.0**-12), torch.tensor(0, dtype=torch.int32), -32768, 32767)
    y, (_, got) = both("layer_norm", leaves, (x, *x_grid, *layer, *fine))
    g, h = upstream(y.shape).double(), 0.032
    for i in (0, 7, 23):
        with torch.no_grad():
            shift = torch.zeros_like(x)
            shift[..., i] = h
            ahead, behind = (
                op("layer_norm")(x + d, *x_grid, *layer, *fine).double() for d in (shift, -shift)
            )
        slope = ((ahead - behind) / (2 * h) * g).sum(dim=-1)
        # rounding 2^-13 / h of each result, and h^2 of the third derivative
        bound = (2.0**-13 / h + h * h) * g.abs().sum(dim=-1)
        assert bool(((got[0][..., i].double() - slope).abs() <= bound).all())


# -- learned scales ------------------------------------------------------------------------------------------


def calls() -> dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """(arguments up to the output grid, the output grid), clipped in part"""
    generator = torch.Generator().manual_seed(2)
    x = leaf(edge(generator, (6, 12), BYTE))
    _, attention = attention_case("fqvit", "none", False, 2)
    norm_leaves, x_grid, layer = norm_case(False, "ibert")
    return {
        "unary": ((x, *BYTE, "gelu", "ibert"), grid(0.02, -100)),
        "softmax": ((x, *BYTE, "fqvit"), (torch.tensor(0.004), torch.tensor(0, dtype=torch.int32), 0, 120)),
        "attention": (attention, grid(0.006)),
        "layer_norm": ((norm_leaves[0], *x_grid, *layer), grid(0.01)),
    }


def real_of(name: str, args: tuple[Any, ...], to: tuple[Any, ...]) -> Tensor:
    """What the approximation gives before it is rounded onto the grid."""
    ops = torch.ops.pyquant
    x = args[0].detach()
    if name == "unary":
        found: Tensor = ops.unary_tangent(*args, *to)[0]
    elif name == "softmax":
        found = ops.softmax_probabilities(*args)
    elif name == "attention":
        value = args[10].detach().repeat_interleave(2, dim=1)
        found = ops.attention_probabilities(*args[:10], *args[11:]) @ value
    else:
        mean, inverse = ops.layer_norm_statistics(*args[:5], *args[7:])
        found = (x - mean) * inverse * args[5].detach() + args[6].detach()
    return found


@pytest.mark.parametrize("name", calls())
def test_learned_scales(name: str) -> None:
    """LSQ with the approximation in the place of the float function: q - v within half a step, but for what
    the last roundings of the integers add."""
    args, to = calls()[name]
    scale = to[0].clone().requires_grad_()
    low, high = to[2] - int(to[1]), to[3] - int(to[1])
    y = op(name)(*args, scale, *to[1:], True)
    g = upstream(y.shape)
    got_scale, got_x = torch.autograd.grad(y, (scale, args[0]), g)
    v = real_of(name, args, to).double() / float(to[0])
    q = (y.detach().double() / float(to[0])).round()
    within = (v > low) & (v < high)
    assert within.any()
    assert not within.all()
    assert float((q - v)[within].abs().max()) <= 0.6
    slope = (torch.where(within, q - v, v.clamp(low, high)) * g.double()).sum()
    want = float(slope) / math.sqrt(y.numel() / y.shape[0] * max(-low, high))
    # v is computed in float32
    assert float(got_scale) == pytest.approx(want, rel=1e-4, abs=1e-4 * float(g.abs().sum()))
    assert bool(torch.isfinite(got_x).all())
    assert got_x.any()


# -- citizens of torch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", calls())
def test_opcheck(name: str) -> None:
    args, to = calls()[name]
    results = torch.library.opcheck(op(name), (*args, *to, True))
    assert set(results.values()) == {"SUCCESS"}


def detached(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.detach() if torch.is_tensor(a) else a for a in args)


@pytest.mark.parametrize(
    "name", ["unary_tangent", "softmax_probabilities", "attention_probabilities", "layer_norm_statistics"]
)
def test_opcheck_of_the_parts(name: str) -> None:
    made = {key: detached(args) for key, (args, _) in calls().items()}
    arguments = {
        "unary_tangent": (*made["unary"], *grid(0.02, -100)),
        "softmax_probabilities": made["softmax"],
        "attention_probabilities": (*made["attention"][:10], *made["attention"][11:]),
        "layer_norm_statistics": (*made["layer_norm"][:5], *made["layer_norm"][7:]),
    }
    results = torch.library.opcheck(op(name), arguments[name])
    assert set(results.values()) == {"SUCCESS"}


@pytest.mark.parametrize("name", calls())
def test_results_and_default_gradients_are_what_they_were(name: str) -> None:
    """The flag changes no forward bit; without it the op does as before."""
    args, to = calls()[name]
    assert torch.equal(op(name)(*args, *to, True), op(name)(*args, *to))
    plain, off = (
        torch.autograd.grad(op(name)(*args, *to, *flag).sum(), args[0])[0] for flag in ((), (False,))
    )
    assert torch.equal(plain, off)


@pytest.mark.parametrize("shape", [(0, 4), (3, 1)])
def test_small_shapes(shape: tuple[int, ...]) -> None:
    x = leaf(torch.zeros(shape))
    for name, args in (
        ("unary", ("gelu", "ibert")),
        ("softmax", ("ibert",)),
        ("layer_norm", (None, None, 1e-5, False, "ibert", None)),
    ):
        y = op(name)(x, *BYTE, *args, *BYTE, True)
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert grad.shape == shape
        assert bool(torch.isfinite(grad).all())
    q, k = leaf(torch.zeros(1, 1, 2, 4)), leaf(torch.zeros(1, 1, 0, 4))
    y = op("attention")(q, *BYTE, k, *BYTE, k, *BYTE, None, False, 1.0, "table16", *BYTE, True)
    assert not torch.autograd.grad(y.sum(), q)[0].any()


def test_autocast_and_gelu() -> None:
    """The parts run in float32 wherever backward is called."""
    x = leaf(edge(torch.Generator().manual_seed(0), (5, 8), BYTE))
    found = []
    for enabled in (False, True):
        y = op("softmax")(x, *BYTE, "fqvit", *FINE, True)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(torch.autograd.grad(F.mse_loss(y, torch.zeros_like(y)), x)[0])
    assert torch.equal(*found)
