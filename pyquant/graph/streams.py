"""Walk a prepared graph node by node, the float value and the quantized one of each edge side by side.

A prepared model runs its whole graph in the modes of its sites. Questions about single sites (which one
hurts, which approximation suits it) need both values of every edge, and only for as long as somebody reads
them: here each node is computed once a stream, and a value is dropped after its last reader. Modes are
neither read nor changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor, fx

from pyquant.graph.prepared import Prepared
from pyquant.graph.sites import Site

__all__ = ["Pair", "Shape", "SiteVisit", "Walk"]

Shape: TypeAlias = "tuple[int, ...] | None"
"""Sizes as nodes keep them: c for c, -c for c * batch; None where a size is neither."""


class Pair(NamedTuple):
    """One value in both streams."""

    x: Any
    xq: Any

    @property
    def shared(self) -> bool:
        """Whether it is one object: no quantizer lies upstream."""
        return self.x is self.xq


@dataclass(frozen=True)
class SiteVisit:
    """A site as the joint walk passes it.

    Attributes
    ----------
    node : torch.fx.Node
    site : Site
    x, xq : tuple
        The arguments of `Site.real` and of `Site.integer_of`, with all upstream in float, or quantized.
    y : Tensor
        The float function of the float stream.
    yq : Tensor
        What the site gives in the quantized model.
    """

    node: fx.Node
    site: Site
    x: tuple[Any, ...]
    xq: tuple[Any, ...]
    y: Tensor
    yq: Tensor

    @property
    def shape(self) -> Shape:
        """Of `y`, as the graph knows it."""
        shape: Shape = self.node.meta.get("pq_shape")
        return shape

    @property
    def inputs(self) -> list[tuple[Pair, Shape]]:
        """The values that the streams may disagree on, edges and floats that the site quantizes, and their
        shapes."""
        found = []
        for source, a, b in zip(self.node.args, self.x, self.xq, strict=True):
            if isinstance(source, tuple):
                source, a, b = source[0], a[0], b[0]
            if a is not b:
                assert isinstance(source, fx.Node)
                found.append((Pair(a, b), source.meta.get("pq_shape")))
        return found


class Walk:
    """A prepared graph as a list of steps, without the inputs in `missing`.

    Attributes
    ----------
    sites : dict
        Site name -> (node, site), in execution order.
    at : str
        Name of the site that is, or was last, at work.
    float_seconds : float
        Time that `joint` has spent on the float stream so far.
    """

    def __init__(self, prepared: Prepared, missing: frozenset[str] = frozenset()) -> None:
        self.prepared = prepared
        self.missing = missing
        self.at = ""
        self.float_seconds = 0.0
        self._nodes = tuple(prepared.graph_without(missing).nodes)
        self._placeholders = [node for node in self._nodes if node.op == "placeholder"]
        self._sites = {node: self._site(node) for node in self._nodes if node.op == "call_module"}
        self._attributes = {node: self._owner(node) for node in self._nodes if node.op == "get_attr"}
        self.sites = {site.name: (node, site) for node, site in self._sites.items()}
        last: dict[fx.Node, fx.Node] = {}
        for node in self._nodes:
            last[node] = node
            last.update(dict.fromkeys(node.all_input_nodes, node))
        self._drops: dict[fx.Node, list[fx.Node]] = {}
        for node, reader in last.items():
            self._drops.setdefault(reader, []).append(node)

    def _site(self, node: fx.Node) -> Site:
        site = self.prepared.get_submodule(str(node.target))
        assert isinstance(site, Site)
        return site

    def _owner(self, node: fx.Node) -> tuple[Any, str]:
        path, _, leaf = str(node.target).rpartition(".")
        return self.prepared.get_submodule(path), leaf

    @property
    def input_names(self) -> list[str]:
        """The inputs that are given, in the order in which the walks take their values."""
        return [str(node.target) for node in self._placeholders]

    def samples(self, inputs: Sequence[Any]) -> int:
        """How many samples the inputs hold; 1 if none has a batch."""
        for node, value in zip(self._placeholders, inputs, strict=True):
            for axis, size in enumerate(node.meta.get("pq_shape") or ()):
                if size < 0:
                    return int(value.shape[axis] // -size)
        return 1

    # -- both streams ----------------------------------------------------------------------------------------

    def joint(self, inputs: Sequence[Any]) -> Iterator[SiteVisit]:
        """Both streams at once, one visit a site, in execution order."""
        values = {node: Pair(x, x) for node, x in zip(self._placeholders, inputs, strict=True)}
        for node in self._nodes:
            site = self._sites.get(node)
            if site is not None:
                self.at = site.name
                x = fx.map_arg(node.args, lambda n: values[n].x)
                xq = fx.map_arg(node.args, lambda n: values[n].xq)
                visit = SiteVisit(node, site, x, xq, self._timed(site.real, *x), site.integer_of(*xq))
                values[node] = Pair(visit.y, visit.yq)
                del x, xq
                yield visit
                del visit
            elif node.op not in ("placeholder", "output"):
                values[node] = self._both(node, values)
            self._drop(node, values)

    def _both(self, node: fx.Node, values: Mapping[fx.Node, Pair]) -> Pair:
        """A node that is no site: computed once where the streams cannot differ."""
        y = self._timed(self._plain, node, {source: values[source].x for source in node.all_input_nodes})
        if all(values[source].shared for source in node.all_input_nodes) or not isinstance(
            y, (Tensor, list, tuple)
        ):
            return Pair(y, y)  # a size is the same in both
        return Pair(y, self._plain(node, {source: values[source].xq for source in node.all_input_nodes}))

    def _timed(self, call: Callable[..., Any], *args: Any) -> Any:
        started = time.perf_counter()
        result = call(*args)
        self.float_seconds += time.perf_counter() - started
        return result

    # -- the float stream, and what follows from another result of one site ----------------------------------

    def outputs(self, inputs: Sequence[Any]) -> list[Any]:
        """The graph's outputs with every site in float."""
        return self._finish(0, dict(zip(self._placeholders, inputs, strict=True)))

    def replaced(
        self, inputs: Sequence[Any]
    ) -> Iterator[tuple[Site, tuple[Any, ...], Callable[[Tensor], list[Any]]]]:
        """For each site, in execution order: the site, its arguments in the float stream, and a function that
        gives the graph's outputs if the site's result were another and all the rest float.

        What lies before the site is not computed again.
        """
        values: dict[fx.Node, Any] = dict(zip(self._placeholders, inputs, strict=True))
        for index, node in enumerate(self._nodes):
            site = self._sites.get(node)
            if site is not None:
                self.at = site.name
                x = fx.map_arg(node.args, values.__getitem__)

                def outputs(y: Tensor, index: int = index, node: fx.Node = node) -> list[Any]:
                    after = {**values, node: y}
                    self._drop(node, after)
                    return self._finish(index + 1, after)

                yield site, x, outputs
                values[node] = site.real(*x)
                del x
            elif node.op not in ("placeholder", "output"):
                values[node] = self._plain(node, values)
            self._drop(node, values)

    def _finish(self, start: int, values: dict[fx.Node, Any]) -> list[Any]:
        """The rest of the graph in float; `values` is used up."""
        for node in self._nodes[start:]:
            site = self._sites.get(node)
            if site is not None:
                values[node] = site.real(*fx.map_arg(node.args, values.__getitem__))
            elif node.op == "output":
                return list(fx.map_arg(node.args[0], values.__getitem__))
            elif node.op != "placeholder":
                values[node] = self._plain(node, values)
            self._drop(node, values)
        raise AssertionError("a graph ends in its output")

    # -- one node --------------------------------------------------------------------------------------------

    def _plain(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
        """A node that is no site."""
        if node.op == "get_attr":
            owner, leaf = self._attributes[node]
            return getattr(owner, leaf)
        args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _drop(self, node: fx.Node, values: dict[fx.Node, Any]) -> None:
        for gone in self._drops.get(node, ()):
            values.pop(gone, None)
