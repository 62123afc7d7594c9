"""What an observer is, and the registry of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pyquant.config import SiteConfig
from pyquant.qparams import QParams

__all__ = ["OBSERVERS", "Observer", "keep_dtypes", "make_observer", "quant_range", "register_observer"]


def quant_range(bits: int, symmetric: bool) -> tuple[int, int]:
    """(quant_min, quant_max): narrow where symmetric, so that -q exists for every q."""
    top = 2 ** (bits - 1) - 1
    return (-top, top) if symmetric else (-top - 1, top)


def keep_dtypes(fn: Callable[[Tensor], Tensor], apply: Callable[..., Any], recurse: bool) -> None:
    """Run ``Module._apply`` so that tensors move between devices but keep their dtypes."""

    def moved(tensor: Tensor) -> Tensor:
        # A dtype change is undone from the original, not from the rounded copy.
        new = fn(tensor)
        return new if new.dtype == tensor.dtype else tensor.to(new.device)

    apply(moved, recurse)


class Observer(nn.Module, ABC):
    """State of one edge during calibration. Buffers keep their dtypes under ``.half()``."""

    name: ClassVar[str] = ""

    @abstractmethod
    def update(self, x: Tensor) -> None:
        """Take in one batch."""

    @property
    @abstractmethod
    def empty(self) -> bool:
        """True until something was observed."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything."""

    @abstractmethod
    def qparams(self, bits: int, symmetric: bool) -> QParams:
        """The quantization parameters for what was seen. Precondition: not `empty`."""

    def seen_by(self, name: str, config: SiteConfig) -> Observer:
        """Another observer, that knows what this one saw.

        Raises
        ------
        ValueError
            This one did not keep what the other would have remembered.
        """
        made = make_observer(name, config).to(next(self.buffers()).device)
        if not self._tell(made):
            raise ValueError(
                f"observer: calibration with {self.name!r} did not keep what {name!r} needs; "
                "calibrate with 'mse' or 'percentile' to compare all but 'ema'"
            )
        return made

    def _tell(self, other: Observer) -> bool:
        """Copy the state to `other`, if it would have the same."""
        if type(other) is not type(self):
            return False
        other.load_state_dict(self.state_dict())
        return True

    def forward(self, x: Tensor) -> None:
        """`update`, detached and in float32."""
        with torch.no_grad():
            self.update(x.detach().to(torch.float32).contiguous())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Observer:
        keep_dtypes(fn, super()._apply, recurse)
        return self


OBSERVERS: dict[str, type[Observer]] = {}


def register_observer(cls: type[Observer]) -> type[Observer]:
    """Class decorator: add an observer under its name."""
    OBSERVERS[cls.name] = cls
    return cls


def make_observer(name: str, config: SiteConfig) -> Observer:
    """An empty observer."""
    cls: Any = OBSERVERS[name]
    made: Observer = cls(config)
    return made
