"""The graph that runs in `train()`, where it differs from the deployed one.

The deployed graph is made from a capture without marks, as if nobody had asked: what `convert` sees is the
same. The marked capture goes through the same passes. Without its marks the result must be the deployed
graph, node by node; a mark that stands in the way of a pass is left out and listed. Then the deployed graph
is written once more, with what the marks say at their places.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import fx, nn

from pyquant.config import QuantConfig
from pyquant.graph import train_functions as functions
from pyquant.graph.aten import argument, aten, base_of, kind_of, uses
from pyquant.graph.build import Built, Row, build
from pyquant.graph.capture import Captured
from pyquant.graph.marks import Drop, Norm, is_mark
from pyquant.graph.normalize import normalize
from pyquant.graph.sites import AttentionSite, LinearSite, QuantizeSite

__all__ = ["TrainGraphs", "build_for_training", "split_marks"]

_BATCH = "statistics of the batch in train(), until frozen"
_IN_THE_WAY = "it stands inside what becomes one integer operation"


@dataclass(frozen=True)
class TrainGraphs:
    """What runs in `train()`.

    Attributes
    ----------
    unfrozen : torch.fx.Graph or None
        Batch norms follow the statistics of the batch; None if there are none that do.
    frozen : torch.fx.Graph or None
        They do not; None if nothing is dropped either, so that the deployed graph runs.
    """

    unfrozen: fx.Graph | None
    frozen: fx.Graph | None


def split_marks(captured: Captured) -> Captured:
    """A copy with the marks, which go from `captured`; tensors are shared."""
    marked = _with_marks(captured, {*captured.marks, *captured.norms})
    _remove_marks(captured, set())
    captured.marks, captured.norms = {}, {}
    return marked


def _with_marks(captured: Captured, keep: set[int | str]) -> Captured:
    """A copy that shares tensors, with the marks of these keys, and the norms of these paths."""
    tensors = [*captured.root.parameters(), *captured.root.buffers()]
    graph = copy.deepcopy(captured.graph)
    old_names = [node.name for node in captured.graph.nodes]
    paths = {
        new.name: captured.paths[old]
        for old, new in zip(old_names, graph.nodes, strict=True)
        if old in captured.paths
    }
    made = replace(
        captured,
        root=copy.deepcopy(captured.root, {id(tensor): tensor for tensor in tensors}),
        graph=graph,
        paths=paths,
        removed=list(captured.removed),
        marks=dict(captured.marks),
        norms={path: norm for path, norm in captured.norms.items() if path in keep},
    )
    _remove_marks(made, keep)
    return made


def _remove_marks(captured: Captured, keep: set[int | str]) -> None:
    for node in list(captured.graph.nodes):
        if is_mark(node) and node.args[1] not in keep:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            node.replace_all_uses_with(source)
            captured.graph.erase_node(node)


def build_for_training(marked: Captured, built: Built, config: QuantConfig) -> tuple[TrainGraphs, list[Row]]:
    """The graphs for `train()`, and the rows of coverage with what each drop and batch norm became."""
    good: set[int | str] = set()
    found: tuple[Captured, fx.Graph] | None = None

    def fits(keys: set[int | str]) -> bool:
        nonlocal found
        candidate = normalize(_with_marks(marked, keys))
        graph = build(candidate, config).graph
        if _paired(graph, built.graph) is None:
            return False
        found = candidate, graph
        return True

    def add(keys: list[int | str]) -> None:
        """All of them, or each half by itself."""
        nonlocal good
        if not keys or fits(good | set(keys)):
            good |= set(keys)
        elif len(keys) > 1:
            middle = len(keys) // 2
            add(keys[:middle])
            add(keys[middle:])

    add([*marked.marks, *marked.norms])
    if not good or found is None:
        return TrainGraphs(None, None), _rows(marked, marked, built.rows, set())
    captured, graph = found
    writer = _Writer(captured, graph, built, batch_statistics=True)
    unfrozen = writer.write()
    frozen = _Writer(captured, graph, built, batch_statistics=False)
    without = frozen.write()
    norms = any(isinstance(captured.marks[key], Norm) for key in writer.done)
    graphs = TrainGraphs(unfrozen if norms else None, without if frozen.done else None)
    return graphs, _rows(marked, captured, built.rows, writer.done)


def _paired(marked: fx.Graph, plain: fx.Graph) -> dict[fx.Node, fx.Node] | None:
    """Nodes of a marked graph -> those of the plain one (a mark: its source's); None if they differ."""
    pairs: dict[fx.Node, fx.Node] = {}
    rest = iter(plain.nodes)
    for node in marked.nodes:
        if is_mark(node):
            pairs[node] = pairs[node.args[0]]
            continue
        other = next(rest, None)
        if other is None or node.op != other.op or not _same_target(node, other):
            return None
        args = fx.map_arg((node.args, node.kwargs), lambda n: pairs[n])
        if args != (other.args, other.kwargs):
            return None
        pairs[node] = other
    return None if next(rest, None) is not None else pairs


def _same_target(node: fx.Node, other: fx.Node) -> bool:
    """Constants that a pass worked out are named after nodes, and marks change the numbers in names."""
    made = ("pq_folded_", "pq_causal_", "pq_channels_", "pq_constant_")
    both = str(node.target), str(other.target)
    return node.target == other.target or (
        node.op == "get_attr" and any(all(name.startswith(start) for name in both) for start in made)
    )


class _Writer:
    """The deployed graph once more, with what the marks say."""

    def __init__(self, captured: Captured, marked: fx.Graph, built: Built, batch_statistics: bool) -> None:
        self.captured, self.marked, self.built = captured, marked, built
        pairs = _paired(marked, built.graph)
        assert pairs is not None
        self.pairs = pairs
        self.graph = fx.Graph()
        self.new: dict[fx.Node, fx.Node] = {}
        self.done: set[int] = set()  # keys of the marks that found their place
        self.masks: dict[int, fx.Node] = {}
        self.marks = [node for node in marked.nodes if is_mark(node)]
        self.repeated = {n.args[1] for n in self.marks if sum(m.args[1] == n.args[1] for m in self.marks) > 1}
        self.norms: dict[fx.Node, fx.Node] = {}  # marked node -> the mark of its batch norm
        self.running: dict[fx.Node, fx.Node] = {}  # statistics: what is read -> the buffer that changes
        if batch_statistics:
            self._find_norms()

    def _record(self, node: fx.Node) -> Drop | Norm:
        return self.captured.marks[node.args[1]]  # type: ignore[index]

    def _site(self, node: fx.Node) -> nn.Module | None:
        if node.op != "call_module":
            return None
        return self.built.sites.get_submodule(str(node.target).removeprefix("pq_sites."))

    def _find_norms(self) -> None:
        for mark in self.marks:
            if not isinstance(self._record(mark), Norm):
                continue
            base = base_of(mark)
            while isinstance(self._site(base), QuantizeSite):
                base = base_of(base.args[0])  # type: ignore[arg-type]
            layer = isinstance(self._site(base), LinearSite) or uses(
                base, aten.conv2d.default, aten.conv1d.default, aten.linear.default
            )
            if layer or kind_of(base) == "getitem":
                self.norms[base] = mark

    def write(self) -> fx.Graph:
        changing = {
            extra
            for base, mark in self.norms.items()
            for name, extra in self._extras(mark, base).items()
            if name in ("mean", "variance")
        }
        for node in self.marked.nodes:
            if is_mark(node):
                self.new[node] = self._drop(node)
                continue
            plain = self.pairs[node]
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: self.new[n])
            made = self.graph.create_node(plain.op, plain.target, args, kwargs, name=plain.name)
            made.meta = dict(plain.meta)
            self.new[node] = made
            if node in changing:
                # Backward needs the statistics that the weights were folded with, and the buffers change.
                self.new[node] = self.graph.call_function(aten.clone.default, (made,))
                self.running[self.new[node]] = made
            if node in self.norms:
                self.new[node] = self._norm(self.norms[node], node)
        self.graph.eliminate_dead_code(lambda n: n.op in {"placeholder", "output"})
        self.graph.lint()
        return self.graph

    def _call(self, function: Callable[..., Any], args: Iterable[Any], like: fx.Node) -> fx.Node:
        made = self.graph.call_function(function, tuple(args))
        made.meta["pq_shape"] = self.pairs[like].meta.get("pq_shape")
        return made

    # -- dropout ---------------------------------------------------------------------------------------------

    def _drop(self, mark: fx.Node) -> fx.Node:
        source, record, key = self.new[mark.args[0]], self._record(mark), mark.args[1]  # type: ignore[index]
        if isinstance(record, Norm):
            return source  # it stands behind the layer
        assert isinstance(key, int)
        if key not in self.repeated:
            made = self._dropped(mark, source, record)
        elif "alpha" in record.kind or record.kind == "attention":
            made = None
        else:
            # The value is read both as an edge and as it is: one mask for both.
            if key not in self.masks:
                ones = self._call(aten.ones_like.default, (source,), mark)
                self.masks[key] = self._dropped(mark, ones, record) or ones
            made = self._call(aten.mul.Tensor, (source, self.masks[key]), mark)
        if made is None:
            return source
        self.done.add(key)
        return made

    def _dropped(self, mark: fx.Node, source: fx.Node, record: Drop) -> fx.Node | None:
        if record.kind in ("row", "batch"):
            args = (source, record.kind, record.p, record.scaled)
            return self._call(functions.stochastic_depth, args, mark)
        if record.kind != "attention":
            return self._call(functions.drop, (source, record.kind, record.p), mark)
        base = mark.args[0]
        assert isinstance(base, fx.Node)
        if isinstance(self._site(base), QuantizeSite):  # of an attention that stays float
            base = base.args[0]
            assert isinstance(base, fx.Node)
        site = self._site(base)
        if isinstance(site, AttentionSite):
            q, k, v, mask = (self.new_args(base)[i] for i in range(4))
            values = (source, q[0], k[0], v[0], mask, record.p, site.is_causal, site.scale, site.enable_gqa)
            return self._call(functions.attention_dropout, values, mark)
        if not uses(base, aten.scaled_dot_product_attention.default):
            return None
        q, k, v = self.new_args(base)[:3]
        options = {
            "attn_mask": argument(base, 3),
            "is_causal": argument(base, 5, False),
            "scale": None,
            "enable_gqa": False,
            **base.kwargs,
        }
        mask = fx.map_arg(options["attn_mask"], lambda n: self.new[n])
        settings = (options["is_causal"], options["scale"], options["enable_gqa"])
        return self._call(functions.attention_dropout, (source, q, k, v, mask, record.p, *settings), mark)

    def new_args(self, node: fx.Node) -> tuple[Any, ...]:
        """The arguments of a node in the new graph."""
        args: tuple[Any, ...] = fx.map_arg(node.args, lambda n: self.new[n])
        return args

    # -- batch norm ------------------------------------------------------------------------------------------

    def _extras(self, mark: fx.Node, base: fx.Node) -> dict[str, fx.Node]:
        record = self._record(mark)
        assert isinstance(record, Norm)
        if record.given:
            return dict(zip(record.given, mark.args[2], strict=True))  # type: ignore[arg-type]
        norm = base.args[0]
        assert isinstance(norm, fx.Node)
        named = zip(("gamma", "beta", "mean", "variance"), norm.args[1:5], strict=True)
        return {name: value for name, value in named if isinstance(value, fx.Node)}

    def _norm(self, mark: fx.Node, base: fx.Node) -> fx.Node:
        """What follows the layer `base`."""
        record = self._record(mark)
        assert isinstance(record, Norm)
        given = {name: self.new[node] for name, node in self._extras(mark, base).items()}
        mean, variance = given["mean"], given["variance"]
        counter = self.graph.get_attr(record.counter)
        buffers = (self.running[mean], self.running[variance], counter)
        gamma, beta, bias = (given.get(name) for name in ("gamma", "beta", "bias"))
        key = mark.args[1]
        assert isinstance(key, int)
        self.done.add(key)
        rest = (record.momentum, record.epsilon)
        args = self.new_args(base)
        if kind_of(base) == "getitem":
            norm = base.args[0]
            assert isinstance(norm, fx.Node)
            x = self.new_args(norm)[0]
            return self._call(functions.batch_norm, (x, gamma, beta, *buffers, *rest, record.path), base)
        weight = given["weight"]
        if uses(base, aten.conv2d.default, aten.conv1d.default):
            z = self._call(base.target, (args[0], weight, None, *args[3:]), base)  # type: ignore[arg-type]
            axis = 1
        else:
            x = args[0][0] if base.op == "call_module" else args[0]
            matrix = self.graph.call_function(aten.flatten.using_ints, (weight, 1))
            z, axis = self._call(aten.linear.default, (x, matrix), base), -1
        sums = (self.new[base], z, bias, beta, gamma, (mean, variance), buffers)
        return self._call(functions.batch_norm_correction, (*sums, *rest, axis, record.path), base)


def _rows(marked: Captured, used: Captured, rows: list[Row], done: set[int]) -> list[Row]:
    """The rows of coverage, with what became of each drop and each batch norm."""
    places: dict[str, list[tuple[str, str]]] = {}  # path -> (what, fate)
    for key, record in {**marked.marks, **used.marks}.items():
        fate = _BATCH if isinstance(record, Norm) else "in train() only"
        fate = fate if key in done else f"not in train(): {_IN_THE_WAY}"
        places.setdefault(record.path, []).append((record.what, fate))
    for path, norm in marked.norms.items():
        if path not in places:
            places[path] = [(norm.what, f"not in train(): {_IN_THE_WAY}")]
    for path, what, why in marked.lost:
        places.setdefault(path, []).append((what, f"not in train(): {why}"))
    listed: list[Row] = []
    for site, op, kind, reason in rows:
        gone = kind == "folded" and reason == "not part of inference"
        if places.get(site) and (gone or "batch_norm" in op):
            fates = list(dict.fromkeys(fate for _, fate in places.pop(site)))
            reason = "; ".join(fates if gone else [reason, *fates])
        listed.append((site, op, kind, reason))
    for path, found in places.items():
        listed.extend((path or what, what, "folded", fate) for what, fate in dict.fromkeys(found))
    return listed
