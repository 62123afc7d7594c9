"""Quantizers of the registry at sites: as the grid of an edge, and for weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from pyquant.errors import CalibrationError
from pyquant.graph.grid import Grid
from pyquant.observers import FirstValues, Observer
from pyquant.quantizer_text import PARAMETERS, parse, text_of
from pyquant.quantizers import Quantizer, make_quantizer

__all__ = ["QuantizerGrid", "edge_grid", "is_integer_weight", "weight_quantizer", "weight_scale_of"]


def _made(field: str, site: str, text: str, bits: int, **more: Any) -> Quantizer:
    """A quantizer that wants no gradient yet: its site says when it takes part."""
    name, given = parse(text)
    try:
        return make_quantizer(text_of(name, {**more, **given, "bits": bits})).requires_grad_(False)
    except ValueError as error:
        raise ValueError(f"site {site!r}: {field}: {error}") from None


class QuantizerGrid(Grid):
    """An edge that a quantizer of the registry quantizes.

    Where the quantizer has one scale and an integer zero point that are kept, its codes are shifted into
    int8, and `scale` and `zero_point` follow from its parameters. Else `on_grid` is False and the edge has
    neither.

    Attributes
    ----------
    quantizer : Quantizer
    text : str
        As the configuration has it.
    first_observer : FirstValues or None
        What calibration saw first, where the quantizer begins with data and not with a range.
    """

    def __init__(self, text: str, quantizer: Quantizer, zero: bool) -> None:
        nn.Module.__init__(self)
        self.text, self.quantizer, self.bits = text, quantizer, quantizer.bits
        one_scale = quantizer.axis is None and quantizer.group_size == 0
        self.on_grid = quantizer.deployable and one_scale and not quantizer.dynamic
        # Codes that begin at 0 lie one half lower in the program's signed bytes.
        self._shift = -(2 ** (self.bits - 1)) if quantizer.quant_min == 0 else 0
        self.quant_min, self.quant_max = quantizer.quant_min + self._shift, quantizer.quant_max + self._shift
        self.symmetric = quantizer.centred or zero
        keeps = not quantizer.dynamic and not (quantizer.follows_range and one_scale)
        self.first_observer = FirstValues() if keeps else None

    @property
    def ready(self) -> bool:
        """True once the quantizer has its parameters."""
        return self.quantizer.dynamic or bool(self.quantizer.initialized)

    @property
    def scale(self) -> Tensor:  # type: ignore[override]
        """float32 scalar."""
        return self._numbers()[0]

    @property
    def zero_point(self) -> Tensor:  # type: ignore[override]
        """int32 scalar."""
        return self._numbers()[1] + self._shift

    def _numbers(self) -> tuple[Tensor, Tensor]:
        if not self.on_grid:
            raise TypeError(f"the values of {self.text} have no scale and zero point")
        quantizer = self.quantizer
        with torch.no_grad():
            parts = (*quantizer.learned, *quantizer.state)
            return quantizer.grid({part: getattr(quantizer, part).detach() for part in parts})

    def set(self, scale: float, zero_point: int) -> None:
        """Begin with the range of this grid."""
        self.adopt(self._begin(scale, zero_point))

    def _begin(self, scale: float, zero_point: int) -> dict[str, Tensor]:
        device = self.quantizer.initialized.device
        numbers = torch.tensor(scale, device=device), torch.tensor(zero_point, device=device)
        top = 2 ** (self.bits - 1) - 1
        low = -top if self.symmetric else -top - 1
        return self.quantizer.begin(*numbers, low, top)

    def observe(self, y: Tensor) -> None:
        """Keep the first values, where the quantizer begins with data."""
        if self.first_observer is not None:
            self.first_observer(y)

    def observers(self) -> dict[str, Any]:
        """The first values."""
        return {} if self.first_observer is None else {"first_observer": self.first_observer}

    def choose(self, observer: Observer, seen: Grid | None = None) -> dict[str, Tensor]:
        """The quantizer's first parameters.

        Raises
        ------
        CalibrationError
            The quantizer begins with data, and calibration kept none.
        """
        if self.quantizer.dynamic:
            return {}
        if self.first_observer is None:
            chosen = observer.qparams(self.bits, self.symmetric)
            return self._begin(chosen.scale, chosen.zero_point)
        if isinstance(seen, QuantizerGrid) and seen.first_observer is not None:
            self.first_observer = seen.first_observer
        if self.first_observer.empty:
            raise CalibrationError(
                f"quantizer {self.text!r} begins with data, and none is kept; calibrate first"
            )
        return self.quantizer.choose(self.quantizer.view(self.first_observer.values))

    def adopt(self, chosen: Any) -> None:
        """Set the quantizer's parameters."""
        if not self.quantizer.dynamic:
            self.quantizer.adopt(chosen)

    def copied(self) -> Grid:
        """A copy with a quantizer of its own; what was observed is shared."""
        made = copy.copy(self)
        modules = {"quantizer": copy.deepcopy(self.quantizer), "first_observer": self.first_observer}
        object.__setattr__(made, "_modules", modules)
        return made

    def extra_repr(self) -> str:
        """The text and the bits."""
        return f"{self.text!r}, bits={self.bits}"


def edge_grid(site: str, text: str, bits: int, *, zero: str) -> QuantizerGrid:
    """The grid of an edge.

    Parameters
    ----------
    site : str
        Its name, for messages.
    text : str
        As `SiteConfig.quantizer` stores it.
    zero : str
        Why the zero point must be 0; empty if it need not.

    Raises
    ------
    ValueError
        A parameter out of its range, or a quantizer whose zero point is not 0 where it must be.
    """
    grid = QuantizerGrid(text, _made("quantizer", site, text, bits), bool(zero))
    if zero and grid.on_grid and grid._shift:
        raise ValueError(
            f"site {site!r}: quantizer: expected zero point 0, since {zero}, got {text!r}, whose zero is its "
            "least code; give this site symmetric, pow2, tqt or lsq"
        )
    return grid


def weight_quantizer(site: str, text: str, bits: int) -> Quantizer:
    """A quantizer for weights [n, k], with a scale for each output channel unless the text says otherwise.

    Raises
    ------
    ValueError
        A parameter out of its range.
    """
    name, given = parse(text)
    by_channel = "axis" in PARAMETERS[name] and not given.get("group_size")
    made = _made("weight_quantizer", site, text, bits, **({"axis": 0} if by_channel else {}))
    if is_integer_weight(made):
        made.narrow()
    return made


def is_integer_weight(quantizer: Quantizer) -> bool:
    """Whether the integer product takes its weights: zero point 0, signed codes, a scale a channel or one."""
    fits = quantizer.axis in (None, 0) and quantizer.group_size == 0
    return quantizer.deployable and quantizer.centred and fits


def weight_scale_of(quantizer: Quantizer, weight: Tensor) -> Tensor:
    """float32 [n], of integer weights [n, k]."""
    with torch.no_grad():
        parameters = {name: value.detach() for name, value in quantizer.parameters_for(weight).items()}
        scale, _ = quantizer.grid(parameters)
    return scale.expand(weight.shape[0]).contiguous()
