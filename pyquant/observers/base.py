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
    mergeable: ClassVar[bool] = True  # what it knows does not depend on the order of batches
    needs_gradient: ClassVar[bool] = False

    @abstractmethod
    def update(self, x: Tensor, grad: Tensor | None = None) -> None:
        """Take in one batch, float32; with the gradient of the loss with respect to it, where needed."""

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

    def merge(self, other: Observer) -> None:
        """Take in what another observer of the same kind saw, as if this one had seen it too.

        In any order, and however batches were spread, the bits are those that one observer of all batches
        has (the sums of ``hessian`` excepted: equal within rounding, and the same for the same order).

        Raises
        ------
        ValueError
            The other is of another kind, or holds what no update can have left; or what this kind knows
            depends on the order of batches.
        """
        if type(other) is not type(self):
            raise ValueError(f"{self.name}: expected an observer of the same kind to merge, got {other.name}")
        if not self.mergeable:
            raise ValueError(
                f"observer {self.name!r} depends on the order of the batches, so that it cannot be merged; "
                f"choose one of {', '.join(sorted(n for n, cls in OBSERVERS.items() if cls.mergeable))}"
            )
        self._merge(other)

    def _merge(self, other: Any) -> None:
        """`merge` of what has been checked to be of the same kind."""
        raise NotImplementedError

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
                "calibrate with 'mse' or 'percentile' to compare all but 'ema' and 'hessian'"
            )
        return made

    def _tell(self, other: Observer) -> bool:
        """Copy the state to `other`, if it would have the same."""
        if type(other) is not type(self):
            return False
        other.load_state_dict(self.state_dict())
        return True

    def forward(self, x: Tensor, grad: Tensor | None = None) -> None:
        """`update`, detached and in float32."""
        with torch.no_grad():
            self.update(_plain(x), None if grad is None else _plain(grad))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Observer:
        keep_dtypes(fn, super()._apply, recurse)
        return self


def _plain(x: Tensor) -> Tensor:
    return x.detach().to(torch.float32).contiguous()


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
