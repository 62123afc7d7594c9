"""What a site is: one compute node of the model, that runs in float, is observed, or runs as integers."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, fx, nn

from pyquant.config import SiteConfig
from pyquant.errors import CalibrationError
from pyquant.graph.capture import Captured
from pyquant.graph.grid import Edge, Grid
from pyquant.graph.passes import SiteError, recomputing
from pyquant.graph.quantizers import QuantizerGrid, edge_grid
from pyquant.graph.sites import simulated
from pyquant.methods import methods
from pyquant.observers import ChannelRange, FirstValues, Observer, keep_dtypes, make_observer
from pyquant.qparams import QParams

if TYPE_CHECKING:
    from pyquant.graph.lower import Lowering

__all__ = ["MODES", "REGISTRY", "Match", "Operand", "Outcome", "Rows", "Site", "register"]

MODES = ("float", "observe", "weights", "quantized", "frozen")


@dataclass(frozen=True)
class Match:
    """How a node becomes a site: which arguments are edges, and what else the site needs."""

    edges: tuple[fx.Node, ...]  # quantized operands, in order
    extras: tuple[Any, ...] = ()  # further graph values (weights, masks), passed after the edges
    kind: str = ""  # the name's last part where the node is functional
    settings: tuple[tuple[str, Any], ...] = ()  # keyword arguments of the site's constructor


class Outcome(NamedTuple):
    """What a site gave: float32 values, or integers standing for ``(values - zero_point) * scale``."""

    values: Tensor
    scale: float | None = None
    zero_point: int = 0


@dataclass(frozen=True)
class Operand:
    """The static half of an operand's grid; scale and zero point arrive with the value."""

    quant_min: int
    quant_max: int


@dataclass(frozen=True)
class Rows:
    """Where the samples of a result are that does not have the batch, and nothing else, as its first axis.

    Such are the edges inside `nn.MultiheadAttention`, tokens first; windows; and parameters, which have no
    batch.

    Parameters
    ----------
    first : int
        Length of the first axis: c for c, -c for c * batch.
    operand, size : int
        An argument of the site that tells the batch, -1 if none does, and its elements in one sample.
    """

    first: int
    operand: int
    size: int

    def a_sample(self, args: tuple[Any, ...]) -> float:
        """Rows of the first axis that are of one sample; a fraction, where the batch lies across."""
        batch = 1
        if self.operand >= 0:
            found = args[self.operand]
            batch = (found[0] if isinstance(found, tuple) else found).numel() // self.size
        return -self.first if self.first < 0 else self.first / max(batch, 1)


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
    method : str
        The setting that names which approximation of its function the site computes; empty if it has none.
    simulated : str
        Why the site computes its float function, and no integers, in mode ``quantized``: which quantizer has
        no grid, its own or that of an edge it reads. Empty if it computes integers.
    """

    kind: ClassVar[str] = ""
    takes_wide: ClassVar[tuple[bool, ...]] = (False,)
    gives_wide: ClassVar[bool] = False
    symmetric_operands: ClassVar[tuple[int, ...]] = ()
    quantizes_constants: ClassVar[bool] = False  # a constant operand arrives in float
    finite_extras: ClassVar[bool] = True  # weights must be; a mask may hold -inf
    method: ClassVar[str] = ""
    simulated: str = ""
    not_reduced: frozenset[str] = frozenset()  # parameters that DistributedDataParallel was made without
    rows: Rows | None = None  # None: a row of the result is a sample
    _rows_a_sample: float = 1.0  # in the call that runs

    def __init__(self, name: str, config: SiteConfig, wide: bool, symmetric: bool) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self._mode = "float"
        self.operands: tuple[Operand | None, ...] = ()
        self.wide, self.must_be_symmetric = wide, symmetric
        self.output = self._new_grid()
        self.observer: Observer = make_observer(self._observer_name, config)
        # Exponents of the sizes that learned scales had when an optimizer was made for them (`param_groups`).
        self.rates: dict[str, int] = {}
        # Outputs of the batch that runs, whose gradients an observer needs; None unless there is a loss.
        self.awaiting: list[Tensor] | None = None

    @property
    def mode(self) -> str:
        """One of `MODES`."""
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        self._mode = mode
        for name, parameter in self.named_parameters():
            takes_part = mode == "quantized" or (mode == "weights" and name.startswith("weight_"))
            parameter.requires_grad_(takes_part)

    def learned_scales(self) -> list[nn.Parameter]:
        """Scales that training changes. They want gradients where they take part: in mode ``quantized``, and
        those of weights in mode ``weights``."""
        return list(self.parameters())

    def with_quantized_weights(self, *args: Any) -> Tensor:
        """The float function of quantized weights; of what has none, just that."""
        return self.real(*args)

    def differentiable(self, *args: Any) -> Tensor:
        """The float function whose gradient training sees: of quantized weights only where their quantizer
        has a gradient of its own."""
        return self.real(*args)

    @property
    def simulate_only(self) -> tuple[tuple[str, str], ...]:
        """(setting, text) of the site's quantizers that have no grid."""
        return () if self.output.on_grid else (("quantizer", self.config.quantizer),)

    def _new_grid(self) -> Grid:
        config = self.config
        bits = config.residual_bits if self.wide else config.activation_bits
        symmetric = self.wide or self.must_be_symmetric or config.symmetric
        # Sixteen bits have nothing to gain from another scale.
        if config.quantizer not in ("fixed", "lsq") and bits <= 8:
            zero = "attention reads its edge" if self.must_be_symmetric else ""
            zero = zero or ("symmetric is set" if config.symmetric else "")
            return edge_grid(self.name, config.quantizer, bits, zero=zero)
        return Grid(bits, symmetric, learned=config.quantizer == "lsq" and bits <= 8)

    @property
    def _observer_name(self) -> str:
        return self.config.residual_observer if self.wide else self.config.observer

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
        if self.mode in ("quantized", "frozen", "weights"):
            run = self.with_quantized_weights if self.mode == "weights" else self.integer_of
            try:
                return run(*args)
            except RuntimeError as error:
                if type(error) is not RuntimeError:  # out of memory, say
                    raise
                raise SiteError(f"site {self.name!r}: {error}", self._advice(str(error))) from None
        y = self.real(*args)
        if self.mode != "observe":
            return y
        if self.observer.needs_gradient and self.awaiting is not None:
            y = y if y.requires_grad else y.detach().requires_grad_()
            self.awaiting.append(y)
        elif not recomputing():
            self._observe(y)
        return y

    def _observe(self, y: Tensor, grad: Tensor | None = None) -> None:
        try:
            self.observer(y, grad)
            self.output.observe(y)
        except RuntimeError as error:  # NaN or infinity: the op knows what, the site knows where
            raise CalibrationError(f"site {self.name!r}: {error}") from None

    def observe_gradients(self, gradients: Iterable[Tensor | None]) -> None:
        """What the observer waited for: the gradient of each output in `awaiting`, None where the loss does
        not depend on it."""
        for y, grad in zip(self.awaiting or (), gradients, strict=True):
            if grad is not None:
                self._observe(y, grad)

    def _advice(self, message: str) -> str:
        """What to do about an op's error, in training."""
        if not torch.is_grad_enabled():
            return ""
        if "NaN" in message or any(bool(scale.isnan().any()) for scale in self.learned_scales()):
            source = "look at the data; if it is clean, " if self.kind == "quantize" else ""
            return (
                f"; {source}training diverged in an earlier step: lower the learning rate, or clip gradients"
            )
        if simulated.scale_fell(self):
            return "; a learned scale fell to zero: lower its rate (pyquant.param_groups, scale_lr=)"
        return ""

    def integer_of(self, *args: Any) -> Tensor:
        """`integer` on operands of any float dtype."""
        of_registry = isinstance(self.output, QuantizerGrid)
        if self.rows is not None and not of_registry and self.output.scale.requires_grad:
            self._rows_a_sample = self.rows.a_sample(args)
        args = tuple(_in_float32(arg) for arg in args)
        if self.simulated or of_registry:
            return simulated.run(self, args)
        return self.integer(*args)

    def grid(self, index: int, edge: Edge) -> tuple[Tensor, Tensor | None, Tensor | None, int, int]:
        """(x, scale, zero_point, quant_min, quant_max) of an operand, the order in which the torch ops take
        them."""
        operand = self.operands[index]
        assert operand is not None
        return (*edge, operand.quant_min, operand.quant_max)

    def operand_grid(self, index: int, edge: Edge) -> QParams:
        """The grid of an operand on the host."""
        _, scale, zero_point, low, high = self.grid(index, edge)
        assert scale is not None
        assert zero_point is not None
        return QParams(float(scale.detach()), int(zero_point), low, high)

    @property
    def approximate_gradient(self) -> bool:
        """Whether an op with methods gives the gradient of what its method computes."""
        return self.config.gradient == "approximation"

    @property
    def y_grid(self) -> tuple[Tensor, Tensor, int, int]:
        """The output grid, in the order in which the torch ops take it."""
        scale = self.output.scale
        if self.rows is not None and scale.requires_grad and torch.is_grad_enabled():
            # The ops take a row for a sample (`output_gradient`); the same number, with another gradient.
            fixed = scale.detach()
            scale = fixed + (scale - fixed) * self._rows_a_sample**-0.5
        return scale, self.output.zero_point, self.output.quant_min, self.output.quant_max

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Site:
        keep_dtypes(fn, super()._apply, recurse)
        return self

    def observers(self) -> dict[str, Observer | ChannelRange | FirstValues]:
        """All that observe for this site, each of which can `merge` and `reset`, by name."""
        return {"observer": self.observer, **self.output.observers()}

    def reset_observers(self) -> None:
        """Forget what was observed."""
        for each in self.observers().values():
            each.reset()

    def calibrate_weights(self, *weights: Tensor) -> None:
        """Choose what calibration must choose of the weights; nothing by default."""

    # -- other settings for the same site --------------------------------------------------------------------

    @property
    def settings_used(self) -> frozenset[str]:
        """The fields of `SiteConfig` that change what this site computes."""
        method = {self.method} if self.method else set()
        if self.wide:
            return frozenset({"residual_bits", "residual_observer", "percentile", "lp_norm"} | method)
        symmetric = set() if self.must_be_symmetric else {"symmetric"}
        return frozenset({"activation_bits", "observer", "percentile", "lp_norm"} | symmetric | method)

    def methods(self) -> tuple[str, ...]:
        """Names of the methods that this site can run, for the setting `method`."""
        return tuple(methods(self.method)) if self.method else ()

    def with_settings(self, settings: Mapping[str, Any], *weights: Any) -> Site:
        """A copy that computes with other settings.

        It is what `prepare` with these settings and `calibrate` with the same batches would have made of this
        site alone: where settings concern the output grid, it is chosen anew from what the observer still
        knows, else it is copied.

        Parameters
        ----------
        settings : mapping
            Fields of `SiteConfig`, of which `settings_used` matter.
        *weights
            Values of the site's extras, of which scales may have to be chosen (`calibrate_weights`).

        Raises
        ------
        CalibrationError
            The grid should change, and nothing was observed.
        ValueError
            Settings that do not go together, or an observer whose knowledge calibration did not keep.
        """
        made = self._copied()
        made.config = replace(self.config, **settings)
        grid = made._new_grid()
        if (grid.bits, grid.symmetric) == (self.output.bits, self.output.symmetric) and not any(
            name in settings and settings[name] != getattr(self.config, name)
            for name in self.settings_used & {"observer", "residual_observer", "percentile", "lp_norm"}
        ):
            return made
        if self.observer.empty:
            raise CalibrationError(f"site {self.name!r} has observed nothing; calibrate first")
        made.observer = self.observer.seen_by(made._observer_name, made.config)
        made.output = grid.to(next(self.output.buffers()).device)
        try:
            made.output.adopt(made.output.choose(made.observer, self.output))
        except CalibrationError as error:
            raise CalibrationError(f"site {self.name!r}: {error}") from None
        return made

    def _copied(self) -> Site:
        """A copy with state of its own, but for the observers, which are only read. A tenth of the time of
        `copy.deepcopy`: there is one for every candidate of every site."""
        made = copy.copy(self)
        for kind in ("_parameters", "_buffers"):
            own = getattr(self, kind).items()
            object.__setattr__(made, kind, {name: copy.deepcopy(value) for name, value in own})
        object.__setattr__(made, "_modules", dict(self._modules))
        made.rates = {}
        made.output = self.output.copied()
        return made

    def outcomes(self, others: Iterable[Site], *args: Any) -> Iterator[Outcome]:
        """What copies of this site with other settings (`with_settings`) give on the same operands.

        A kind of site may share work between them; the values are those of `integer_of`.
        """
        for other in others:
            yield Outcome(other.integer_of(*args))

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
