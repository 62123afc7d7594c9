"""Quantizers onto codebooks: values that are not the multiples of one step.

None is deployable: an integer program multiplies steps, and these have none. (The codes of `log2`
are shifts, which an attention kernel of its own could use.) All channels share one codebook, each has
its scale. Gradients go straight through between the first and the last level (``levels.h``).

Probabilities and powers have no sign: what is below the least level becomes the least level.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

import pyquant.torch_ops  # noqa: F401  registers the ops

from . import codebooks
from .base import Quantizer, View, register_quantizer
from .codebooks import Codebook

__all__ = ["AdaLog", "Log2", "LogSqrt2", "OnCodebook", "ShiftUniformLog2", "TwinGelu", "TwinSoftmax"]

_log2 = lru_cache(codebooks.log2)
_log_sqrt2 = lru_cache(codebooks.log_sqrt2)
_logarithmic = lru_cache(maxsize=1024)(codebooks.logarithmic)
_shift_uniform_log2 = lru_cache(maxsize=1024)(codebooks.shift_uniform_log2)
_twin_softmax = lru_cache(codebooks.twin_softmax)
_twin_gelu = lru_cache(codebooks.twin_gelu)

GELU_LEAST = 0.16997
"""How far below 0 the GELU goes, to five digits."""


class OnCodebook(Quantizer):
    """The common part; ``levels`` and ``thresholds`` are state beside the scale.

    Parameters
    ----------
    bits, axis, group_size, dynamic
        As `Quantizer` has them.
    learn_scale : bool
        The scale is a Parameter, with LSQ's gradient and LSQ's factor ``1 / sqrt(N (m - 1))`` for N
        elements a scale and m levels.
    """

    deployable = False
    state: tuple[str, ...] = ("scale", "levels", "thresholds")

    def __init__(
        self,
        bits: int = 8,
        axis: int | None = None,
        group_size: int = 0,
        dynamic: bool = False,
        learn_scale: bool = False,
    ) -> None:
        if learn_scale:
            self.learned, self.state = ("scale",), ("levels", "thresholds")
        super().__init__(bits, axis, group_size, dynamic)

    def simulate(self, view: View, parameters: dict[str, Tensor]) -> Tensor:
        args = tuple(parameters[part] for part in ("scale", "levels", "thresholds"))
        y: Tensor
        if self.learned:
            elements = view.x.numel() // max(1, args[0].numel())
            factor = 1.0 / math.sqrt(max(1, elements * (args[1].numel() - 1)))
            y = torch.ops.pyquant.fake_levels_learned(view.x, *args, view.axis, factor)
        else:
            y = torch.ops.pyquant.fake_levels(view.x, *args, view.axis)[0]
        return y

    def extra_repr(self) -> str:
        return super().extra_repr() + (", learn_scale=True" if self.learned else "")

    def greatest(self, view: View) -> Tensor:
        """The greatest value of each channel as a scale; 1 where none is above 0."""
        most = view.reduce(torch.amax)
        return torch.where(most > 0, most, 1.0).clamp(2.0**-100, 2.0**100)

    def chosen(self, scale: Tensor, codebook: Codebook) -> dict[str, Tensor]:
        tables = (codebook.levels, codebook.thresholds)
        levels, thresholds = (torch.from_numpy(t).to(scale.device) for t in tables)
        return {"scale": scale.float(), "levels": levels, "thresholds": thresholds}

    def best(self, view: View, candidates: Iterable[tuple[Tensor, Codebook]]) -> dict[str, Tensor]:
        """The candidate with the least sum of squared errors; of equal ones the first."""
        least, found = math.inf, dict[str, Tensor]()
        for scale, codebook in candidates:
            parameters = self.chosen(scale, codebook)
            error = float((self.simulate(view, parameters) - view.x).double().square().sum())
            if error < least or not found:
                least, found = error, parameters
        return found


@register_quantizer("log2")
class Log2(OnCodebook):
    """Powers of two below the greatest value.

    References
    ----------
    FQ-ViT, arXiv 2111.13824, eq. 9 and 10. The paper quantizes softmax's output with scale 1; the
    greatest value of the data is that or less.
    """

    follows_range = True

    def choose(self, view: View) -> dict[str, Tensor]:
        return self.chosen(self.greatest(view), _log2(self.bits))


@register_quantizer("log_sqrt2")
class LogSqrt2(OnCodebook):
    """Powers of the square root of two below the greatest value.

    References
    ----------
    RepQ-ViT, arXiv 2212.08254, eq. 13 to 15.
    """

    follows_range = True

    def choose(self, view: View) -> dict[str, Tensor]:
        return self.chosen(self.greatest(view), _log_sqrt2(self.bits))


@register_quantizer("shift_uniform_log2")
class ShiftUniformLog2(OnCodebook):
    """Uniform steps of ``-log2(x + eta)``, so that the whole range is covered.

    Parameters
    ----------
    powers : bool
        Round the exponent when dequantizing, so that it is a shift.

    Notes
    -----
    `eta` is searched over powers of two for the least squared error of the tensor; the paper
    searches it too, over a grid that its text at hand does not give. The range of the logarithm is that
    of the data, and the step is rounded up to a multiple of 1/1024.

    References
    ----------
    I&S-ViT, arXiv 2311.10126, eq. 6 and 7.
    """

    def __init__(
        self,
        bits: int = 8,
        axis: int | None = None,
        group_size: int = 0,
        dynamic: bool = False,
        learn_scale: bool = False,
        powers: bool = True,
    ) -> None:
        super().__init__(bits, axis, group_size, dynamic, learn_scale)
        self.powers = powers

    def choose(self, view: View) -> dict[str, Tensor]:
        scale = self.greatest(view)
        v = view.x / view.expand(scale)
        low, high = max(0.0, float(v.min())), max(0.0, float(v.max()))
        return self.best(view, ((scale, self._codebook(2.0**-i, low, high)) for i in range(1, 17)))

    def _codebook(self, eta: float, low: float, high: float) -> Codebook:
        first, last = -math.log2(high + eta), -math.log2(low + eta)
        step = Fraction(max(1, math.ceil(1024 * (last - first) / (2**self.bits - 1))), 1024)
        return _shift_uniform_log2(self.bits, eta, step, round(-first / step), powers=self.powers)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.powers else ", powers=False")


@register_quantizer("adalog")
class AdaLog(OnCodebook):
    """Powers of ``2**(q/r)``, the base that suits the data.

    Parameters
    ----------
    denominator : int
        r, in [1, 128]; q is searched in 1 .. 2 r, bases up to 4.

    Notes
    -----
    q has the least squared error of the tensor; the paper searches q and the scale together for the
    least error of the layer's output, and shifts GELU's output to be positive first.

    References
    ----------
    AdaLog, arXiv 2407.12951, section 3.2.
    """

    def __init__(
        self,
        bits: int = 8,
        axis: int | None = None,
        group_size: int = 0,
        dynamic: bool = False,
        learn_scale: bool = False,
        denominator: int = 37,
    ) -> None:
        super().__init__(bits, axis, group_size, dynamic, learn_scale)
        if not 1 <= denominator <= 128:
            raise ValueError(f"{self.name}: expected denominator in [1, 128], got {denominator}")
        self.denominator = denominator

    def choose(self, view: View) -> dict[str, Tensor]:
        scale = self.greatest(view)
        qs = range(1, 2 * self.denominator + 1)
        return self.best(view, ((scale, _logarithmic(self.bits, q, self.denominator)) for q in qs))

    def extra_repr(self) -> str:
        return super().extra_repr() + f", denominator={self.denominator}"


class _Twin(OnCodebook):
    """The ratio of the two steps has the least squared error of the tensor (the paper: of the layer's
    output, weighted by its gradient)."""

    def same(self, view: View, step: float) -> Tensor:
        """One step for every channel: the ranges are the function's, not the data's."""
        return torch.full_like(view.reduce(torch.amax), step)


@register_quantizer("twin_softmax")
class TwinSoftmax(_Twin):
    """Small probabilities in fine steps, large ones in steps of ``2**-(bits - 1)``.

    References
    ----------
    PTQ4ViT, arXiv 2111.12293, eq. 7 and 8.
    """

    def choose(self, view: View) -> dict[str, Tensor]:
        ratios = range(1, 17)
        steps = (self.same(view, 2.0 ** -(self.bits - 1 + m)) for m in ratios)
        return self.best(view, zip(steps, (_twin_softmax(self.bits, m) for m in ratios), strict=True))


@register_quantizer("twin_gelu")
class TwinGelu(_Twin):
    """The short negative side of a GELU in fine steps, its positive side in coarse ones.

    References
    ----------
    PTQ4ViT, arXiv 2111.12293, eq. 7 and 9.
    """

    def choose(self, view: View) -> dict[str, Tensor]:
        scale = self.same(view, GELU_LEAST / 2 ** (self.bits - 1))
        return self.best(view, ((scale, _twin_gelu(self.bits, m)) for m in range(1, 17)))
