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
from pyquant.graph.aten import is_view
from pyquant.graph.lower import Lowering, lower_nodes
from pyquant.graph.prepared import Prepared, _bind, _without_none
from pyquant.graph.sites import QuantizeSite, Site

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
        For each of them, the axis that holds the batch (the engine has it first) and its multiple.
    """

    model: IntegerModel
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    axes: Mapping[str, tuple[int, int]]


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
        names = ", ".join(f"{row.site} ({row.op})" for row in self.coverage().float_rows)
        raise CoverageError(f"save: a HybridModel cannot be saved; float ops: {names}")

    def __reduce_ex__(self, protocol: Any) -> Any:
        self.save(None)

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call it like the original model (without labels)."""
        signature = self.prepared._signature
        given = _bind(signature, type(self).__name__, args, kwargs)
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
        flat = [None if n is None else env[n.name] for n in self._output.args[0]]  # type: ignore[union-attr]
        return _without_none(pytree.tree_unflatten(flat, signature.output_spec))

    def _run_node(self, node: fx.Node, env: dict[str, Any]) -> Any:
        if node.op == "get_attr":
            at: Any = self.prepared
            for part in str(node.target).split("."):
                at = getattr(at, part)
            return at
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: env[n.name])
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _run_segment(self, segment: Segment, env: dict[str, Any]) -> None:
        given = []
        for name in segment.inputs:
            axis, multiple = segment.axes[name]
            value = env[name].detach().cpu()
            if axis >= 0:
                shape = value.shape
                value = value.reshape(*shape[:axis], -1, multiple, *shape[axis + 1:]).movedim(axis, 0)
                if multiple == 1:
                    value = value.squeeze(axis + 1)
            given.append(value.contiguous())
        results = segment.model(*given)
        if len(segment.outputs) == 1:
            results = (results,)
        for name, result in zip(segment.outputs, results):
            axis, multiple = segment.axes[name]
            value = torch.from_numpy(result)
            if axis >= 0:
                if multiple == 1:
                    value = value.unsqueeze(axis + 1)
                value = value.movedim(0, axis).flatten(axis, axis + 1)
            env[name] = value


def _batch_axis(node: fx.Node) -> tuple[int, int]:
    shape = node.meta.get("pq_shape")
    if shape is None:
        raise CoverageError(f"convert: the shape of {node.name} is no multiple of the batch")
    axis = next((i for i, size in enumerate(shape) if size < 0), -1)
    return axis, abs(shape[axis]) if axis >= 0 else 1


def _site(prepared: Prepared, node: fx.Node) -> Site | None:
    return prepared.get_submodule(str(node.target)) if node.op == "call_module" else None  # type: ignore[return-value]


def split(prepared: Prepared) -> HybridModel:
    """Cut a prepared model into integer segments and float ops.

    A node's level counts the changes from float to integer on the longest path to it. All integer nodes of one level
    form one segment: an edge never leads from a level to a smaller one, so segments cannot wait for each other.
    """
    prepared = copy.deepcopy(prepared)
    graph = prepared.inference_graph()
    integer: dict[fx.Node, bool] = {}
    level: dict[fx.Node, int] = {}
    for node in graph.nodes:
        sources = node.all_input_nodes
        edges = [s for s in sources if level.get(s) is not None]
        if node.op == "call_module":
            integer[node] = True
        elif is_view(node):
            integer[node] = integer[edges[0]] if edges else False
        else:
            integer[node] = False
        level[node] = max((level[s] + (integer[node] and not integer[s] and s.op != "get_attr") for s in edges), default=0)
    plan: list[fx.Node | Segment] = []
    output = next(n for n in graph.nodes if n.op == "output")
    for stage in range(max(level.values()) + 1):
        mine = [n for n in graph.nodes if integer[n] and level[n] == stage]
        if any(n.op == "call_module" for n in mine):
            plan.append(_segment(prepared, mine))
        plan.extend(n for n in graph.nodes if not integer[n] and level[n] == stage and n.op != "output")
    return HybridModel(prepared, plan, output)


def _segment(prepared: Prepared, nodes: list[fx.Node]) -> Segment:
    inside = set(nodes)
    entering: dict[fx.Node, None] = {}  # edges of earlier segments
    raw: dict[fx.Node, None] = {}  # float values that a quantize site takes in, and indices
    for node in nodes:
        site = _site(prepared, node)
        for source in node.all_input_nodes:
            if source in inside or source.op == "get_attr":
                continue
            if isinstance(site, QuantizeSite) or not _has_grid(prepared, source):
                if not _is_constant(source):
                    raw[source] = None
            else:
                entering[source] = None
    outputs = [n for n in nodes if n.meta.get("pq_shape") is not None and any(u not in inside for u in n.users)]

    def declare(to: Lowering) -> None:
        for source in entering:
            to.edges[source] = to.input(source, source.name, _grid_of(prepared, source))

    model = lower_nodes(prepared, nodes, declare, outputs, None, {})
    by_site = {str(_raw_site(prepared, nodes, source)): source for source in raw}
    names: list[str] = []
    for name in model.input_names:
        source = by_site.get(name) or next((s for s in (*entering, *raw) if s.name == name), None)
        assert source is not None
        names.append(source.name)
    touched = [*entering, *raw, *outputs]
    return Segment(model, tuple(names), tuple(n.name for n in outputs), {n.name: _batch_axis(n) for n in touched})


def _raw_site(prepared: Prepared, nodes: list[fx.Node], source: fx.Node) -> str | None:
    """The quantize site inside the segment that takes a float value in."""
    for node in nodes:
        site = _site(prepared, node)
        if isinstance(site, QuantizeSite) and node.args[0] is source:
            return site.name
    return None


def _is_constant(node: fx.Node) -> bool:
    return node.op == "get_attr" or (node.op == "call_function" and all(_is_constant(s) for s in node.all_input_nodes))


def _base(node: fx.Node) -> fx.Node:
    while is_view(node) and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _has_grid(prepared: Prepared, node: fx.Node) -> bool:
    return _base(node).op == "call_module"


def _grid_of(prepared: Prepared, node: fx.Node) -> Any:
    from pyquant.graph.grid import qparams_of

    site = _site(prepared, _base(node))
    assert site is not None
    return qparams_of(site.output)
