"""Quantizers whose parameters training changes, with the gradients that their papers give.

| name | learns | deployable |
|---|---|---|
| `lsq` | scale | yes: symmetric steps, zero is a code |
| `lsq_plus` | scale, offset | no: the offset is any float, so zero need not be a code |
| `pact` | clip | yes: zero is the least code |
| `tqt` | log2 of the threshold | yes: the scale is a power of two |
| `dorefa` | nothing (a transform of weights) | no: 2**bits levels on both sides of zero, and none there |
| `dsq` | both ends | no: they are any floats, so zero need not be a code |

Gradients are sums over the elements of a scale. Those of `lsq` on float32 have the same bits for any number
of threads (fake.h); the others are in torch's order.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .base import Quantizer, View, register_quantizer

__all__ = ["DSQ", "LSQ", "PACT", "TQT", "DoReFa", "LSQPlus"]

_LEAST = 2.0**-100


def _positive(value: Tensor) -> Tensor:
    return torch.where(value > 0, value, 1.0).clamp(_LEAST, 2.0**100)


def _zero(scale: Tensor) -> Tensor:
    return torch.zeros(scale.shape, dtype=torch.int32, device=scale.device)


class _Steps(torch.autograd.Function):
    """``rne(clip(v, low, high)) * scale + offset``, ``v = (x - offset) / scale``: LSQ and LSQ+.

    dx = g inside; dscale = sum g (rne(v) - v) inside, low or high outside; doffset = sum g outside.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, offset: Tensor, low: int, high: int, factor: float
    ) -> Tensor:
        v = (x - offset) / scale
        ctx.save_for_backward(v, scale, offset)
        ctx.low, ctx.high, ctx.factor = low, high, factor
        return (torch.round(v.clamp(low, high)) + 0.0) * scale + offset

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        v, scale, offset = ctx.saved_tensors
        g: Tensor = grads[0]
        inside = torch.logical_and(v > ctx.low, v < ctx.high)
        d = torch.where(inside, torch.round(v) - v, v.clamp(ctx.low, ctx.high))
        dx = torch.where(inside, g, 0.0)
        dscale = ctx.factor * (g * d).sum_to_size(scale.shape)
        return dx, dscale, ctx.factor * (g - dx).sum_to_size(offset.shape), None, None, None


class _Replace(torch.autograd.Function):
    """The value of `hard` with the gradient of `soft`."""

    @staticmethod
    def forward(ctx: Any, soft: Tensor, hard: Tensor) -> Tensor:
        return hard.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        return grads[0], None


def _replace(soft: Tensor, hard: Tensor) -> Tensor:
    y: Tensor = _Replace.apply(soft, hard.detach())  # type: ignore[no-untyped-call]
    return y


def _steps(x: Tensor, scale: Tensor, offset: Tensor, low: int, high: int, factor: float) -> Tensor:
    y: Tensor = _Steps.apply(x, scale, offset, low, high, factor)  # type: ignore[no-untyped-call]
    return y


class _Learned(Quantizer):
    """`signed`: codes on both sides of zero."""

    state = ()

    def __init__(
        self, bits: int = 8, axis: int | None = None, group_size: int = 0, signed: bool = True
    ) -> None:
        super().__init__(bits, axis, group_size)
        self.signed = signed
        if signed:
            self.quant_min, self.quant_max = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def grad_factor(self, view: View, scales: int) -> float:
        """``1 / sqrt(N quant_max)``, N elements a scale (LSQ, section 2.2)."""
        return 1.0 / math.sqrt(max(1, view.x.numel() // max(1, scales)) * self.quant_max)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.signed else ", signed=False")


@register_quantizer("lsq")
class LSQ(_Learned):
    """Learned step size: ``scale`` begins at ``2 mean|x| / sqrt(quant_max)``.

    References
    ----------
    Esser et al., arXiv 1902.08153, eq. 1 to 5; deployable.
    """

    deployable = True
    follows_range = True
    learned = ("scale",)

    @property
    def centred(self) -> bool:  # type: ignore[override]
        """Unless codes are on one side."""
        return self.signed

    def begin(self, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int) -> dict[str, Tensor]:
        """The greatest code at the end of the range."""
        high = (quant_max - zero_point) * scale
        most = torch.maximum(high, (zero_point - quant_min) * scale) if self.signed else high
        return {"scale": _positive(most / self.quant_max)}

    def grid(self, parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return parameters["scale"], _zero(parameters["scale"])

    def choose(self, view: View) -> dict[str, Tensor]:
        size = View(view.x.abs().double(), view.axis, view.shape).reduce(torch.mean)
        return {"scale": _positive(2 * size / math.sqrt(self.quant_max)).float()}

    def simulate(self, view: View, parameters: dict[str, Tensor]) -> Tensor:
        scale = view.expand(parameters["scale"])
        factor = self.grad_factor(view, scale.numel())
        low, high = self.quant_min, self.quant_max
        if view.x.dtype == torch.float32:  # the same in one pass forward and one back
            one = scale.reshape(() if view.axis is None else (-1,))
            zero_point = torch.zeros((), dtype=torch.int32, device=scale.device)
            y: Tensor = torch.ops.pyquant.fake_quantize_learned(
                view.x, one, zero_point, view.axis, low, high, factor
            )
            return y
        return _steps(view.x, scale, torch.zeros((), device=scale.device), low, high, factor)


@register_quantizer("lsq_plus")
class LSQPlus(_Learned):
    """Learned step size and offset; both begin at the least and the greatest value.

    Notes
    -----
    The paper begins by minimizing the squared error over both; the ends of the data are what that
    search starts from. Not deployable: `offset` need not be a multiple of `scale`.

    References
    ----------
    Bhalgat et al., arXiv 2004.09576, eq. 3 to 6.
    """

    deployable = False
    follows_range = True
    learned = ("scale", "offset")

    def sizes(self) -> dict[str, float]:
        """The offset moves by shares of a step."""
        size = float(self.scale.detach().double().mean())
        return {"scale": size, "offset": size}

    def choose(self, view: View) -> dict[str, Tensor]:
        low, high = view.reduce(torch.amin), view.reduce(torch.amax)
        scale = _positive((high - low) / (self.quant_max - self.quant_min))
        return {"scale": scale, "offset": low - self.quant_min * scale}

    def simulate(self, view: View, parameters: dict[str, Tensor]) -> Tensor:
        scale, offset = (view.expand(parameters[part]) for part in self.learned)
        factor = self.grad_factor(view, scale.numel())
        return _steps(view.x, scale, offset, self.quant_min, self.quant_max, factor)


class _Pact(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, clip: Tensor, top: int) -> Tensor:
        ctx.save_for_backward(x, clip)
        step = clip / top
        return torch.round(x.clamp(min=0).minimum(clip) / step).clamp(max=top) * step

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        x, clip = ctx.saved_tensors
        g: Tensor = grads[0]
        dx = torch.where(torch.logical_and(x >= 0, x < clip), g, 0.0)
        return dx, torch.where(x >= clip, g, 0.0).sum_to_size(clip.shape), None


@register_quantizer("pact")
class PACT(Quantizer):
    """A learned clip for what follows a ReLU: ``[0, clip]`` in ``2**bits - 1`` steps.

    Notes
    -----
    The paper begins with a large constant, 10, and decays it by a penalty; here `clip` begins at the
    greatest value of the data. Deployable: scale ``clip / (2**bits - 1)``, zero is the least code.

    References
    ----------
    Choi et al., arXiv 1805.06085, eq. 1 to 3.
    """

    deployable = True
    follows_range = True
    learned = ("clip",)
    state = ()

    def __init__(self, bits: int = 8, axis: int | None = None, group_size: int = 0) -> None:
        super().__init__(bits, axis, group_size)

    def choose(self, view: View) -> dict[str, Tensor]:
        return {"clip": _positive(view.reduce(torch.amax))}

    def grid(self, parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`clip` times the float32 nearest to ``1 / quant_max``: within a rounding of the division."""
        scale = parameters["clip"] * (1.0 / self.quant_max)
        return scale, _zero(scale)

    def simulate(self, view: View, parameters: dict[str, Tensor]) -> Tensor:
        y: Tensor = _Pact.apply(view.x, view.expand(parameters["clip"]), self.quant_max)  # type: ignore[no-untyped-call]
        return y


class _Tqt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, log2_threshold: Tensor, low: int, high: int) -> Tensor:
        scale = torch.ldexp(torch.ones_like(log2_threshold), torch.ceil(log2_threshold).int()) / (high + 1)
        v = x / scale
        ctx.save_for_backward(v, scale)
        ctx.low, ctx.high = low, high
        return (torch.round(v).clamp(low, high) + 0.0) * scale

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        v, scale = ctx.saved_tensors
        g: Tensor = grads[0]
        rounded = torch.round(v)
        inside = torch.logical_and(rounded >= ctx.low, rounded <= ctx.high)
        d = torch.where(inside, rounded - v, v.clamp(ctx.low, ctx.high)) * scale * math.log(2.0)
        return torch.where(inside, g, 0.0), (g * d).sum_to_size(scale.shape), None, None


@register_quantizer("tqt")
class TQT(Quantizer):
    """A learned threshold t, the scale being ``2**ceil(log2 t) / 2**(bits - 1)``.

    Notes
    -----
    `log2_threshold` begins at the greatest magnitude, as the paper does for weights that are not
    retrained (it takes 3 standard deviations or a divergence otherwise). Deployable.

    References
    ----------
    Jain et al., arXiv 1903.08066, eq. 4 to 8.
    """

    deployable = True
    follows_range = True
    centred = True
    learned = ("log2_threshold",)
    state = ()

    def __init__(self, bits: int = 8, axis: int | None = None, group_size: int = 0) -> None:
        super().__init__(bits, axis, group_size)
        self.quant_min, self.quant_max = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def choose(self, view: View) -> dict[str, Tensor]:
        most = view.reduce(torch.amax).abs().maximum(view.reduce(torch.amin).abs())
        return {"log2_threshold": torch.log2(_positive(most))}

    def grid(self, parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The scale from the bits of its exponent; NaN, which has none, stays NaN."""
        t = parameters["log2_threshold"]
        exponent = torch.ceil(torch.nan_to_num(t)).clamp(-118, 127 + self.bits - 1).int() - (self.bits - 1)
        scale = ((exponent + 127) << 23).view(torch.float32)
        return torch.where(torch.isnan(t), t, scale), _zero(t)

    def sizes(self) -> dict[str, float]:
        """A logarithm moves by shares of the threshold as it is."""
        return {"log2_threshold": 1.0}

    def simulate(self, view: View, parameters: dict[str, Tensor]) -> Tensor:
        t = view.expand(parameters["log2_threshold"])
        y: Tensor = _Tqt.apply(view.x, t, self.quant_min, self.quant_max)  # type: ignore[no-untyped-call]
        return y


@register_quantizer("dorefa")
class DoReFa(Quantizer):
    """Weights through ``tanh``, onto ``2**bits`` levels from -1 to 1.

    Nothing is learned beside the weights, and nothing kept: the greatest ``tanh`` is that of the
    weights at each call, and has its gradient. Not deployable: no level is zero, and the values are not
    those of the weights but of their transform.

    References
    ----------
    Zhou et al., arXiv 1606.06160, eq. 5 (quantize_k) and 9.
    """

    deployable = False
    state = ()

    def __init__(self, bits: int = 8) -> None:
        super().__init__(bits)

    def choose(self, view: View) -> dict[str, Tensor]:
        return {}

    def simulate(self, view: View, parameters: dict[str, Tensor]) -> Tensor:
        t = torch.tanh(view.x)
        most = t.abs().amax() if t.numel() > 0 else torch.ones((), device=t.device)
        r = t / (2 * most.clamp(min=_LEAST)) + 0.5
        return 2 * _replace(r, torch.round(r * self.quant_max) / self.quant_max) - 1


@register_quantizer("dsq")
class DSQ(Quantizer):
    """Rounding with the gradient of a row of ``tanh``, between two learned ends.

    ``low + step (i + (phi + 1) / 2)`` in the cell i of width ``step = (high - low) / (2**bits - 1)``,
    ``phi = tanh(k (x - middle)) / tanh(k step / 2)``. Forward takes the sign of phi, backward phi.

    Parameters
    ----------
    alpha : float
        ``1 - tanh(k step / 2)``, in (0, 1): how far phi is from the staircase.

    Notes
    -----
    The paper learns alpha as well, per layer; here it is a constant. Not deployable.

    References
    ----------
    Gong et al., arXiv 1908.05033, eq. 3 to 8.
    """

    deployable = False
    follows_range = True
    learned = ("low", "high")
    state = ()
    low: Tensor
    high: Tensor

    def __init__(
        self, bits: int = 8, axis: int | None = None, group_size: int = 0, alpha: float = 0.2
    ) -> None:
        super().__init__(bits, axis, group_size)
        if not 0 < alpha < 1:
            raise ValueError(f"{self.name}: expected alpha in (0, 1), got {alpha}")
        self.alpha = alpha

    def choose(self, view: View) -> dict[str, Tensor]:
        low, high = view.reduce(torch.amin), view.reduce(torch.amax)
        return {"low": low, "high": torch.where(high > low, high, low + 1)}

    def sizes(self) -> dict[str, float]:
        """Both ends move by shares of their distance."""
        size = float((self.high - self.low).detach().double().mean())
        return {"low": size, "high": size}

    def fault(self) -> str:
        """The ends may not meet."""
        if not bool((self.high > self.low).all()):
            low, high = self.low.detach().tolist(), self.high.detach().tolist()
            return super().fault() or f"{self.name}: expected low < high, got {low} and {high}"
        return super().fault()

    def simulate(self, view: View, parameters: dict[str, Tensor]) -> Tensor:
        low, high = (view.expand(parameters[part]) for part in self.learned)
        soft, hard = self.soft_and_hard(view.x, low, high)
        return _replace(soft, hard)

    def soft_and_hard(self, x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The surrogate, whose derivative training sees, and the staircase."""
        step = (high - low) / self.quant_max
        clipped = x.maximum(low).minimum(high)
        at = (clipped - low) / step
        cell = torch.floor(at).clamp(0, self.quant_max - 1).detach()
        k = math.log(2.0 / self.alpha - 1.0)  # k * step of the paper
        phi = torch.tanh(k * (at - cell - 0.5)) / (1.0 - self.alpha)
        soft = low + step * (cell + (phi + 1.0) / 2.0)
        # Half a cell is a tie: up, as the sign of a zero is taken to be +1.
        hard = low + step * (cell + (at - cell >= 0.5).to(x.dtype))
        return soft, hard

    def extra_repr(self) -> str:
        return super().extra_repr() + f", alpha={self.alpha}"
