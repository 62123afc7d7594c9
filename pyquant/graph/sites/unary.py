"""Element-wise functions of one int8 edge: a table of 256 bytes each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx

from pyquant import ops
from pyquant.config import SiteConfig
from pyquant.graph.aten import aten
from pyquant.graph.capture import Captured
from pyquant.graph.functional import quick_gelu
from pyquant.graph.grid import Edge, qparams_of
from pyquant.graph.sites.base import Match, Outcome, Site, register
from pyquant.graph.sites.integers import integers_of, on_cpu, threads
from pyquant.numerics import derive_table, unary_functions
from pyquant.torch_ops.unary_functions import REAL

if TYPE_CHECKING:
    from pyquant.graph.lower import Lowering


# ATen target -> table, where the node has no further arguments.
_TARGETS: dict[Any, str] = {
    aten.relu.default: "relu",
    aten.relu_.default: "relu",
    aten.gelu.default: "gelu",
    quick_gelu: "quick_gelu",
    aten.silu.default: "silu",
    aten.silu_.default: "silu",
    aten.sigmoid.default: "sigmoid",
    aten.tanh.default: "tanh",
    aten.hardswish.default: "hardswish",
    aten.hardswish_.default: "hardswish",
    aten.hardsigmoid.default: "hardsigmoid",
    aten.relu6.default: "relu6",
    aten.elu.default: "elu",
    aten.mish.default: "mish",
    aten.softplus.default: "softplus",
    aten.exp.default: "exp",
    aten.abs.default: "abs",
}


@register
class UnarySite(Site):
    """Any function of `_TARGETS`."""

    kind = "unary"
    method = "unary"

    def __init__(self, name: str, config: SiteConfig, wide: bool, symmetric: bool, *, function: str) -> None:
        super().__init__(name, config, wide, symmetric)
        self.function = function
        known = unary_functions(config.unary)
        if function not in known:
            raise ValueError(
                f"site {name!r}: method {config.unary} has no {function}; it has {', '.join(known)}. "
                f'Give this site another, for example by override({name!r}, unary="table")'
            )

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """One float operand, default arguments (GELU: both forms)."""
        name = _TARGETS.get(node.target) if node.op == "call_function" else None
        if name is None:
            return None
        if name == "gelu" and node.kwargs.get("approximate", "none") == "tanh":
            name = "gelu_tanh"
        elif len(node.args) != 1 or (node.kwargs and name != "gelu"):
            return f"{name} with arguments of its own"
        x = node.args[0]
        assert isinstance(x, fx.Node)
        return Match((x,), (), name, (("function", name),))

    def real(self, x: Edge) -> Tensor:
        """The float function."""
        return REAL[self.function](x[0])

    def integer(self, x: Edge) -> Tensor:
        """table_s8."""
        y: Tensor = torch.ops.pyquant.unary(
            *self.grid(0, x), self.function, self.config.unary, *self.y_grid, self.approximate_gradient
        )
        return y

    def outcomes(self, others: Iterable[Site], *args: Any) -> Iterator[Outcome]:
        """Each is a function of 256 codes, and asked once for each; the operand is quantized once."""
        x, scale, zero_point = args[0]
        if self.simulated or not on_cpu(x):
            yield from super().outcomes(others, *args)
            return
        grid = self.operand_grid(0, args[0])
        codes = np.arange(-128, 128, dtype=np.int8).clip(grid.quant_min, grid.quant_max)
        values = torch.from_numpy(ops.dequantize(codes, grid.scale, grid.zero_point))
        q = integers_of(x, grid)
        for other in others:
            y = qparams_of(other.output)
            table = ops.quantize(other.integer_of((values, scale, zero_point)).detach().numpy(), *y)
            found = ops.table(q, table, threads=threads())
            yield Outcome(torch.from_numpy(found), y.scale, y.zero_point)

    def methods(self) -> tuple[str, ...]:
        """Those that have this function."""
        return tuple(name for name in super().methods() if self.function in unary_functions(name))

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One TABLE over the elements as they lie."""
        layout, x = to.elements(to.operand(node.args[0]))
        grid = qparams_of(self.output)
        table = derive_table(self.function, to.grid_of(layout), grid, self.config.unary)
        to.put(node, layout.onto(to.builder.table(x, table, grid, name=self.name)))
