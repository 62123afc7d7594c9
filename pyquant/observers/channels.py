"""The range of each channel of an operand, for methods that scale channels apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pyquant.observers.base import keep_dtypes

__all__ = ["ChannelRange"]


class ChannelRange(nn.Module):
    """Least and greatest value of each channel of the last axis, float32 [C] each.

    A channel that saw nothing has the range [inf, -inf]. Buffers keep their dtypes under ``.half()``.
    """

    minimum: Tensor
    maximum: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("minimum", torch.full((channels,), torch.inf))
        self.register_buffer("maximum", torch.full((channels,), -torch.inf))

    def forward(self, x: Tensor) -> None:
        """Take in one batch, of any leading axes."""
        if x.numel() == 0:
            return
        with torch.no_grad():
            low, high = x.detach().to(torch.float32).reshape(-1, x.shape[-1]).aminmax(dim=0)
            self.minimum.copy_(torch.minimum(self.minimum, low))
            self.maximum.copy_(torch.maximum(self.maximum, high))

    def reset(self) -> None:
        """Forget everything."""
        self.minimum.fill_(torch.inf)
        self.maximum.fill_(-torch.inf)

    def merge(self, other: ChannelRange) -> None:
        """Take in what another one saw.

        Raises
        ------
        ValueError
            The other has other channels, or holds what is no range.
        """
        if other.minimum.shape != self.minimum.shape:
            raise ValueError(
                f"channel range: expected {self.minimum.numel()} channels, got {other.minimum.numel()}"
            )
        low, high = other.minimum, other.maximum
        ranges = (low <= high) & low.isfinite() & high.isfinite()
        if not bool((ranges | ((low == torch.inf) & (high == -torch.inf))).all()):
            raise ValueError("channel range: expected finite minimum <= maximum of each channel")
        self.minimum.copy_(torch.minimum(self.minimum, low))
        self.maximum.copy_(torch.maximum(self.maximum, high))

    def range(self) -> Tensor:
        """Both ends, float32 [2, C], a copy."""
        return torch.stack([self.minimum, self.maximum])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ChannelRange:
        keep_dtypes(fn, super()._apply, recurse)
        return self
