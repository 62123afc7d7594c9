"""Gradients of learned quantizers: the papers' equations in NumPy, and finite differences of the
surrogates in float64. A surrogate holds what rounding did fixed, so that it is smooth at the point."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyquant.quantizers import Quantizer, make_quantizer
from pyquant.quantizers.learned import DSQ

Array = NDArray[np.float64]
STEP = 1e-6


def inputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(400, generator=g), torch.randn(400, generator=g)


def gradients(quantizer: Quantizer, x: Tensor, g: Tensor) -> tuple[Array, list[float]]:
    leaf = x.clone().requires_grad_()
    quantizer.zero_grad()
    quantizer(leaf).backward(g)
    assert leaf.grad is not None
    return leaf.grad.double().numpy(), [float(p.grad) for p in quantizer.parameters() if p.grad is not None]


def with_parameters(text: str, *values: float) -> Quantizer:
    quantizer = make_quantizer(text)
    quantizer.initialize(torch.ones(3))
    for parameter, value in zip(quantizer.parameters(), values, strict=True):
        parameter.data = torch.tensor(value)
    return quantizer


def difference(f: Callable[[float], Array], at: float) -> Array:
    return (f(at + STEP) - f(at - STEP)) / (2 * STEP)


def rounded_offset(v: Array, low: int, high: int) -> Array:
    """What rounding adds inside the grid."""
    return np.where((v > low) & (v < high), np.rint(v) - v, 0.0)


@pytest.mark.parametrize(
    ("text", "low", "high"), [("lsq(bits=3)", -4, 3), ("lsq(bits=3,signed=false)", 0, 7)]
)
def test_lsq(text: str, low: int, high: int) -> None:
    x, g = inputs()
    scale = 0.37
    quantizer = with_parameters(text, scale)
    dx, (ds,) = gradients(quantizer, x, g)
    xs, gs, s = x.double().numpy(), g.double().numpy(), float(np.float32(scale))
    v = (x.numpy() / np.float32(scale)).astype(np.float64)
    factor = 1 / math.sqrt(len(xs) * high)
    # eq. 3
    d = np.where(v <= low, low, np.where(v >= high, high, np.rint(v) - v))
    assert ds == pytest.approx(factor * (gs * d).sum(), rel=1e-4)
    assert np.array_equal(dx, np.where((v > low) & (v < high), gs, 0))
    offset = rounded_offset(v, low, high)

    def surrogate(scale: float) -> Array:
        return (np.clip(xs / scale, low, high) + offset) * scale

    assert ds == pytest.approx(factor * (gs * difference(surrogate, s)).sum(), rel=1e-4)
    y = quantizer(x).detach().numpy()
    assert np.array_equal(y, (np.clip(np.rint(v), low, high) * np.float32(scale)).astype(np.float32))


def test_lsq_begins_as_the_paper_says() -> None:
    x, _ = inputs()
    quantizer = make_quantizer("lsq(bits=4)")
    quantizer.initialize(x)
    assert float(quantizer.scale.detach()) == pytest.approx(
        2 * float(x.abs().mean()) / math.sqrt(7), rel=1e-6
    )


def test_lsq_plus() -> None:
    x, g = inputs(1)
    scale, offset, low, high = 0.41, 0.13, 0, 7
    dx, (ds, do) = gradients(with_parameters("lsq_plus(bits=3,signed=false)", scale, offset), x, g)
    xs, gs = x.double().numpy(), g.double().numpy()
    v = ((x.numpy() - np.float32(offset)) / np.float32(scale)).astype(np.float64)
    factor, inside = 1 / math.sqrt(len(xs) * high), (v > low) & (v < high)
    # eq. 4 and 6
    d = np.where(v <= low, low, np.where(v >= high, high, np.rint(v) - v))
    assert ds == pytest.approx(factor * (gs * d).sum(), rel=1e-4)
    assert do == pytest.approx(factor * gs[~inside].sum(), rel=1e-4)
    assert np.array_equal(dx, np.where(inside, gs, 0))
    added = rounded_offset(v, low, high)

    def surrogate(s: float, b: float) -> Array:
        return (np.clip((xs - b) / s, low, high) + added) * s + b

    fd_scale = difference(lambda s: surrogate(s, offset), scale)
    fd_offset = difference(lambda b: surrogate(scale, b), offset)
    assert ds == pytest.approx(factor * (gs * fd_scale).sum(), rel=1e-4)
    assert do == pytest.approx(factor * (gs * fd_offset).sum(), rel=1e-4)


def test_pact() -> None:
    x, g = inputs(2)
    clip = 1.7
    dx, (dclip,) = gradients(with_parameters("pact(bits=4)", clip), x, g)
    xs, gs = x.double().numpy(), g.double().numpy()
    # eq. 3: 1 from the clip on, 0 below
    assert dclip == pytest.approx(gs[xs >= clip].sum(), rel=1e-5)
    assert np.array_equal(dx, np.where((xs >= 0) & (xs < clip), gs, 0))
    fd = difference(lambda a: np.clip(xs, 0, a), clip)
    assert dclip == pytest.approx((gs * fd).sum(), rel=1e-5)
    y = with_parameters("pact(bits=2)", 3.0)(torch.tensor([-1.0, 0.5, 1.5, 2.6, 9.0])).tolist()
    assert y == [0.0, 0.0, 2.0, 3.0, 3.0]


def test_tqt() -> None:
    x, g = inputs(3)
    t, low, high = 0.3, -4, 3  # the scale is 2^ceil(0.3) / 4
    dx, (dt,) = gradients(with_parameters("tqt(bits=3)", t), x, g)
    xs, gs = x.double().numpy(), g.double().numpy()
    scale = 0.5
    v, n = xs / scale, np.rint(xs / scale)
    inside = (n >= low) & (n <= high)
    # eq. 7
    d = scale * math.log(2) * np.where(inside, n - v, np.where(n < low, low, high))
    assert dt == pytest.approx((gs * d).sum(), rel=1e-4)
    assert np.array_equal(dx, np.where(inside, gs, 0))
    added = np.where(inside, n - v, 0)

    def surrogate(log2_t: float) -> Array:  # ceil held fixed as well
        s = scale * 2 ** (log2_t - t)
        return (np.where(inside, xs / s, np.where(n < low, low, high)) + added) * s

    assert dt == pytest.approx((gs * difference(surrogate, t)).sum(), rel=1e-4)


def test_tqt_scale_is_a_power_of_two() -> None:
    for most, scale in ((1.0, 1 / 8), (1.01, 2 / 8), (0.5, 0.5 / 8)):
        quantizer = make_quantizer("tqt(bits=4)")
        quantizer.initialize(torch.tensor([-most, most / 3]))
        steps = quantizer(torch.linspace(-2, 2, 999)).detach() / scale
        assert torch.equal(steps, steps.round())
        assert steps.unique().tolist() == list(range(-8, 8))


def test_dorefa() -> None:
    x, g = inputs(4)
    dx, _ = gradients(make_ready("dorefa(bits=3)", x), x, g)
    xs, gs = x.double().numpy(), g.double().numpy()

    def surrogate(w: Array) -> Array:
        return np.tanh(w) / np.abs(np.tanh(w)).max()

    def total(i: int) -> Callable[[float], Array]:
        def f(value: float) -> Array:
            moved = xs.copy()
            moved[i] = value
            return (gs * surrogate(moved)).sum()

        return f

    largest = int(np.abs(xs).argmax())  # the greatest tanh has its gradient too
    for i in (0, 7, 100, largest):
        assert dx[i] == pytest.approx(float(difference(total(i), xs[i])), rel=1e-3, abs=1e-6)
    y = make_ready("dorefa(bits=2)", x)(x)
    want = 2 * np.rint((surrogate(xs) / 2 + 0.5) * 3) / 3 - 1
    assert np.abs(y.numpy() - want).max() < 1e-6


def make_ready(text: str, x: Tensor) -> Quantizer:
    quantizer = make_quantizer(text)
    quantizer.initialize(x)
    return quantizer


def dsq_soft(x: Array, low: float, high: float, alpha: float, top: int) -> tuple[Array, Array]:
    """Eq. 3 to 7, written out."""
    step = (high - low) / top
    x = np.clip(x, low, high)
    cell = np.clip(np.floor((x - low) / step), 0, top - 1)
    k = math.log(2 / alpha - 1) / step
    middle = low + (cell + 0.5) * step
    phi = np.tanh(k * (x - middle)) / np.tanh(0.5 * k * step)
    return low + step * (cell + (phi + 1) / 2), low + step * (cell + (np.where(phi >= 0, 1, -1) + 1) / 2)


def test_dsq() -> None:
    x, g = inputs(5)
    low, high, alpha, top = -1.3, 1.9, 0.2, 7
    quantizer = with_parameters("dsq(bits=3,alpha=0.2)", low, high)
    dx, (dl, dh) = gradients(quantizer, x, g)
    xs, gs = x.double().numpy(), g.double().numpy()
    assert np.abs(quantizer(x).detach().numpy() - dsq_soft(xs, low, high, alpha, top)[1]).max() < 1e-5
    fd_x = (dsq_soft(xs + STEP, low, high, alpha, top)[0] - dsq_soft(xs - STEP, low, high, alpha, top)[0]) / (
        2 * STEP
    )
    assert np.abs(dx - gs * fd_x).max() < 1e-4
    fd_low = difference(lambda a: dsq_soft(xs, a, high, alpha, top)[0], low)
    fd_high = difference(lambda a: dsq_soft(xs, low, a, alpha, top)[0], high)
    assert dl == pytest.approx((gs * fd_low).sum(), rel=1e-4)
    assert dh == pytest.approx((gs * fd_high).sum(), rel=1e-4)


def test_dsq_in_float64_is_its_own_derivative() -> None:
    quantizer = make_quantizer("dsq(bits=3)")
    assert isinstance(quantizer, DSQ)
    x = inputs(6)[0].double().requires_grad_()
    ends = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (-1.1, 2.3)]
    assert torch.autograd.gradcheck(lambda *args: quantizer.soft_and_hard(*args)[0], (x, *ends))


@pytest.mark.parametrize("text", ["lsq(bits=4,axis=0)", "lsq_plus(bits=4,axis=0)", "tqt(bits=4,axis=0)"])
def test_a_channel_learns_from_its_own_elements(text: str) -> None:
    x, g = (part.reshape(4, 100) for part in inputs(7))
    whole = make_ready(text, x)
    whole(x).backward(g)
    for c in range(4):
        one = make_ready(text.replace(",axis=0", ""), x[c])
        one(x[c]).backward(g[c])
        for all_, own in zip(whole.parameters(), one.parameters(), strict=True):
            assert all_.grad is not None
            assert own.grad is not None
            assert float(all_.grad[c]) == pytest.approx(float(own.grad), rel=1e-5, abs=1e-7)
