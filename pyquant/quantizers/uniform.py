"""Quantizers of equal steps, their range that of the data. All are deployable."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Quantizer, View, register_quantizer

__all__ = ["Affine", "Pow2", "Symmetric", "fake_uniform", "power_of_two_above"]


class _FakeUniform(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, low: Tensor, high: Tensor) -> Tensor:
        rounded = torch.round(x / scale)
        ctx.save_for_backward(torch.logical_and(rounded >= low, rounded <= high))
        return (rounded.clamp(low, high) + 0.0) * scale  # + 0: no negative zero

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (inside,) = ctx.saved_tensors
        return torch.where(inside, grads[0], 0.0), None, None, None, None


def fake_uniform(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, quant_min: int, quant_max: int
) -> Tensor:
    """``(clamp(rne(x / scale) + zero_point, quant_min, quant_max) - zero_point) * scale`` (fake.h).

    The gradient goes straight through where the rounded value is on the grid, and is 0 elsewhere.

    Parameters
    ----------
    x : Tensor
        float32, for which the fused op runs, or another float dtype, in plain torch.
    scale, zero_point : Tensor
        float32, one element, or one for each entry of `axis`; the zero point holds integers.
    """
    if x.dtype == torch.float32:
        one = () if axis is None else (-1,)
        offset = zero_point.to(torch.int32).reshape(one)
        y: Tensor
        y, _ = torch.ops.pyquant.fake_quantize(x, scale.reshape(one), offset, axis, quant_min, quant_max)
        return y
    shape = [1] * x.dim()
    if axis is not None:
        shape[axis] = -1
    scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    y = _FakeUniform.apply(x, scale, zero_point, quant_min - zero_point, quant_max - zero_point)  # type: ignore[no-untyped-call]
    return y


def power_of_two_above(value: Tensor) -> Tensor:
    """The least power of two ``>= value > 0``, without a logarithm."""
    mantissa, exponent = torch.frexp(value)
    return torch.ldexp(torch.ones_like(value), torch.where(mantissa == 0.5, exponent - 1, exponent))


def _as_scale(step: Tensor) -> Tensor:
    """A step that quantize.h takes; 1 where the data are all 0."""
    return torch.where(step > 0, step, 1.0).clamp(2.0**-100, 2.0**100).float()


class _Uniform(Quantizer):
    deployable = True
    follows_range = True
    state = ("scale", "zero_point")

    def begin(self, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int) -> dict[str, Tensor]:
        """The grid itself."""
        return {"scale": scale, "zero_point": zero_point.float()}

    def grid(self, parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return parameters["scale"], parameters["zero_point"].to(torch.int32)

    def simulate(self, view: View, parameters: dict[str, Tensor]) -> Tensor:
        scale, zero_point = parameters["scale"], parameters["zero_point"]
        return fake_uniform(view.x, scale, zero_point, view.axis, self.quant_min, self.quant_max)


@register_quantizer("affine")
class Affine(_Uniform):
    """From the least to the greatest value, 0 among them; every code used.

    References
    ----------
    Jacob et al., arXiv 1712.05877, section 3: the range is nudged so that 0 is an integer.
    """

    def __init__(
        self, bits: int = 8, axis: int | None = None, group_size: int = 0, dynamic: bool = False
    ) -> None:
        super().__init__(bits, axis, group_size, dynamic)
        self.quant_min, self.quant_max = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def choose(self, view: View) -> dict[str, Tensor]:
        low = view.reduce(torch.amin).clamp(max=0).double()
        high = view.reduce(torch.amax).clamp(min=0).double()
        scale = _as_scale((high - low) / (self.quant_max - self.quant_min))
        zero_point = torch.round(self.quant_min - low / scale.double())
        return {"scale": scale, "zero_point": zero_point.clamp(self.quant_min, self.quant_max).float()}


class _Centred(_Uniform):
    """Zero point 0, and as many codes below it as above."""

    centred = True

    def __init__(
        self, bits: int = 8, axis: int | None = None, group_size: int = 0, dynamic: bool = False
    ) -> None:
        super().__init__(bits, axis, group_size, dynamic)
        self.quant_max = 2 ** (bits - 1) - 1
        self.quant_min = -self.quant_max

    def step(self, view: View) -> Tensor:
        most: Tensor = view.reduce(torch.amax).abs().maximum(view.reduce(torch.amin).abs())
        step: Tensor = most.double() / self.quant_max
        return step

    def choose(self, view: View) -> dict[str, Tensor]:
        scale = _as_scale(self.step(view))
        return {"scale": scale, "zero_point": torch.zeros_like(scale)}


@register_quantizer("symmetric")
class Symmetric(_Centred):
    """From the greatest magnitude, on both sides of 0."""


@register_quantizer("pow2")
class Pow2(_Centred):
    """`symmetric` with the next power of two for a scale, so that scaling is a shift."""

    def step(self, view: View) -> Tensor:
        step = super().step(view)
        return torch.where(step > 0, power_of_two_above(step), 0.0)

    def begin(self, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int) -> dict[str, Tensor]:
        return super().begin(power_of_two_above(scale), zero_point, quant_min, quant_max)
