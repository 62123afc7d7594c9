"""What a site is: one compute node of the model, that runs in float, is observed, or runs as integers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, fx, nn

from pyquant.config import SiteConfig
from pyquant.errors import CalibrationError
from pyquant.graph.capture import Captured
from pyquant.graph.grid import Edge, Grid
from pyquant.observers import Observer, keep_dtypes, make_observer

if TYPE_CHECKING:
    from pyquant.graph.lower import Lowering

__all__ = ["MODES", "REGISTRY", "Match", "Operand", "Site", "register"]

MODES = ("float", "observe", "quantized", "frozen")


@dataclass(frozen=True)
class Match:
    """How a node becomes a site: which arguments are edges, and what else the site needs."""

    edges: tuple[fx.Node, ...]  # quantized operands, in order
    extras: tuple[Any, ...] = ()  # further graph values (weights, masks), passed after the edges
    kind: str = ""  # the name's last part where the node is functional
    settings: tuple[tuple[str, Any], ...] = ()  # keyword arguments of the site's constructor


@dataclass(frozen=True)
class Operand:
    """The static half of an operand's grid; scale and zero point arrive with the value."""

    quant_min: int
    quant_max: int


class Site(nn.Module, ABC):
    """One site. Subclasses say what they match, how they compute in float and in integers, and how they
    lower.

    Attributes
    ----------
    takes_wide : tuple of bool
        For each operand, whether a 16-bit edge may enter (the last entry holds for all further operands).
    gives_wide : bool
        Whether the output may have 16 bits.
    symmetric_operands : tuple of int
        Operands whose producer must use zero point 0.
    """

    kind: ClassVar[str] = ""
    takes_wide: ClassVar[tuple[bool, ...]] = (False,)
    gives_wide: ClassVar[bool] = False
    symmetric_operands: ClassVar[tuple[int, ...]] = ()
    quantizes_constants: ClassVar[bool] = False  # a constant operand arrives in float
    finite_extras: ClassVar[bool] = True  # weights must be; a mask may hold -inf

    def __init__(self, name: str, config: SiteConfig, wide: bool, symmetric: bool) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.mode = "float"
        self.operands: tuple[Operand | None, ...] = ()
        bits = config.residual_bits if wide else config.activation_bits
        self.output = Grid(bits, symmetric=wide or symmetric or config.symmetric)
        self.observer: Observer = make_observer(config.residual_observer if wide else config.observer, config)

    @classmethod
    @abstractmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """A match, None if the node is of another kind, or the reason (str) why it must stay float."""

    @abstractmethod
    def real(self, *args: Any) -> Tensor:
        """The float function. Edges arrive as `Edge`, extras as they are."""

    @abstractmethod
    def integer(self, *args: Any) -> Tensor:
        """The integer op between float edges."""

    @abstractmethod
    def lower(self, to: Lowering, node: fx.Node) -> None:
        """Emit instructions into the program."""

    def forward(self, *args: Any) -> Tensor:
        """Run in the site's mode."""
        if self.mode == "quantized" or self.mode == "frozen":
            return self.integer(*(_in_float32(arg) for arg in args))
        y = self.real(*args)
        if self.mode == "observe":
            try:
                self.observer(y)
            except RuntimeError as error:  # NaN or infinity: the op knows what, the site knows where
                raise CalibrationError(f"site {self.name!r}: {error}") from None
        return y

    def grid(self, index: int, edge: Edge) -> tuple[Tensor, Tensor | None, Tensor | None, int, int]:
        """(x, scale, zero_point, quant_min, quant_max) of an operand, the order in which the torch ops take
        them."""
        operand = self.operands[index]
        assert operand is not None
        return (*edge, operand.quant_min, operand.quant_max)

    @property
    def y_grid(self) -> tuple[Tensor, Tensor, int, int]:
        """The output grid, in the order in which the torch ops take it."""
        return self.output.scale, self.output.zero_point, self.output.quant_min, self.output.quant_max

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Site:
        keep_dtypes(fn, super()._apply, recurse)
        return self

    def reset_observers(self) -> None:
        """Forget what was observed."""
        self.observer.reset()

    def calibrate_weights(self, *weights: Tensor) -> None:
        """Choose what calibration must choose of the weights; nothing by default."""

    def extra_repr(self) -> str:
        """Name and mode."""
        return f"{self.name!r}, mode={self.mode}"


def _in_float32(arg: Any) -> Any:
    """Float operands as the ops take them. Parameters may be in half precision, and a float op under autocast
    gives bfloat16; the values are the same in float32."""
    if isinstance(arg, Tensor):
        return arg.to(torch.float32) if arg.is_floating_point() else arg
    return (_in_float32(arg[0]), *arg[1:]) if isinstance(arg, tuple) else arg


# kind -> class, in the order in which a node is offered to them.
REGISTRY: dict[str, type[Site]] = {}


def register(cls: type[Site]) -> type[Site]:
    """Class decorator: add a site kind."""
    if not cls.kind or cls.kind in REGISTRY:
        raise ValueError(f"site kind {cls.kind!r} is empty or registered twice")
    REGISTRY[cls.kind] = cls
    return cls
