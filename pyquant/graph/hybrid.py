"""HybridModel: integer segments in the engine, the named float ops between them in torch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import fx, nn

from pyquant.coverage import Coverage
from pyquant.engine import IntegerModel
from pyquant.errors import CoverageError
from pyquant.graph.aten import base_of, is_view, kind_of
from pyquant.graph.calling import bind_call, without_none
from pyquant.graph.grid import qparams_of
from pyquant.graph.lower import Lowering, NotLoweredError, lower_nodes
from pyquant.graph.prepared import Prepared
from pyquant.graph.sites import QuantizeSite, Site
from pyquant.qparams import QParams

__all__ = ["HybridModel", "Segment", "split"]


@dataclass(frozen=True, eq=False)
class Segment:
    """A connected run of integer sites as one program.

    Attributes
    ----------
    model : IntegerModel
        Its inputs and outputs are edges: float32 in torch, integers inside.
    inputs, outputs : tuple of str
        Graph nodes.
    axes : dict
        For each of them (axis, outer, inner): where the batch is, which the engine has in front
        (`Layout.batch_place`).
    """

    model: IntegerModel
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    axes: Mapping[str, tuple[int, int, int]]


class HybridModel(nn.Module):
    """What `pyquant.convert(prepared, partial=True)` gives. Needs torch; cannot be saved or trained."""

    def __init__(self, prepared: Prepared, plan: list[fx.Node | Segment], output: fx.Node) -> None:
        super().__init__()
        self.prepared = prepared
        self._plan = plan
        self._output = output

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The integer programs, in order."""
        return tuple(step for step in self._plan if isinstance(step, Segment))

    def coverage(self) -> Coverage:
        """As of the prepared model."""
        return self.prepared.coverage()

    def save(self, path: object) -> None:
        """Refuse: part of the model is torch code.

        Raises
        ------
        CoverageError
            Always, with the ops that would be lost.
        """
        found = self.coverage()
        names = ", ".join(f"{row.site} ({row.op})" for row in (*found.float_rows, *found.simulated_rows))
        raise CoverageError(f"save: a HybridModel cannot be saved; float ops: {names}")

    def __reduce_ex__(self, protocol: Any) -> Any:
        self.save(None)

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call it like the original model (without labels)."""
        signature = self.prepared._signature
        given = bind_call(signature, args, kwargs)
        env: dict[str, Any] = {}
        for step in self._plan:
            if isinstance(step, Segment):
                self._run_segment(step, env)
            elif step.op == "placeholder":
                if given.get(str(step.target)) is None:
                    raise TypeError(f"forward() is missing {step.target!r}")
                env[step.name] = given[str(step.target)]
            else:
                env[step.name] = self._run_node(step, env)
        results: Any = self._output.args[0]
        flat = [None if n is None else env[n.name] for n in results]
        return without_none(pytree.tree_unflatten(flat, signature.output_spec))

    def _run_node(self, node: fx.Node, env: dict[str, Any]) -> Any:
        if node.op == "get_attr":
            at: Any = self.prepared
            for part in str(node.target).split("."):
                at = getattr(at, part)
            return at
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: env[n.name])
        if isinstance(node.target, str):
            return self.prepared.get_submodule(node.target)(*args, **kwargs)
        return node.target(*args, **kwargs)

    def _run_segment(self, segment: Segment, env: dict[str, Any]) -> None:
        given = []
        for name in segment.inputs:
            axis, _, inner = segment.axes[name]
            value = env[name].detach().cpu()
            if axis >= 0:
                shape = value.shape
                value = value.reshape(*shape[:axis], -1, inner, *shape[axis + 1 :]).movedim(axis, 0)
                value = value.squeeze(axis + 1) if inner == 1 else value
            given.append(value.contiguous())
        results = segment.model(*given)
        if len(segment.outputs) == 1:
            results = (results,)
        for name, result in zip(segment.outputs, results, strict=True):
            axis, outer, inner = segment.axes[name]
            value = torch.from_numpy(result)
            if axis >= 0:
                if outer * inner == 1:
                    value = value.unsqueeze(axis + 1)
                shape = value.shape
                value = value.reshape(*shape[: axis + 1], outer, inner, *shape[axis + 2 :])
                value = value.movedim(0, axis + 1).flatten(axis, axis + 2)
            env[name] = value


def _batch_axis(node: fx.Node) -> tuple[int, int, int]:
    """Where an input has its batch. An axis of c * batch is taken as batch times c: that is how it lies in
    memory."""
    shape = node.meta.get("pq_shape")
    if shape is None:
        raise NotLoweredError(f"convert: the shape of {node.name} is no multiple of the batch", node)
    axis = next((i for i, size in enumerate(shape) if size < 0), -1)
    return axis, 1, abs(shape[axis]) if axis >= 0 else 1


def _site(prepared: Prepared, node: fx.Node) -> Site | None:
    module = prepared.get_submodule(str(node.target)) if node.op == "call_module" else None
    return module if isinstance(module, Site) else None


def split(prepared: Prepared) -> HybridModel:
    """Cut a prepared model into integer segments and float ops.

    A node's level counts the changes from float to integer on the longest path to it. All integer nodes of
    one level form one segment: an edge never leads from a level to a smaller one, so segments cannot wait for
    each other. Constants have no level: each segment holds those it reads. What turns out not to fit a
    program (a view across the batch, say) runs in torch like a float op.
    """
    prepared = copy.deepcopy(prepared)
    for site in prepared.sites().values():
        if site.simulated:
            site.mode = "frozen"  # torch runs them as they are in mode quantized, whatever mode they are in
    graph = prepared.inference_graph()
    left_out: set[fx.Node] = set()
    while True:
        try:
            return _plan(prepared, graph, left_out)
        except NotLoweredError as error:  # noqa: PERF203 - once for each op that is left out
            if error.node in left_out:
                raise
            left_out.add(error.node)


def _plan(prepared: Prepared, graph: fx.Graph, left_out: set[fx.Node]) -> HybridModel:
    fixed = _constants(graph)
    integer = {node: node not in left_out and _is_integer(prepared, node, fixed) for node in graph.nodes}
    level: dict[fx.Node, int] = {}
    for node in graph.nodes:
        edges = [s for s in node.all_input_nodes if s in level]
        if is_view(node) and integer[node]:
            integer[node] = integer[edges[0]] if edges else False
        if node not in fixed:
            level[node] = max((level[s] + (integer[node] and not integer[s]) for s in edges), default=0)
    needed = _needed_in_torch(graph, integer, fixed)
    plan: list[fx.Node | Segment] = [n for n in graph.nodes if n in needed]
    output = next(n for n in graph.nodes if n.op == "output")
    for stage in range(max(level.values()) + 1):
        mine = [n for n in level if integer[n] and level[n] == stage]
        if any(n.op == "call_module" for n in mine):
            plan.append(_segment(prepared, mine, fixed))
        plan.extend(n for n in level if not integer[n] and level[n] == stage and n.op != "output")
    return HybridModel(prepared, plan, output)


def _constants(graph: fx.Graph) -> set[fx.Node]:
    """Nodes that read parameters and buffers only."""
    fixed: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "get_attr" or (
            node.op in ("call_function", "call_module") and all(s in fixed for s in node.all_input_nodes)
        ):
            fixed.add(node)
    return fixed


def _is_integer(prepared: Prepared, node: fx.Node, fixed: set[fx.Node]) -> bool:
    """A site, or a view whose shape the engine can say (that its source is an edge is settled by the
    caller)."""
    if node in fixed:
        return False
    site = _site(prepared, node)
    if site is not None:
        return not site.simulated
    if not is_view(node):
        return False
    parts = [user for user in node.users if kind_of(user) == "getitem"]
    return all(n.meta.get("pq_shape") is not None for n in parts or [node])


def _needed_in_torch(graph: fx.Graph, integer: dict[fx.Node, bool], fixed: set[fx.Node]) -> set[fx.Node]:
    """Constants that a float op (or the output) reads, and what they are made from."""
    found: set[fx.Node] = set()
    for node in reversed(list(graph.nodes)):
        if node in fixed and any(
            user in found or (user not in fixed and not integer[user]) for user in node.users
        ):
            found.add(node)
    return found


def _with_sources(nodes: list[fx.Node], fixed: set[fx.Node]) -> list[fx.Node]:
    """The nodes, after the constant sites that they read."""
    found: dict[fx.Node, None] = {}

    def visit(node: fx.Node) -> None:
        for source in node.all_input_nodes:
            if source in fixed and source not in found:
                visit(source)
                if source.op == "call_module":
                    found[source] = None

    for node in nodes:
        visit(node)
    return [*found, *nodes]


def _segment(prepared: Prepared, nodes: list[fx.Node], fixed: set[fx.Node]) -> Segment:
    inside = set(nodes)
    entering: dict[fx.Node, None] = {}  # edges of earlier segments
    raw: dict[fx.Node, None] = {}  # float values that a quantize site takes in, and indices
    for node in nodes:
        site = _site(prepared, node)
        for source in node.all_input_nodes:
            if source in inside or source in fixed:
                continue
            if isinstance(site, QuantizeSite) or not _has_grid(source):
                if not _is_size(source):
                    raw[source] = None
            else:
                entering[source] = None
    outputs = [
        n for n in nodes if n.meta.get("pq_shape") is not None and any(u not in inside for u in n.users)
    ]

    def declare(to: Lowering) -> None:
        for source in entering:
            to.edges[source] = to.input(source, source.name, _grid_of(prepared, source))

    model, layouts = lower_nodes(prepared, _with_sources(nodes, fixed), declare, outputs, None, {})
    by_site = {_raw_site(prepared, nodes, source): source for source in raw}
    by_name = {source.name: source for source in (*entering, *raw)}
    by_name.update({str(source.target): source for source in raw if source.op == "placeholder"})
    names = tuple((by_site.get(name) or by_name[name]).name for name in model.input_names)
    places = {n.name: _batch_axis(n) for n in (*entering, *raw)}
    places.update({n.name: layout.batch_place() for n, layout in zip(outputs, layouts, strict=True)})
    return Segment(model, names, tuple(n.name for n in outputs), places)


def _raw_site(prepared: Prepared, nodes: list[fx.Node], source: fx.Node) -> str | None:
    """The quantize site inside the segment that takes a float value in."""
    for node in nodes:
        site = _site(prepared, node)
        if isinstance(site, QuantizeSite) and node.args[0] is source:
            return site.name
    return None


def _is_size(node: fx.Node) -> bool:
    """A batch size, which the engine knows by itself."""
    return node.op == "call_function" and node.meta.get("pq_shape") is None and not is_view(node)


def _has_grid(node: fx.Node) -> bool:
    return base_of(node).op == "call_module"


def _grid_of(prepared: Prepared, node: fx.Node) -> QParams:
    site = _site(prepared, base_of(node))
    assert site is not None
    return qparams_of(site.output)
