"""A prepared graph in segments: cut at blocks, each a function of what crosses its borders."""

from __future__ import annotations

import fnmatch
import itertools
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from pyquant.graph.code import compile_graph

__all__ = ["Segment", "blocks_of", "cut", "even_blocks"]

_NUMBER = re.compile(r"\d+$")
_SITES_LEAST = 3  # of a block on average; what holds fewer is a layer with a number in its name


@dataclass(frozen=True)
class Segment:
    """A stretch of a graph.

    Attributes
    ----------
    run : callable
        ``run(prepared, *reads)`` gives the tuple of `writes`.
    reads, writes : tuple of str
        Values that cross the borders, by the names of their nodes.
    last_reads : tuple of str
        Those of `reads` that nobody reads later.
    modules : tuple of str
        Paths of the modules that it calls: sites.
    block : bool
        Whether it is a block, and not what lies before, between or behind them.
    """

    run: Callable[..., Any]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    last_reads: tuple[str, ...]
    modules: tuple[str, ...]
    block: bool


def blocks_of(names: Sequence[str], select: str | None = None) -> dict[str, str]:
    """Site -> block, of the sites that lie in one.

    Blocks are modules with a number that are repeated: ``vit.layers.3`` of ``vit.layers.*``,
    ``encoder_layer_3`` of ``encoder_layer_*``, with at least three sites each on average, so that the linear
    layers of a sequence are none. A family within the members of another takes its place where it holds two
    thirds of its sites: the blocks of a hierarchical transformer, and not its stages.

    Parameters
    ----------
    names : sequence of str
        Of sites, in graph order.
    select : str, optional
        A glob over module paths, such as ``"vit.layers.*"``: the modules that it matches are the blocks, the
        outermost where one lies in another.

    Raises
    ------
    ValueError
        `select` matches no module that holds a site; or what is found holds less than half of the sites.
    """
    if select is not None:
        return _selected(names, select)
    families: dict[str, dict[str, str]] = {}  # pattern -> site -> block
    for name in names:
        for path in _paths(name):
            if _NUMBER.search(path):
                pattern = ".".join(_NUMBER.sub("*", part) for part in path.split("."))
                families.setdefault(pattern, {})[name] = path
    families = {
        pattern: members
        for pattern, members in families.items()
        if (count := len(set(members.values()))) > 1 and len(members) >= _SITES_LEAST * count
    }
    found: dict[str, str] = {}
    for pattern, members in families.items():
        if any(pattern.startswith(f"{outer}.") for outer in families):
            continue
        inner = [
            other
            for name, other in families.items()
            if name.startswith(f"{pattern}.") and 3 * len(other) >= 2 * len(members)
        ]
        found.update(inner[-1] if inner else members)  # paths come from the outside in
    if 2 * len(found) < len(names):
        raise ValueError(
            "blocks: found no repeated numbered modules that hold half of the sites; name them by a glob "
            "(blocks='stages.*'), or say into how many segments to cut the model (segments=4)"
        )
    return found


def _selected(names: Sequence[str], select: str) -> dict[str, str]:
    found = {}
    for name in names:
        matching = [path for path in _paths(name) if fnmatch.fnmatchcase(path, select)]
        if matching:
            found[name] = matching[0]
    if not found:
        modules = dict.fromkeys(name.rpartition(".")[0] or name for name in names)
        raise ValueError(
            f"blocks: {select!r} matches no module; sites lie in modules like {', '.join(list(modules)[:3])}"
        )
    return found


def even_blocks(names: Sequence[str], segments: int) -> dict[str, str]:
    """Site -> one of so many stretches of (nearly) as many sites each."""
    if isinstance(segments, bool) or not isinstance(segments, int) or not 1 <= segments <= len(names):
        raise ValueError(
            f"segments: expected an integer from 1 to the number of sites, {len(names)}, got {segments!r}"
        )
    return {name: f"segment {i * segments // len(names)}" for i, name in enumerate(names)}


def _paths(name: str) -> Iterable[str]:
    """The modules that a site lies in, itself included, from the outermost: a, a.b, a.b.c."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def cut(graph: fx.Graph, block_of: Callable[[fx.Node], str | None], every: int = 1) -> list[Segment]:
    """The segments of a graph, one after the other; the last gives the values of the output.

    A block reaches from its first site to the first site of the next one; the last block ends with its last
    site. So every order of operations stays what it was, and values may cross any number of segments.
    Attributes are read anew in each.

    Parameters
    ----------
    graph : fx.Graph
    block_of : callable
        The block of a node; None for what is no site, or lies in none.
    every : int
        Each so-many-th block is one; the others are stretches between.
    """
    nodes = [n for n in graph.nodes if n.op not in ("placeholder", "output", "get_attr")]
    starts: dict[str, int] = {}
    end = 0
    for index, node in enumerate(nodes):
        block = block_of(node)
        if block is not None:
            starts.setdefault(block, index)
            end = index + 1
    borders = [0, *starts.values(), end]
    stretches = [(nodes[0 : borders[1]], False)]
    for number, (begin, stop) in enumerate(itertools.pairwise(borders[1:])):
        stretches.append((nodes[begin:stop], number % every == 0))
    stretches.append((nodes[end:], False))
    return _compiled(graph, _hoisted([(part, block) for part, block in stretches if part]))


def _hoisted(stretches: list[tuple[list[fx.Node], bool]]) -> list[tuple[list[fx.Node], bool]]:
    """Sizes of inputs move to the front, out of the blocks: a compiler passes tensors across borders, and
    numbers only into a block."""
    early: dict[fx.Node, None] = {}
    for part, _ in stretches:
        for node in part:
            sources = node.all_input_nodes
            if _gives_number(node) and all(n in early or n.op == "placeholder" for n in sources):
                early[node] = None
    rest = [([n for n in part if n not in early], block) for part, block in stretches]
    if early:
        rest.insert(0, (list(early), False))
    return [(part, block) for part, block in rest if part]


def _gives_number(node: fx.Node) -> bool:
    """A size, or arithmetic of sizes."""
    return node.target is torch.ops.aten.sym_size.int or (
        getattr(node.target, "__module__", "") == "_operator" and node.target is not operator.getitem
    )


def _compiled(graph: fx.Graph, stretches: list[tuple[list[fx.Node], bool]]) -> list[Segment]:
    at = {node: index for index, (part, _) in enumerate(stretches) for node in part}
    last: dict[fx.Node, int] = {}
    for node in graph.nodes:
        for source in node.all_input_nodes:
            if source.op != "get_attr":
                last[source] = max(last.get(source, -1), at.get(node, len(stretches)))
    segments = []
    for index, (part, block) in enumerate(stretches):
        inside = set(part)
        reads = dict.fromkeys(
            source
            for node in part
            for source in node.all_input_nodes
            if source not in inside and source.op != "get_attr"
        )
        writes = [node for node in part if last.get(node, -1) > index]
        segments.append(
            Segment(
                run=compile_graph(_subgraph(part, list(reads), writes)),
                reads=tuple(node.name for node in reads),
                writes=tuple(node.name for node in writes),
                last_reads=tuple(node.name for node in reads if last[node] == index),
                modules=tuple(str(node.target) for node in part if node.op == "call_module"),
                block=block,
            )
        )
    output = next(node for node in graph.nodes if node.op == "output")
    returned = [node for node in output.all_input_nodes if node.op != "get_attr"]
    names = tuple(node.name for node in returned)
    end = compile_graph(_subgraph([], returned, output.args[0]))
    segments.append(Segment(end, names, (), names, (), block=False))
    return segments


def _subgraph(part: list[fx.Node], reads: list[fx.Node], writes: Any) -> fx.Graph:
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in reads}

    def copied(node: fx.Node) -> fx.Node:
        if node not in copies:  # an attribute
            copies[node] = graph.node_copy(node)
        return copies[node]

    for node in part:
        for source in node.all_input_nodes:
            copied(source)
        copies[node] = graph.node_copy(node, copied)
    graph.output(fx.map_arg(tuple(writes), copied))
    return graph
