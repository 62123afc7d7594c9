"""``pyquant::fake_quantize``, learned and stochastic: uniform fake-quantization (``fake.h``).

``scale`` is a scalar, or with `axis` one value a channel; so is ``zero_point``, int32 or, where it is
learned, float32 (rounded half to even and brought into the range inside the op). ``grad_factor`` scales the
gradient of ``scale`` alone. A dense `x` of any order of axes runs as it lies in memory, and results lie as
`x` does; other strides cost one copy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyquant.qparams import SCALE_MAX, SCALE_MIN

from .fake_layout import Layout, find_layout
from .grid import check_float
from .lanes import halve, round_to_integer, sum_columns, sum_runs
from .library import autocast_off, define

__all__ = ["pack", "straight_backward", "straight_setup"]

_SHORT = 16


class _Steps(NamedTuple):
    """Operands as [outer, channels, inner], in the order of memory."""

    x: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    @property
    def v(self) -> Tensor:
        """Of a step beyond the range at most."""
        return torch.clamp(self.x / self.scale, self.low - 1.0, self.high + 1.0)


def _check(
    op: str, x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, quant_min: int, quant_max: int
) -> Layout:
    check_float(op, "x", x)
    layout = find_layout(op, x, axis)
    shape = () if axis is None else (x.shape[layout.axis],)
    for name, value, types in (
        ("scale", scale, (torch.float32,)),
        ("zero_point", zero_point, (torch.int32, torch.float32)),
    ):
        alone = name == "zero_point" and value.dim() == 0
        if value.dtype not in types or not (alone or tuple(value.shape) == shape):
            raise RuntimeError(
                f"{op}: expected {name} of shape {shape} and dtype {types[0]}, "
                f"got {tuple(value.shape)} of {value.dtype}"
            )
        if value.device != x.device:
            raise RuntimeError(f"{op}: expected {name} on {x.device}, got {value.device}")
    if not -32768 <= quant_min <= quant_max <= 32767:
        raise RuntimeError(
            f"{op}: expected -32768 <= quant_min <= quant_max <= 32767, got {quant_min} and {quant_max}"
        )
    return layout


def _steps(
    op: str, layout: Layout, x: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int
) -> _Steps:
    """The operands, their values checked."""
    zero = zero_point
    if zero.is_floating_point():
        zero = torch.round(zero).clamp(quant_min, quant_max)
    good = torch.stack(
        [
            ((scale >= SCALE_MIN) & (scale <= SCALE_MAX)).all(),
            ((zero >= quant_min) & (zero <= quant_max)).all(),
            ~torch.isnan(x).any(),
        ]
    ).tolist()
    if not good[0]:
        raise RuntimeError(f"{op}: expected every scale in [2^-100, 2^100], got {scale.tolist()}")
    if not good[1]:
        raise RuntimeError(
            f"{op}: expected quant_min <= zero_point <= quant_max, "
            f"got {quant_min}, {zero.tolist()}, {quant_max}"
        )
    if not good[2]:
        raise RuntimeError(f"{op}: x holds NaN")
    zero = zero.to(torch.float32)
    shape = (1, -1, 1)
    low, high = (quant_min - zero).reshape(shape), (quant_max - zero).reshape(shape)
    return _Steps(layout.to_memory(x), scale.reshape(shape), low, high)


def pack(bits: Tensor) -> Tensor:
    """Bit i in bit i % 8 of byte i / 8."""
    missing = -bits.numel() % 8
    flat = torch.nn.functional.pad(bits.reshape(-1).to(torch.uint8), (0, missing)).reshape(-1, 8)
    weights = 2 ** torch.arange(8, device=bits.device)
    return (flat * weights).sum(dim=1).to(torch.uint8)


def _unpack(mask: Tensor, count: int) -> Tensor:
    bits = (mask.reshape(-1, 1) >> torch.arange(8, dtype=torch.uint8, device=mask.device)) & 1
    return bits.reshape(-1)[:count].bool()


def body(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, quant_min: int, quant_max: int
) -> tuple[Tensor, Tensor]:
    op = "fake_quantize"
    layout = _check(op, x, scale, zero_point, axis, quant_min, quant_max)
    s = _steps(op, layout, x, scale, zero_point, quant_min, quant_max)
    k = round_to_integer(s.v)
    kept = torch.clamp(k, s.low, s.high)
    return layout.from_memory(kept * s.scale), pack(kept == k)


def _fake(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    layout = _check("fake_quantize", x, *rest)
    return layout.empty_like(x), x.new_empty(((x.numel() + 7) // 8,), dtype=torch.uint8)


def straight_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """Keep the mask, the second result, for `straight_backward`."""
    ctx.layout = find_layout("fake_quantize", inputs[0], None)
    ctx.others = (None,) * (len(inputs) - 1)
    ctx.save_for_backward(output[1])


def straight_backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    """The gradient of x alone: that of the result inside the mask, else 0."""
    (mask,) = ctx.saved_tensors
    with autocast_off(grad):
        in_order = ctx.layout.to_memory(grad)
        masked = torch.ops.pyquant.fake_quantize_backward(in_order, mask)
    return ctx.layout.from_memory(masked), *ctx.others


define(
    "fake_quantize(Tensor x, Tensor scale, Tensor zero_point, int? axis, int quant_min, int quant_max) "
    "-> (Tensor, Tensor)",
    body,
    _fake,
    straight_setup,
    straight_backward,
)


def _check_mask(grad: Tensor, mask: Tensor) -> None:
    op = "fake_quantize_backward"
    check_float(op, "grad", grad)
    count = (grad.numel() + 7) // 8
    if mask.dtype != torch.uint8 or tuple(mask.shape) != (count,) or mask.device != grad.device:
        raise RuntimeError(
            f"{op}: expected mask ({count},) of torch.uint8 on {grad.device}, "
            f"got {tuple(mask.shape)} of {mask.dtype} on {mask.device}"
        )


def apply_body(grad: Tensor, mask: Tensor) -> Tensor:
    _check_mask(grad, mask)
    return torch.where(_unpack(mask, grad.numel()).reshape(grad.shape), grad, 0.0).contiguous()


def _apply_fake(grad: Tensor, mask: Tensor) -> Tensor:
    _check_mask(grad, mask)
    return grad.new_empty(grad.shape)


def _apply_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _apply_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return torch.ops.pyquant.fake_quantize_backward(grad, ctx.saved_tensors[0]), None


define(
    "fake_quantize_backward(Tensor grad, Tensor mask) -> Tensor",
    apply_body,
    _apply_fake,
    _apply_setup,
    _apply_backward,
)


def learned_body(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None,
    quant_min: int,
    quant_max: int,
    grad_factor: float,
) -> Tensor:
    op = "fake_quantize_learned"
    layout = _check(op, x, scale, zero_point, axis, quant_min, quant_max)
    s = _steps(op, layout, x, scale, zero_point, quant_min, quant_max)
    return layout.from_memory(torch.clamp(round_to_integer(s.v), s.low, s.high) * s.scale)


def _learned_fake(x: Tensor, *rest: Any) -> Tensor:
    return _check("fake_quantize_learned", x, *rest[:-1]).empty_like(x)


def _learned_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, scale, zero_point, *ctx.rest = inputs
    ctx.save_for_backward(x, scale, zero_point)


def _learned_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    with autocast_off(grad):
        found = torch.ops.pyquant.fake_quantize_learned_backward(grad, *ctx.saved_tensors, *ctx.rest)
    wanted = zip(found, ctx.needs_input_grad, strict=False)
    return (*(d if asked else None for d, asked in wanted), None, None, None, None)


define(
    "fake_quantize_learned(Tensor x, Tensor scale, Tensor zero_point, int? axis, int quant_min, "
    "int quant_max, float grad_factor) -> Tensor",
    learned_body,
    _learned_fake,
    _learned_setup,
    _learned_backward,
)


def _check_gradient(grad: Tensor, x: Tensor, *rest: Any) -> Layout:
    op = "fake_quantize_learned_backward"
    layout = _check(op, x, *rest)
    check_float(op, "grad", grad, x)
    if grad.shape != x.shape:
        raise RuntimeError(f"{op}: expected grad of shape {tuple(x.shape)}, got {tuple(grad.shape)}")
    return layout


def _sum_channels(terms: Tensor) -> Tensor:
    """[outer, channels, inner] to float64 [channels], in the order that ``fake.h`` defines."""
    if terms.numel() == 0:
        return terms.new_zeros(terms.shape[1], dtype=torch.float64)
    if terms.shape[1] == 1:
        return sum_runs(terms.reshape(-1)).reshape(1)
    if terms.shape[2] >= _SHORT:
        return halve(sum_runs(terms.permute(2, 0, 1)))
    return halve(sum_columns(terms).T)


def learned_backward_body(
    grad: Tensor,
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None,
    quant_min: int,
    quant_max: int,
    grad_factor: float,
) -> tuple[Tensor, Tensor, Tensor]:
    layout = _check_gradient(grad, x, scale, zero_point, axis, quant_min, quant_max)
    op = "fake_quantize_learned_backward"
    s = _steps(op, layout, x, scale, zero_point, quant_min, quant_max)
    g, v = layout.to_memory(grad), s.x / s.scale
    inside = torch.logical_and(v > s.low, v < s.high)
    steps = round_to_integer(torch.clamp(v, s.low, s.high)) - torch.where(inside, v, 0.0)
    ds = _sum_channels(g * steps)
    dz = 0.0 - scale.double().reshape(-1) * _sum_channels(torch.where(inside, 0.0, g))
    if zero_point.dim() < scale.dim():
        dz = halve(dz) if dz.numel() > 0 else dz.new_zeros(())
    d_scale = (grad_factor * ds).to(torch.float32).reshape(scale.shape)
    d_zero = dz.to(torch.float32).reshape(zero_point.shape)
    return layout.from_memory(torch.where(inside, g, 0.0)), d_scale, d_zero


def _learned_backward_fake(
    grad: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    layout = _check_gradient(grad, x, scale, zero_point, *rest[:-1])
    return layout.empty_like(x), x.new_empty(scale.shape), x.new_empty(zero_point.shape)


define(
    "fake_quantize_learned_backward(Tensor grad, Tensor x, Tensor scale, Tensor zero_point, int? axis, "
    "int quant_min, int quant_max, float grad_factor) -> (Tensor, Tensor, Tensor)",
    learned_backward_body,
    _learned_backward_fake,
)


def _philox(count: int, seed: int, device: torch.device) -> Tensor:
    """Words of Philox4x32-10 in int64, [count]: counter i / 4, word i % 4."""
    low = 0xFFFFFFFF
    index = torch.arange((count + 3) // 4, device=device)
    c = [index & low, index >> 32, torch.zeros_like(index), torch.zeros_like(index)]
    k0, k1 = seed & low, seed >> 32 & low
    for _ in range(10):
        even, odd = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57  # modulo 2^64: the bits are right
        c = [(odd >> 32 & low) ^ c[1] ^ k0, odd & low, (even >> 32 & low) ^ c[3] ^ k1, even & low]
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return torch.stack(c, dim=1).reshape(-1)[:count]


def stochastic_body(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None,
    quant_min: int,
    quant_max: int,
    seed: int,
) -> Tensor:
    op = "fake_quantize_stochastic"
    x = x.contiguous()  # elements are counted in the order of indices
    layout = _check(op, x, scale, zero_point, axis, quant_min, quant_max)
    s = _steps(op, layout, x, scale, zero_point, quant_min, quant_max)
    u = (_philox(x.numel(), seed, x.device) >> 8).to(torch.float32) * 2.0**-24
    k = torch.floor(s.v + u.reshape(s.x.shape)) + 0.0
    return layout.from_memory(torch.clamp(k, s.low, s.high) * s.scale)


def _stochastic_fake(x: Tensor, *rest: Any) -> Tensor:
    _check("fake_quantize_stochastic", x, *rest[:-1])
    return x.new_empty(x.shape)


def _stochastic_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, scale, zero_point, *ctx.grid = inputs[:6]
    ctx.save_for_backward(x, scale, zero_point)


def _stochastic_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Straight-through where the nearest integer lies in the range, as for `fake_quantize`."""
    x, scale, zero_point = ctx.saved_tensors
    with autocast_off(grad):
        layout = find_layout("fake_quantize", x, None)
        _, mask = torch.ops.pyquant.fake_quantize(x, scale, zero_point, *ctx.grid)
        masked = torch.ops.pyquant.fake_quantize_backward(layout.to_memory(grad), mask)
    return layout.from_memory(masked), None, None, None, None, None, None


define(
    "fake_quantize_stochastic(Tensor x, Tensor scale, Tensor zero_point, int? axis, int quant_min, "
    "int quant_max, int seed) -> Tensor",
    stochastic_body,
    _stochastic_fake,
    _stochastic_setup,
    _stochastic_backward,
)
