"""What ``layer_norm`` computes on integers, by method, in torch: the definitions of ``layernorm.h``.

A method takes centred integers ``q - zero_point`` of rows (int64, channels last) and gives centred results
that are not clamped yet. Constants come from the weights in float64, as ``pq_derive_norm`` makes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from pyquant import _C

from .integer import bit_length, dyadic, dyadic_tensor, floor_sqrt_shifted, rnu, shift_round

__all__ = ["Layer", "NormMethod", "newton_root", "normalize", "parse", "statistics"]

_EPSILON_MAX = 2.0**61
_NUMERATOR = {"ibert": 2**31, "ivit": 2**31 - 1, "ivit_published": 2**31 - 1}
_PUBLISHED_START, _PUBLISHED_STEPS = 2**16, 10
_STEPS_ENOUGH = 6  # Newton steps after which the least value is the floor of the root
_MEAN_BITS, _OFFSET_BITS = 20, 32
_REQUANT_SHIFT_MAX, _EXPONENT_MAX, _HALF_SHIFT_MIN = 59, 36, 6


@dataclass(frozen=True)
class NormMethod:
    """A row of the registry and its parameter."""

    name: str
    iterations: int


@dataclass(frozen=True, eq=False)
class Layer:
    """The float layer and the scales of its edges: what the constants follow from."""

    weight: Tensor | None
    bias: Tensor | None
    eps: float
    rms: bool
    x_scale: float
    y_scale: float
    x_range: Tensor | None


@lru_cache(maxsize=256)
def parse(text: str) -> NormMethod:
    """The method of a text; RuntimeError if there is none."""
    try:
        canonical, _, parameters = _C.method_parse("norm", text)
    except ValueError as error:
        raise RuntimeError(f"layer_norm: {error}") from None
    name = canonical.partition("(")[0]
    return NormMethod(name, int(parameters[0]) if name == "ivit" else 0)


def normalize(method: NormMethod, centred: Tensor, layer: Layer) -> Tensor:
    """One row a row of `centred`."""
    if method.name == "exact":
        return _exact(centred, layer)
    if method.name == "ptf":
        return _ptf(centred, layer)
    return _newton(method, centred, layer)


def statistics(method: NormMethod, centred: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
    """(mean, reciprocal deviation) that the method takes a row to have: float64 [.., 1], in real units.

    The method computes ``(x - mean) * reciprocal * weight + bias`` but for its roundings; RMSNorm has a mean
    of 0.
    """
    channels = centred.shape[-1]
    if method.name == "ptf":
        x, step = _expand(centred, layer)
        total, inverse, h = _ptf_root(x, layer)
        mean = _ptf_mean(total, channels).double() * 2.0**-_MEAN_BITS
        return mean * step, channels * inverse.double() * torch.exp2(h.double() - 62.0) / step
    if method.name == "exact":
        total, inverse, h = _exact_root(centred, layer)
        mean = total.double() / channels
        return mean * layer.x_scale, channels * inverse.double() * torch.exp2(
            h.double() - 62.0
        ) / layer.x_scale
    y, factor = _newton_root(method, centred, layer)
    mean = (centred - y)[..., :1].double()
    return mean * layer.x_scale, factor.double() * (math.sqrt(channels) * 2.0**-31 / layer.x_scale)


def _in_steps(vector: Tensor | None, absent: float, factor: float, like: Tensor, scale: float) -> Tensor:
    """gamma or beta in units of y: (v * factor) / scale, float64 [C]."""
    value = torch.full((like.shape[-1],), absent, dtype=torch.float64, device=like.device)
    return (value if vector is None else vector.double()) * factor / scale


def _affine(layer: Layer, like: Tensor, factor: float, bits: int) -> tuple[Tensor, Tensor, int]:
    """gain, offset (int64 [C]) on one shift, the largest for which both stay in range."""
    gain = _in_steps(layer.weight, 1.0, factor, like, layer.y_scale)
    offset = _in_steps(layer.bias, 0.0, 1.0, like, layer.y_scale)
    gain_max, offset_max = torch.stack([gain.abs().amax(), offset.abs().amax()]).tolist()
    for shift in range(62, 0, -1):  # rounding is monotone: the largest magnitudes decide for all
        if round(gain_max * 2.0 ** (shift - bits)) < 2**31 and round(offset_max * 2.0**shift) < 2**61:
            return (
                torch.round(gain * 2.0 ** (shift - bits)).long(),
                torch.round(offset * 2.0**shift).long(),
                shift,
            )
    root = "" if factor == 1.0 else " * sqrt(channels)"
    raise RuntimeError(
        f"layer_norm: expected |weight|{root} / y_scale < 2^{bits + 30} and |bias| / y_scale < 2^60, "
        f"got {gain_max!r} and {offset_max!r}"
    )


def _reciprocal_root(wide: Tensor) -> tuple[Tensor, Tensor]:
    """(m, h) with 1 / sqrt(wide) ~ m / 2^(62 - h), for wide in [1, 2^63)."""
    k = (63 - bit_length(wide) + 1) & ~1  # clz64, rounded down to even
    root = floor_sqrt_shifted(wide, k)
    inverse = torch.div(1 << 62, root, rounding_mode="floor").clamp(max=2**31 - 1)
    return inverse, torch.div(k, 2, rounding_mode="floor")


def _exact_root(centred: Tensor, layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """(sum of a row, or 0 for RMSNorm; m, h) with 1 / (channels * deviation) ~ m / 2^(62 - h)."""
    channels = centred.shape[-1]
    epsilon = float(channels * channels) * layer.eps / (layer.x_scale * layer.x_scale)
    if epsilon > _EPSILON_MAX:
        raise RuntimeError(f"layer_norm: expected channels^2 * eps / x_scale^2 <= 2^61, got {epsilon!r}")
    square = channels * (centred * centred).sum(dim=-1, keepdim=True)
    total = torch.zeros_like(square)
    if not layer.rms:  # LayerNorm does not see the zero point, RMSNorm wants it gone
        total = centred.sum(dim=-1, keepdim=True)
    return total, *_reciprocal_root((square - total * total + round(epsilon)).clamp(min=1))


def _exact(centred: Tensor, layer: Layer) -> Tensor:
    total, inverse, h = _exact_root(centred, layer)
    gain, offset, shift = _affine(layer, centred, 1.0, 16)
    z = rnu(centred.shape[-1] * centred - total, inverse, 46 - h)
    return shift_round(z * gain + offset, shift)


def _floor_divide(a: Tensor, b: int | Tensor) -> Tensor:
    return torch.div(a, b, rounding_mode="floor")


def newton_root(method: NormMethod, n: Tensor) -> Tensor:
    """About sqrt(n), n >= 1, by integer Newton steps (I-BERT, Alg. 4; I-ViT, I-LayerNorm)."""
    k = torch.bitwise_left_shift(torch.ones_like(n), (bit_length(n) + 1) >> 1)
    steps = method.iterations
    if method.name == "ivit_published":
        k, steps = torch.full_like(n, _PUBLISHED_START), _PUBLISHED_STEPS
    if method.name == "ibert":
        steps = _STEPS_ENOUGH
    least = k
    for _ in range(steps):
        k = (k + _floor_divide(n, k)) >> 1
        least = torch.minimum(least, k)
    return least if method.name == "ibert" else k


def _newton_root(method: NormMethod, centred: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
    """(x less the rounded mean, 2^31 / (sqrt(channels) * deviation))."""
    channels = centred.shape[-1]
    y = centred
    if not layer.rms:
        y = centred - _floor_divide(2 * centred.sum(dim=-1, keepdim=True) + channels, 2 * channels)
    std = newton_root(method, (y * y).sum(dim=-1, keepdim=True).clamp(min=1))
    return y, _floor_divide(torch.full_like(std, _NUMERATOR[method.name]), std)


def _newton(method: NormMethod, centred: Tensor, layer: Layer) -> Tensor:
    gain, offset, shift = _affine(layer, centred, math.sqrt(centred.shape[-1]), 30)
    y, factor = _newton_root(method, centred, layer)
    z = (y * factor) >> 1
    return shift_round(z * gain + offset, shift)


# ---- powers-of-two factors (FQ-ViT) ----


def _expand(centred: Tensor, layer: Layer) -> tuple[Tensor, float]:
    """(X, s1): each channel on 8 bits and a scale s1 * 2^alpha of its own, then on s1."""
    if layer.x_range is None:
        raise RuntimeError(
            "layer_norm: expected the ranges of all channels (x_range) with method ptf, got none"
        )
    least, greatest = layer.x_range.double().unbind()
    if not bool((torch.isfinite(least) & torch.isfinite(greatest) & (least <= greatest)).all()):
        raise RuntimeError("layer_norm: expected the range of each channel that calibration observes")
    low, high = torch.stack([least.amin(), greatest.amax()]).tolist()
    low, high = min(low, 0.0), max(high, 0.0)
    scale8 = max((high - low) / 255.0, math.ldexp(layer.x_scale, -20))
    s1 = scale8 / 8.0
    zero_point = min(max(-128 - round(low / scale8), -128), 127)
    requant = dyadic("layer_norm", layer.x_scale / s1)
    if requant.shift > _REQUANT_SHIFT_MAX:
        requant = requant._replace(multiplier=1 << 30, shift=_REQUANT_SHIFT_MAX)
    alpha = torch.zeros(centred.shape[-1], dtype=torch.int64, device=centred.device)
    fits = torch.zeros_like(alpha, dtype=torch.bool)
    for factor in range(3):
        scale = s1 * 2.0**factor
        fits = fits | ((least >= (-128.5 - zero_point) * scale) & (greatest <= (127.5 - zero_point) * scale))
        alpha = alpha + (~fits).long()
    step = rnu(centred, requant.multiplier, requant.shift + alpha)
    return torch.bitwise_left_shift(step.clamp(-128 - zero_point, 127 - zero_point), alpha), s1


def _ptf_root(x: Tensor, layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """(sum of a row of X, or 0 for RMSNorm; m, h) as of `_exact_root`; m is 0 where all of a row is alike."""
    total = x.sum(dim=-1, keepdim=True)
    square = x.shape[-1] * (x * x).sum(dim=-1, keepdim=True)
    if layer.rms:
        total = torch.zeros_like(total)
    variance = square - total * total
    inverse, h = _reciprocal_root(variance.clamp(min=1))
    return total, torch.where(variance > 0, inverse, 0), torch.where(variance > 0, h, _HALF_SHIFT_MIN)


def _ptf_mean(total: Tensor, channels: int) -> Tensor:
    """With 20 fractional bits."""
    return _floor_divide((total << (_MEAN_BITS + 1)) + channels, 2 * channels)


def _ptf(centred: Tensor, layer: Layer) -> Tensor:
    channels = centred.shape[-1]
    x, _ = _expand(centred, layer)
    size = _in_steps(layer.weight, 1.0, float(channels), centred, layer.y_scale)
    offset = torch.round(_in_steps(layer.bias, 0.0, 1.0, centred, layer.y_scale) * 2.0**_OFFSET_BITS)
    size_max, offset_max = torch.stack([size.abs().amax(), offset.abs().amax()]).tolist()
    if size_max >= 2.0**30 or offset_max >= 2.0**61:
        raise RuntimeError(
            f"layer_norm: expected |weight| * channels / y_scale < 2^30 and |bias| / y_scale < 2^29, "
            f"got {size_max!r} and {offset_max / 2.0**_OFFSET_BITS!r}"
        )
    there = size.abs() >= 2.0**-6
    gain, exponent = dyadic_tensor("layer_norm", torch.where(there, size.abs(), 1.0))
    gain, exponent = torch.where(there, gain, 0), torch.where(there, exponent, _EXPONENT_MAX)

    total, inverse, h = _ptf_root(x, layer)
    mean = _ptf_mean(total, channels)
    a = (gain * inverse) >> 32
    n = (exponent + 9 - h - (a >> 29)).clamp(0, 31)
    down = exponent + 30 - h - n
    term = torch.bitwise_right_shift(a, down) * x - shift_round(mean * a, down + _MEAN_BITS)
    term = torch.where(size < 0, -term, term)
    bias = shift_round(offset.long(), _OFFSET_BITS - n)
    half = torch.bitwise_left_shift(torch.ones_like(n), n) >> 1
    return torch.bitwise_right_shift(term + bias + half, n)
