"""From a normal-form graph to a graph over sites: who is a site, what it is called, how wide its edges
are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from pyquant.config import QuantConfig, SiteConfig
from pyquant.graph.aten import base_of, batch_factor, depends_on_inputs, is_float, is_view, kind_of, of_labels
from pyquant.graph.capture import Captured
from pyquant.graph.sites import REGISTRY, Match, Operand, QuantizeSite, RequantizeSite, Rows, Site
from pyquant.graph.sites.simulated import reason, what_is_on

__all__ = ["Built", "Row", "attribute", "build", "plain_shape"]

Row = tuple[str, str, str, str]  # site, op, kind (integer / folded / view / float / simulated), reason
_LEFT_OUT = "not part of inference"


@dataclass
class Built:
    """A graph whose site nodes are ``call_module`` of ``pq_sites``."""

    graph: fx.Graph
    sites: nn.ModuleDict | nn.Module
    rows: list[Row]
    site_nodes: dict[str, str] = field(default_factory=dict)  # site name -> node name


@dataclass
class _Plan:
    """What is decided about a node of the old graph before the new one is written."""

    cls: type[Site]
    match: Match
    name: str
    config: SiteConfig
    wide: bool = False
    symmetric: bool = False


def attribute(name: str) -> str:
    """A site's name as a module name, which may hold no dot."""
    return name.replace(".", "/")


def plain_shape(node: fx.Node) -> tuple[int, ...] | None:
    """Sizes as plain integers that pickle: c for c, -c for c * batch; None where a size is neither."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        return None
    try:
        factors = [(batch_factor(size), size) for size in value.shape]
    except ValueError:
        return None
    return tuple(int(size) if factor is None else -factor for factor, size in factors)


def _rows(new: fx.Node) -> Rows | None:
    """How the result of a site node lies; None where the first axis is the batch, or none can tell."""
    shape = new.meta.get("pq_shape")
    if not shape or shape[0] in (-1, 0) or (shape[0] == 1 and min(shape) > 0):
        return None
    for index, argument in enumerate(new.args):
        value = argument[0] if isinstance(argument, tuple) else argument
        sizes = (value.meta.get("pq_shape") or ()) if isinstance(value, fx.Node) else ()
        if any(size < 0 for size in sizes) and 0 not in sizes:
            return Rows(shape[0], index, math.prod(abs(size) for size in sizes))
    return Rows(shape[0], -1, 1) if min(shape) > 0 else None


def build(
    captured: Captured, config: QuantConfig, check: Callable[[Mapping[str, str]], None] | None = None
) -> Built:
    """Match sites, settle widths, insert quantize and requantize sites, and write the new graph.

    `check` sees the kind of every site by name, before the names in `config` are checked; it may raise.
    """
    return _Builder(captured, config).run(check)


class _Builder:
    def __init__(self, captured: Captured, config: QuantConfig) -> None:
        self.captured, self.config = captured, config
        self.dynamic = depends_on_inputs(captured.graph, sizes=False)
        self.matched: list[str] = []
        self.plans: dict[fx.Node, _Plan] = {}
        self.reasons: dict[fx.Node, str] = {}
        self.rows: list[Row] = []
        self.graph = fx.Graph()
        self.sites = nn.Module()
        self.raw: dict[fx.Node, fx.Node] = {}  # old node -> new node
        self.edges: dict[fx.Node, fx.Node] = {}  # old node -> new node whose values are on a grid
        self.owner: dict[fx.Node, Site] = {}  # old base node -> the site that owns the grid of its edge
        self.narrowed: dict[tuple[fx.Node, bool], tuple[fx.Node, Site]] = {}
        self.grid_nodes: dict[str, tuple[fx.Node, fx.Node]] = {}
        self.names: Counter[str] = Counter()
        self.site_nodes: dict[str, str] = {}

    def run(self, check: Callable[[Mapping[str, str]], None] | None) -> Built:
        self._match()
        self._settle_widths()
        for node in self.captured.graph.nodes:
            self._write(node)
        if check is not None:
            check({site.name: site.kind for site in self.sites.children() if isinstance(site, Site)})
        # Only now are the names of the quantizers known that the widths of edges asked for.
        self.config.check_names([*self.matched, *self._quantizer_names(), *self.site_nodes])
        self.graph.eliminate_dead_code(lambda n: n.op in {"placeholder", "output"})
        self.graph.lint()
        return Built(self.graph, self.sites, self._all_rows(), self.site_nodes)

    # -- which nodes are sites -------------------------------------------------------------------------------

    def _match(self) -> None:
        matches: dict[fx.Node, tuple[type[Site], Match]] = {}
        for node in self.captured.graph.nodes:
            if node.op != "call_function" or node not in self.dynamic or is_view(node):
                continue
            for cls in REGISTRY.values():
                found = cls.match(self.captured, node)
                if isinstance(found, Match):
                    matches[node] = (cls, found)
                elif isinstance(found, str):
                    self.reasons[node] = found
                if found is not None:
                    break
            else:
                if is_float(node) or isinstance(node.meta.get("val"), (list, tuple)):
                    self.reasons[node] = f"{kind_of(node)} has no integer form"
        paths = self.captured.paths
        alone = Counter(paths.get(n.name, "") for n in matches if not n.meta.get("pq_kind"))
        names = {node: self._name(node, match.kind, alone) for node, (_, match) in matches.items()}
        self.matched = list(names.values())
        for node, (cls, match) in matches.items():
            settings = self.config.for_site(names[node])
            if settings.keep_float:
                self.reasons[node] = "kept in float by the configuration"
            else:
                self.plans[node] = _Plan(cls, match, names[node], settings)

    def _name(self, node: fx.Node, kind: str, alone: Counter[str]) -> str:
        path = self.captured.paths.get(node.name, "")
        special = node.meta.get("pq_kind")
        if special:
            name = f"{path}.{special}" if path else special
        elif path in self.captured.leaves and alone[path] == 1:
            name = path
        else:
            name = f"{path}.{kind}" if path else kind
        return self._unique(name)

    def _unique(self, name: str) -> str:
        self.names[name] += 1
        return name if self.names[name] == 1 else f"{name}#{self.names[name] - 1}"

    def _quantizer_names(self) -> list[str]:
        return [n.target for n in self.captured.graph.nodes if n.op in ("placeholder", "get_attr")]

    # -- how wide edges are ----------------------------------------------------------------------------------

    def _readers(self, node: fx.Node) -> list[tuple[fx.Node, int | None]]:
        """(reader, operand index) through views; index None for a reader that takes values as they are."""
        found: list[tuple[fx.Node, int | None]] = []
        for user in node.users:
            plan = self.plans.get(user)
            if is_view(user):
                found.extend(self._readers(user))
            elif plan is not None:
                found.extend((user, i) for i, edge in enumerate(plan.match.edges) if edge is node)
            elif user.op == "output" or is_float(user):
                found.append((user, None))
        return found

    def _takes_wide(self, reader: fx.Node, index: int | None) -> bool:
        if index is None:
            return True
        row = self.plans[reader].cls.takes_wide
        return row[min(index, len(row) - 1)]

    def _demands(self, node: fx.Node, gives_wide: bool) -> tuple[bool, bool]:
        """(wide, symmetric) that the readers of a base node ask for."""
        readers = self._readers(node)
        wide = gives_wide and any(self._takes_wide(r, i) for r, i in readers)
        symmetric = any(i is not None and i in self.plans[r].cls.symmetric_operands for r, i in readers)
        return wide, symmetric and not wide

    def _settle_widths(self) -> None:
        for node, plan in self.plans.items():
            plan.wide, plan.symmetric = self._demands(node, plan.cls.gives_wide)

    # -- writing the new graph -------------------------------------------------------------------------------

    def _write(self, node: fx.Node) -> None:
        plan = self.plans.get(node)
        if plan is None:
            if node.op == "output":
                self.raw[node] = self.graph.output(fx.map_arg(node.args[0], self._result))
            else:
                self.raw[node] = self.graph.node_copy(node, lambda n: self.raw[n])
            self._keep(node, self.raw[node])
            return
        site = plan.cls(plan.name, plan.config, plan.wide, plan.symmetric, **dict(plan.match.settings))
        self._add_site(site)
        operands: list[Operand | None] = []
        args: list[Any] = []
        read: list[Site] = []
        for index, edge in enumerate(plan.match.edges):
            if plan.cls.quantizes_constants and edge not in self.dynamic:
                operands.append(None)
                args.append((self.raw[edge], None, None))
                continue
            value, owner = self._edge(edge)
            if owner.output.bits > 8 and not self._takes_wide(node, index):
                value, owner = self._narrow(edge, value, owner, index in plan.cls.symmetric_operands)
            read.append(owner)
            if not owner.output.on_grid:
                operands.append(None)
                args.append((value, None, None))
                continue
            operands.append(Operand(owner.output.quant_min, owner.output.quant_max))
            args.append((value, *self._grid(owner)))
        site.operands = tuple(operands)
        extras = [self.raw[e] if isinstance(e, fx.Node) else e for e in plan.match.extras]
        new = self._call(site, (*args, *extras))
        self.raw[node] = self.edges[node] = new
        self.owner[node] = site
        self._keep(node, new)
        site.rows = _rows(new)
        self._list(site, "integer", read)

    def _result(self, node: fx.Node) -> fx.Node:
        """What the model returns: a site's output as it is (already on its grid)."""
        return self.raw[node]

    def _keep(self, old: fx.Node, new: fx.Node) -> None:
        new.meta["pq_shape"] = plain_shape(old)

    def _add_site(self, site: Site) -> None:
        self.sites.add_module(attribute(site.name), site)

    def _call(self, site: Site, args: tuple[Any, ...]) -> fx.Node:
        new = self.graph.create_node("call_module", f"pq_sites.{attribute(site.name)}", args)
        self.site_nodes[site.name] = new.name
        return new

    def _grid(self, site: Site) -> tuple[fx.Node, fx.Node]:
        if site.name not in self.grid_nodes:
            base = f"pq_sites.{attribute(site.name)}.output"
            scale = self.graph.create_node("get_attr", f"{base}.scale")
            zero_point = self.graph.create_node("get_attr", f"{base}.zero_point")
            self.grid_nodes[site.name] = scale, zero_point
        return self.grid_nodes[site.name]

    def _edge(self, node: fx.Node) -> tuple[fx.Node, Site]:
        """The values of `node` on a grid, and the site that owns the grid."""
        base = base_of(node)
        if base not in self.owner:
            self._quantize(base)
        return self._edge_value(node), self.owner[base]

    def _edge_value(self, node: fx.Node) -> fx.Node:
        if node not in self.edges:
            # A view of a quantized base; a view of a site's output is the same node in both worlds.
            source = self._edge_value(node.args[0])  # type: ignore[arg-type]
            if source is self.raw[node.args[0]]:  # type: ignore[index]
                self.edges[node] = self.raw[node]
            else:
                self.edges[node] = self.graph.node_copy(
                    node, lambda n: source if n is node.args[0] else self.raw[n]
                )
                self._keep(node, self.edges[node])
        return self.edges[node]

    def _quantize(self, base: fx.Node) -> None:
        """An input, a parameter or the result of a float op becomes an edge."""
        if base.op in ("get_attr", "placeholder"):
            name = str(base.target)
        else:
            path = self.captured.paths.get(base.name, "")
            kind = f"{kind_of(base)}.quantize"
            name = f"{path}.{kind}" if path else kind
        name = self._unique(name)
        wide, symmetric = self._demands(base, gives_wide=True)
        site = QuantizeSite(name, self.config.for_site(name), wide, symmetric)
        self._add_site(site)
        self.edges[base] = self._call(site, (self.raw[base],))
        self._keep(base, self.edges[base])
        site.rows = _rows(self.edges[base])
        self.owner[base] = site
        self._list(site, "folded" if base not in self.dynamic else "integer")

    def _narrow(self, edge: fx.Node, value: fx.Node, owner: Site, symmetric: bool) -> tuple[fx.Node, Site]:
        key = (edge, symmetric)
        if key not in self.narrowed:
            name = self._unique(f"{owner.name}.narrow")
            site = RequantizeSite(name, self.config.for_site(name), False, symmetric)
            site.operands = (Operand(owner.output.quant_min, owner.output.quant_max),)
            self._add_site(site)
            new = self._call(site, ((value, *self._grid(owner)),))
            self._keep(edge, new)
            site.rows = _rows(new)
            self.narrowed[key] = new, site
            self._list(site, "integer")
        return self.narrowed[key]

    # -- coverage --------------------------------------------------------------------------------------------

    def _list(self, site: Site, kind: str, read: Iterable[Site] = ()) -> None:
        """A site's row, once it is settled whether it computes integers."""
        site.simulated = reason(site, read)
        if site.simulated:
            self.rows.append((site.name, site.kind, "simulated", site.simulated))
        else:
            self.rows.append((site.name, site.kind, kind, what_is_on(site)))

    def _all_rows(self) -> list[Row]:
        rows = list(self.rows)
        training = of_labels(self.captured.graph)
        for node, why in self.reasons.items():
            if kind_of(node) == "getitem":
                continue  # the op that gave the tuple is listed
            path = self.captured.paths.get(node.name, "")
            kind = "folded" if node in training else "float"
            rows.append((path or node.name, kind_of(node), kind, _LEFT_OUT if node in training else why))
        for node in self.captured.graph.nodes:
            path = self.captured.paths.get(node.name, "") or node.name
            if node.op == "call_function" and node in self.dynamic and is_view(node) and is_float(node):
                rows.append((path, kind_of(node), "view", ""))
        rows.extend((path, what, "folded", _LEFT_OUT) for path, what in self.captured.removed)
        return rows
