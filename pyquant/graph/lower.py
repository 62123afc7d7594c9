"""From a calibrated Prepared to an integer program.

Each site lowers itself (`Site.lower`); what stands here is what they share: operands as layouts, views,
copies where a layout cannot be had for nothing, constants, and the program's inputs and outputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy.typing as npt
from torch import fx, nn

from pyquant.engine import IntegerModel, ProgramBuilder
from pyquant.engine.spec import Value
from pyquant.errors import CoverageError
from pyquant.graph.aten import (
    argument,
    aten,
    int_argument,
    ints_argument,
    is_view,
    kind_of,
    node_argument,
    uses,
)
from pyquant.graph.layout import BATCH, CopyNeededError, Layout, Stored, dense_layout, quantized
from pyquant.graph.values import constant_of
from pyquant.qparams import QParams

__all__ = ["Lowering", "NotLoweredError", "lower_nodes"]

MAX_COPY_AXES = 8  # PQ_MAX_DIMS
_T = TypeVar("_T")


class NotLoweredError(CoverageError):
    """A node that the engine cannot express although all its sites are integer."""

    def __init__(self, message: str, node: fx.Node) -> None:
        super().__init__(message)
        self.node = node


class Lowering:
    """The state of one lowering: which layout each graph node has in the program under construction."""

    def __init__(self, prepared: nn.Module) -> None:
        self.prepared = prepared
        self.builder = ProgramBuilder()
        self.edges: dict[fx.Node, Layout] = {}
        self.tuples: dict[fx.Node, list[Layout]] = {}
        self.memo: dict[fx.Node, Any] = {}
        self.views: dict[str, dict[str, Any]] = {}  # site -> how its stored integers make the edge

    # -- values ----------------------------------------------------------------------------------------------

    def constant(self, node: Any) -> npt.NDArray[Any] | None:
        """The value of a parameter expression; None if the node is None or depends on an input."""
        if not isinstance(node, fx.Node):
            return None
        value = constant_of(self.prepared, node, self.memo)
        return None if value is None else value.detach().cpu().numpy()

    def constant_layout(self, node: fx.Node, grid: QParams) -> Layout:
        """A float constant on a grid. One that is repeated over the batch is taken before the repetition."""
        array = self.constant(node)
        if array is not None:
            return dense_layout(Stored(quantized(array, grid), grid), array.shape)
        source = node.args[0]
        if not is_view(node) or not isinstance(source, fx.Node):
            raise CoverageError(f"convert: {node.name} ({kind_of(node)}) is not a constant")
        return _apply(self.constant_layout(source, grid), node)

    def index(self, node: fx.Node) -> Layout:
        """Indices (token ids) that come from an input of the program."""
        if node not in self.edges:
            if node.op == "placeholder":
                self.edges[node] = self.input(node, str(node.target), None, "int32")
            elif is_view(node) and isinstance(node.args[0], fx.Node):
                self.edges[node] = _apply(self.index(node.args[0]), node)
            else:
                raise CoverageError(f"convert: indices computed by {kind_of(node)} have no integer form")
        return self.edges[node]

    def operand(self, argument: Any) -> Layout:
        """The layout of an edge argument ``(value, scale, zero_point)`` of a site."""
        return self.layout(argument[0])

    def layout(self, node: fx.Node) -> Layout:
        """The layout of a node, worked out through views."""
        if node not in self.edges:
            if not is_view(node):
                raise CoverageError(f"convert: {node.name} ({kind_of(node)}) has no integer form")
            self.edges[node] = self._view(node)
        return self.edges[node]

    def put(self, node: fx.Node, layout: Layout) -> None:
        """Record the result of a site."""
        self.edges[node] = layout
        if isinstance(layout.value, Value) and layout.dense:
            self.views[layout.value.name] = _view_of(layout)

    def grid_of(self, layout: Layout) -> QParams:
        """The grid of an edge."""
        grid = layout.value.grid
        assert isinstance(grid, QParams)
        return grid

    def stored(self, layout: Layout) -> Value:
        """The value behind a layout, as part of the program."""
        if isinstance(layout.value, Stored):
            return self.builder.constant(layout.value.array, grid=layout.value.grid)
        value = layout.value
        assert isinstance(value, Value)
        return value

    def shaped(self, layout: Layout, shape: Sequence[int]) -> Value:
        """The value behind a layout under another per-sample shape (no work)."""
        value = self.stored(layout)
        return value if value.shape == tuple(shape) else self.builder.reshape(value, tuple(shape))

    def rows(self, layout: Layout) -> tuple[Layout, Value]:
        """An edge as a matrix of rows over its last axis, in whatever order the rows lie."""
        if not layout.rows or isinstance(layout.value, Stored):
            layout = self.materialise(layout)
        channels = abs(layout.shape[-1])
        value = self.stored(layout)
        if not value.shape or value.shape[-1] != channels:
            value = self.shaped(layout, (layout.size // max(channels, 1), channels))
        return layout, value

    def elements(self, layout: Layout) -> tuple[Layout, Value]:
        """An edge whose elements may be visited in any order."""
        if not layout.dense or isinstance(layout.value, Stored):
            layout = self.materialise(layout)
        return layout, self.stored(layout)

    def materialise(self, layout: Layout) -> Layout:
        """A copy stored in the order of the axes."""
        if isinstance(layout.value, Stored):
            return layout.compact(Stored(layout.array(layout.value.array), layout.value.grid))
        if layout.standard:
            return layout
        atoms = layout.atoms
        if len(atoms) > MAX_COPY_AXES:
            raise CoverageError(
                f"convert: a view of {len(atoms)} axes; the engine copies at most {MAX_COPY_AXES}"
            )
        batched = any(BATCH in axis for axis in layout.axes)
        value = self.builder.copy(
            layout.value, [a.size for a in atoms], [a.stride for a in atoms], layout.offset, batched=batched
        )
        return layout.compact(value)

    # -- views -----------------------------------------------------------------------------------------------

    def _view(self, node: fx.Node) -> Layout:
        source = node_argument(node, 0)
        if kind_of(node) == "getitem":
            if source not in self.tuples:
                self.tuples[source] = self._anyhow(
                    node, self.layout(node_argument(source, 0)), source, _split
                )
            return self.tuples[source][int_argument(node, 1)]
        return self._anyhow(node, self.layout(source), node, _apply)

    def _anyhow(
        self, reader: fx.Node, layout: Layout, view: fx.Node, apply: Callable[[Layout, fx.Node], _T]
    ) -> _T:
        """Apply a view, to a copy if it must be."""
        try:
            return apply(layout, view)
        except CopyNeededError:
            pass
        try:
            return apply(self.materialise(layout), view)
        except CopyNeededError as error:
            raise NotLoweredError(
                f"convert: the view {view.name} cannot be laid out: {error}", reader
            ) from None

    # -- inputs and outputs ----------------------------------------------------------------------------------

    def input(self, node: fx.Node, name: str, grid: QParams | None, dtype: str | None = None) -> Layout:
        """An argument of the program; its batch axis is outermost in storage wherever it stands in the
        edge."""
        shape = _shape(node)
        plain = dense_layout(None, shape)
        sizes = [abs(size) for size in shape]
        if shape and shape[0] == -1:
            sizes = sizes[1:]
        value = self.builder.input(name, sizes, grid, dtype=dtype, batched=any(s < 0 for s in shape))
        return plain.onto(value)

    def output(self, node: fx.Node) -> tuple[Value, Layout]:
        """A result: stored in the order of its axes, with the batch taken out to the front."""
        layout = self.layout(node)
        if isinstance(layout.value, Stored):
            raise NotLoweredError(f"convert: output {node.name} is a constant", node)
        layout = self.materialise(layout)
        axis = layout.batch_place()[0]
        shape = [abs(size) for size in layout.shape]
        if axis >= 0 and shape[axis] == 1:
            del shape[axis]
        return self.shaped(layout, shape), layout


def lower_nodes(
    prepared: nn.Module,
    nodes: Iterable[fx.Node],
    inputs: Callable[[Lowering], None],
    outputs: Sequence[fx.Node],
    structure: Any,
    metadata: dict[str, Any],
) -> tuple[IntegerModel, list[Layout]]:
    """Lower some nodes of a graph, in order, to a program; also how each output lies (its values are of no
    use).

    Parameters
    ----------
    nodes : iterable of torch.fx.Node
        Sites among them lower themselves; views are worked out when they are read.
    inputs : callable
        Declares inputs that no quantize site declares.
    outputs : sequence of torch.fx.Node
        Edges that the program returns.
    structure : JSON tree or None
        See `pyquant.engine.structure`.
    metadata : dict
        Stored with the program; ``views`` is added.

    Raises
    ------
    NotLoweredError
        Names the node that cannot be lowered.
    """
    to = Lowering(prepared)
    inputs(to)
    for node in nodes:
        if node.op == "call_module":
            site: Any = prepared.get_submodule(str(node.target))
            try:
                site.lower(to, node)
            except CopyNeededError as error:
                raise NotLoweredError(f"convert: {site.name}: {error}", node) from None
            except NotLoweredError:
                raise
            except CoverageError as error:
                raise NotLoweredError(str(error), node) from None
    results = [to.output(node) for node in outputs]
    model = to.builder.finish(
        [value for value, _ in results], structure=structure, metadata={**metadata, "views": to.views}
    )
    return model, [layout for _, layout in results]


def _shape(node: fx.Node) -> tuple[int, ...]:
    shape = node.meta.get("pq_shape")
    if shape is None:
        raise CoverageError(f"convert: the shape of {node.name} is no multiple of the batch")
    return tuple(shape)


def _apply(layout: Layout, node: fx.Node) -> Layout:
    rank = len(layout.axes)
    if uses(node, aten.permute.default):
        return layout.permute([d % rank for d in ints_argument(node, 1)])
    if uses(node, aten.transpose.int):
        order = list(range(rank))
        a, b = int_argument(node, 1) % rank, int_argument(node, 2) % rank
        order[a], order[b] = order[b], order[a]
        return layout.permute(order)
    if uses(node, aten.t.default):
        return layout.permute(list(reversed(range(rank))))
    if uses(node, aten.unsqueeze.default):
        return layout.unsqueeze(int_argument(node, 1))
    if uses(node, aten.squeeze.dim):
        return layout.squeeze([int_argument(node, 1)])
    if uses(node, aten.squeeze.dims):
        return layout.squeeze(ints_argument(node, 1))
    if uses(node, aten.squeeze.default):
        return layout.squeeze(range(rank))
    if uses(node, aten.expand.default):
        return layout.expand(_shape(node))
    if uses(node, aten.select.int):
        return layout.select(int_argument(node, 1) % rank, int_argument(node, 2))
    if uses(node, aten.slice.Tensor):
        start, stop = argument(node, 2), argument(node, 3)
        return layout.slice(
            int_argument(node, 1) % rank,
            0 if start is None else int(start),
            2**62 if stop is None else int(stop),
            int_argument(node, 4, 1),
        )
    if uses(node, aten.clone.default, aten.contiguous.default, aten.alias.default, aten.detach.default):
        return layout
    return layout.reshape(_shape(node))  # view, reshape, flatten, unflatten


def _split(layout: Layout, node: fx.Node) -> list[Layout]:
    rank = len(layout.axes)
    if uses(node, aten.unbind.int):
        dim = int_argument(node, 1) % rank
        return [layout.select(dim, i) for i in range(abs(layout.shape[dim]))]
    dim = int_argument(node, 2) % rank
    length = abs(layout.shape[dim])
    sizes = argument(node, 1)
    if uses(node, aten.chunk.default):
        sizes = -(-length // int(sizes))
    if isinstance(sizes, int):
        sizes = [min(sizes, length - start) for start in range(0, length, sizes)]
    starts = [0, *itertools.accumulate(int(size) for size in sizes)]
    return [layout.slice(dim, a, b, 1) for a, b in itertools.pairwise(starts)]


def _view_of(layout: Layout) -> dict[str, Any]:
    """How stored integers [batch, size] make the edge: reshape to sizes, transpose, reshape to shape (-c: c *
    batch)."""
    atoms = layout.atoms
    physical = layout.physical()
    place = {index: i + 1 for i, index in enumerate(physical)}
    order, number, batched = [], 0, False
    for axis in layout.axes:
        for atom in axis:
            if atom == BATCH:
                order.append(0)
                batched = True
            else:
                order.append(place[number])
                number += 1
    if not batched:
        order.insert(0, 0)
    return {"sizes": [atoms[i].size for i in physical], "order": order, "shape": list(layout.shape)}
