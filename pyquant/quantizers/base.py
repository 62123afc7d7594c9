"""What a quantizer is, how one is named in text, and where its scales lie.

A quantizer is a module: ``initialize(x)`` chooses its parameters from data as its paper does, and
``forward(x)`` gives the values that the quantized tensor would have. `QUANTIZERS` holds every class
under its name; ``make_quantizer("log2(bits=4)")`` reads a name with keyword parameters.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from pyquant.quantizer_text import PARAMETERS, parse, text_of

__all__ = ["QUANTIZERS", "Quantizer", "View", "canonical", "make_quantizer", "register_quantizer"]

QUANTIZERS: dict[str, type[Quantizer]] = {}
"""Every quantizer by its name, in the order of registration."""

_Q = TypeVar("_Q", bound="type[Quantizer]")


@dataclass(frozen=True)
class View:
    """A tensor as a quantizer works on it: which axis has a scale each, and the way back.

    Attributes
    ----------
    x : Tensor
        Two axes ``[channels, elements]`` where grouped, else the tensor itself.
    axis : int or None
        The axis of `x` with a scale each.
    shape : tuple of int, or None
        The shape to go back to, where `x` was reshaped.
    """

    x: Tensor
    axis: int | None
    shape: tuple[int, ...] | None

    def back(self, y: Tensor) -> Tensor:
        """`y`, of the shape of `x`, with the original shape."""
        return y if self.shape is None else y.reshape(self.shape)

    def reduce(self, statistic: Callable[..., Tensor]) -> Tensor:
        """``statistic(x, dim)`` for each scale: a scalar, or ``[channels]``."""
        if self.axis is None:
            return statistic(self.x.reshape(-1), dim=0)
        return statistic(self.x.movedim(self.axis, 0).reshape(self.x.shape[self.axis], -1), dim=1)

    def expand(self, value: Tensor) -> Tensor:
        """One value a scale, shaped so that it broadcasts against `x`."""
        if self.axis is None:
            return value.reshape(())
        shape = [1] * self.x.dim()
        shape[self.axis] = -1
        return value.reshape(shape)


class Quantizer(nn.Module):
    """Simulates a quantized tensor.

    Parameters
    ----------
    bits : int
        2 to 8.
    axis : int, optional
        One scale for each entry of this axis: a channel, a token, a head. None is one of all.
    group_size : int
        One scale for each group of so many neighbours along the last axis; 0 is no groups. Excludes
        `axis`.
    dynamic : bool
        Choose the parameters from each tensor anew; nothing is kept.

    Attributes
    ----------
    name : str
        In the registry.
    deployable : bool
        Whether an integer program can run it: a uniform grid whose zero is an integer (`grid`).
    centred : bool
        Whether the zero point is 0, whatever the data.
    follows_range : bool
        Whether parameters may begin with what an observer knows (`begin`), without the data.
    quant_min, quant_max : int
        The codes.
    scale : Tensor
        float32, also under ``.half()``; shape (), or (n,) with an axis or groups. A buffer, or a
        Parameter where it is learned.
    initialized : Tensor
        bool scalar: whether `initialize` has been called.

    Raises
    ------
    ValueError
        A parameter out of its range.
    """

    name: ClassVar[str]
    deployable: ClassVar[bool]
    follows_range: ClassVar[bool] = False
    centred: bool = False
    learned: tuple[str, ...] = ()
    """Parameters that training changes; they exist as float32 Parameters. Fixed before ``__init__``."""
    state: tuple[str, ...] = ("scale",)
    """Everything else that `initialize` sets: float32 buffers."""

    scale: Tensor
    initialized: Tensor

    def __init__(
        self, bits: int = 8, axis: int | None = None, group_size: int = 0, dynamic: bool = False
    ) -> None:
        super().__init__()
        if not 2 <= bits <= 8:
            raise ValueError(f"{self.name}: expected bits in [2, 8], got {bits}")
        if group_size < 0 or (group_size > 0 and axis is not None):
            raise ValueError(
                f"{self.name}: expected group_size >= 0, and no axis beside it, got {group_size} and {axis}"
            )
        if dynamic and self.learned:
            raise ValueError(
                f"{self.name}: expected dynamic=False, since {self.learned[0]} is learned, got True"
            )
        self.bits, self.axis, self.group_size, self.dynamic = bits, axis, group_size, dynamic
        self.quant_min, self.quant_max = 0, 2**bits - 1
        for part in self.learned:
            self.register_parameter(part, nn.Parameter(torch.ones(())))
        for part in self.state:
            self.register_buffer(part, torch.ones(()))
        self.register_buffer("initialized", torch.tensor(False))

    def view(self, x: Tensor) -> View:
        """`x` with its scales laid out.

        Raises
        ------
        ValueError
            `x` has no such axis, or its last axis does not divide into groups.
        """
        if self.group_size > 0:
            if x.dim() == 0 or x.shape[-1] % self.group_size != 0:
                raise ValueError(
                    f"{self.name}: expected a last axis in groups of {self.group_size}, got {tuple(x.shape)}"
                )
            return View(x.reshape(-1, self.group_size), 0, tuple(x.shape))
        if self.axis is not None and not -x.dim() <= self.axis < x.dim():
            raise ValueError(f"{self.name}: expected an axis of {tuple(x.shape)}, got {self.axis}")
        return View(x, None if self.axis is None else self.axis % x.dim(), None)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Choose every parameter from data.

        Parameters
        ----------
        x : Tensor
            Any floating dtype, at least one element, finite.

        Raises
        ------
        ValueError
            An empty tensor, NaN or infinity.
        """
        self.adopt(self.choose(self.view(self.check(x).float())))

    @torch.no_grad()
    def adopt(self, parameters: dict[str, Tensor]) -> None:
        """Take parameters that `choose` or `begin` gave. Parameters stay the same objects."""
        for part, value in parameters.items():
            self._set(part, value)
        self.initialized.fill_(True)

    def check(self, x: Tensor) -> Tensor:
        """`x`, if parameters can be chosen from it."""
        if x.numel() == 0 or not bool(torch.isfinite(x).all()):
            raise ValueError(f"{self.name}: expected finite x of at least one element, got {tuple(x.shape)}")
        return x.detach()

    def choose(self, view: View) -> dict[str, Tensor]:
        """The value of every name in `learned` and `state`, from float32 data."""
        raise NotImplementedError

    @torch.no_grad()
    def begin(self, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int) -> dict[str, Tensor]:
        """The parameters for the range of a grid: by default those for data of which it has just the ends.

        Parameters
        ----------
        scale, zero_point : Tensor
            One value, or one for each entry of `axis`.
        """
        ends = [(end - zero_point) * scale for end in (quant_min, quant_max)]
        return self.choose(View(torch.stack(ends, dim=-1).float(), None if self.axis is None else 0, None))

    def simulate(self, view: View, parameters: dict[str, Tensor]) -> Tensor:
        """The quantized values of ``view.x``."""
        raise NotImplementedError

    def grid(self, parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Scale and zero point of `quant_min` to `quant_max`; only where `deployable`.

        The same bits on every device and in compiled code: no division, no power.
        """
        raise NotImplementedError

    def narrow(self) -> None:
        """As many codes below zero as above, as integer weights have them."""
        self.quant_min = max(self.quant_min, -self.quant_max)

    def sizes(self) -> dict[str, float]:
        """For each learned parameter how large a step of training may be: about the step as a share of it
        that a scale would take. By default the parameter's mean."""
        return {part: float(getattr(self, part).detach().double().mean()) for part in self.learned}

    def fault(self) -> str:
        """What training has made of the parameters that no quantizer can have; empty if nothing."""
        for part in (*self.learned, *self.state):
            value: Tensor = getattr(self, part).detach()
            if not bool(torch.isfinite(value).all()):
                return f"{self.name}: expected a finite {part}, got {value.tolist()}"
            if part in ("scale", "clip") and not bool((value > 0).all()):
                return f"{self.name}: expected {part} > 0, got {value.tolist()}"
        return ""

    def parameters_for(self, x: Tensor) -> dict[str, Tensor]:
        """Every parameter by name: those that are kept, or with `dynamic` those for `x`.

        Raises
        ------
        RuntimeError
            Called before `initialize`, unless dynamic.
        """
        if self.dynamic:
            with torch.no_grad():
                return self.choose(self.view(self.check(x).float()))
        if not torch.compiler.is_compiling() and not bool(self.initialized):
            raise RuntimeError(f"{self.name}: expected initialize(x) before the first forward")
        return {part: getattr(self, part) for part in (*self.learned, *self.state)}

    def forward(self, x: Tensor) -> Tensor:
        """The values that the quantized `x` has, in the dtype of `x`.

        Raises
        ------
        RuntimeError
            Called before `initialize`, unless dynamic.
        """
        view = self.view(x.float())
        return view.back(self.simulate(view, self.parameters_for(x))).to(x.dtype)

    def _set(self, part: str, value: Tensor) -> None:
        old: Tensor = getattr(self, part)
        value = value.detach().to(device=old.device, dtype=torch.float32).clone()
        if isinstance(old, nn.Parameter):
            old.data = value
        else:
            setattr(self, part, value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Quantizer:
        """Devices change, float32 does not: a rounded scale is another grid."""
        kept = {part: getattr(self, part).detach() for part in (*self.learned, *self.state)}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for part, before in kept.items():
            now: Tensor = getattr(self, part)
            if now.is_floating_point() and now.dtype != torch.float32:
                self._set(part, before.to(now.device))
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Scales take the shape that they were saved with.
        for part in (*self.learned, *self.state):
            saved = state_dict.get(prefix + part)
            if isinstance(saved, Tensor) and saved.shape != getattr(self, part).shape:
                self._set(part, saved)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        parts = [f"bits={self.bits}"]
        parts += [f"axis={self.axis}"] if self.axis is not None else []
        parts += [f"group_size={self.group_size}"] if self.group_size else []
        parts += ["dynamic=True"] if self.dynamic else []
        return ", ".join(parts)


def register_quantizer(name: str) -> Callable[[_Q], _Q]:
    """Class decorator: the class is `name` in `QUANTIZERS` from now on.

    Raises
    ------
    ValueError
        A name that is taken, or that is not lower case words joined by ``_``.
    """

    def register(cls: _Q) -> _Q:
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or name in QUANTIZERS:
            raise ValueError(f"register_quantizer: expected a new name of lower case words, got {name!r}")
        cls.name = name
        QUANTIZERS[name] = cls
        PARAMETERS.setdefault(name, _parameters(cls))
        return cls

    return register


def make_quantizer(text: str) -> Quantizer:
    """A new quantizer from its text, a name or ``name(parameter=value, ...)``.

    Values are integers, numbers, ``true`` and ``false``, and ``none`` for an axis.

    Raises
    ------
    ValueError
        Another name, a parameter that it lacks or that is there twice, a value of another kind or out
        of its range.

    Examples
    --------
    >>> make_quantizer("log2(bits=4)")
    Log2(bits=4)
    """
    cls, parameters = _parse(text)
    return cls(**parameters)


def canonical(text: str) -> str:
    """A quantizer's text as it is stored: no blanks, only parameters that differ from their defaults.

    Raises
    ------
    ValueError
        As `make_quantizer`.

    Examples
    --------
    >>> canonical(" affine ( bits = 8, axis=1 )")
    'affine(axis=1)'
    """
    cls, parameters = _parse(text)
    cls(**parameters)  # checks the ranges
    known = PARAMETERS[cls.name]
    return text_of(cls.name, {name: value for name, value in parameters.items() if value != known[name]})


def _parameters(cls: type[Quantizer]) -> dict[str, Any]:
    """Name and default of what a quantizer takes, in the order of its signature."""
    found = inspect.signature(cls).parameters.values()
    return {parameter.name: parameter.default for parameter in found}


def _parse(text: str) -> tuple[type[Quantizer], dict[str, Any]]:
    name, parameters = parse(text)
    cls = QUANTIZERS.get(name)
    if cls is None:
        raise ValueError(f"quantizer: expected one of {', '.join(QUANTIZERS)}, got {name!r}")
    return cls, parameters
