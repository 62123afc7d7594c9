"""Prepared: the user's model with every compute node a site, in our own module class."""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx, nn

from pyquant.config import QuantConfig
from pyquant.coverage import Coverage, CoverageRow
from pyquant.errors import CaptureError
from pyquant.graph.aten import LABELS
from pyquant.graph.build import Built, Row
from pyquant.graph.capture import Captured, Signature
from pyquant.graph.sites import Site
from pyquant.graph.state import difference, from_tensor, to_tensor
from pyquant.graph.watch import ScaleWatch

__all__ = ["LABELS", "Prepared", "make_prepared"]

_EXTRA = "_extra_state"  # torch's name for it
_COPIED = ("config", "main_input_name")  # what training loops read from a model besides its parameters
_OWN = ("_code", "_variants", "_graph", "_watch")  # rebuilt after pickling


class Prepared(nn.Module):
    """A model that simulates with the real integer kernels.

    Call it like the original: same parameters, positional or by keyword, same outputs. Parameters and buffers
    keep the names they had; the quantizers' state lies under ``pq_sites``. Made by `pyquant.prepare` and
    `pyquant.quantize`.

    `train()` and `eval()` make no difference to the result: dropout and batch statistics were removed (and
    listed by `coverage`).
    """

    pq_sites: nn.Module
    accepts_loss_kwargs = False  # the transformers Trainer then passes nothing that the graph does not know

    def __init__(self) -> None:
        super().__init__()
        self._variants: dict[frozenset[str], Callable[..., Any]] = {}

    # -- calling ---------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Replaced in each instance's class by a method with the original signature."""
        return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        missing, inputs = self.bind(args, kwargs)
        self._watch.look(self)
        run = self._variant(missing) if missing else self._code
        device = inputs[0].device.type
        if self._whole and torch.is_autocast_enabled(device):
            # Integer ops ignore autocast; what is computed of parameters alone must not feel it either.
            with torch.autocast(device, enabled=False):
                flat = run(self, *inputs)
        else:
            flat = run(self, *inputs)
        return self.output_of(flat, missing)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[frozenset[str], list[Any]]:
        """(inputs that are not given, values of the others in the order of the graph's placeholders).

        Raises
        ------
        TypeError
            The call does not fit the original signature.
        """
        given = _bind(self._signature, args, kwargs)
        missing = frozenset(name for name in self._signature.inputs if given.get(name) is None)
        return missing, [given[name] for name in self._signature.inputs if name not in missing]

    def output_of(self, flat: Iterable[Any], missing: frozenset[str]) -> Any:
        """What a call returns, from the values of the graph's output node."""
        output = pytree.tree_unflatten(list(flat), self._signature.output_spec)
        return _without_none(output) if missing else output

    def _variant(self, missing: frozenset[str]) -> Callable[..., Any]:
        """The function of the graph without some inputs (a loss without labels)."""
        if missing not in self._variants:
            self._variants[missing] = _compile(self.graph_without(missing))
        return self._variants[missing]

    def graph_without(self, missing: frozenset[str]) -> fx.Graph:
        """The graph without some inputs: outputs that depend on them are None.

        Raises
        ------
        TypeError
            Every output depends on them.
        """
        missing = missing & set(self._signature.inputs)
        if not missing:
            return self._graph
        graph = copy.deepcopy(self._graph)
        gone = {n for n in graph.nodes if n.op == "placeholder" and n.target in missing}
        _take_sizes_elsewhere(graph, gone)
        for node in graph.nodes:
            if node.op != "output" and any(source in gone for source in node.all_input_nodes):
                gone.add(node)
        output = next(n for n in graph.nodes if n.op == "output")
        flat = tuple(None if value in gone else value for value in output.args[0])
        if all(value is None for value in flat):
            raise TypeError(f"forward() is missing {', '.join(sorted(missing))}: every output depends on it")
        output.args = (flat,)
        for node in reversed(list(graph.nodes)):
            if node in gone:
                graph.erase_node(node)
        graph.eliminate_dead_code(lambda n: n.op in {"placeholder", "output"})
        return graph

    def inference_graph(self) -> fx.Graph:
        """The graph without labels and what depends on them."""
        return self.graph_without(frozenset(LABELS))

    # -- looking ---------------------------------------------------------------------------------------------

    def sites(self, select: str = "*") -> dict[str, Site]:
        """Sites by name, in graph order.

        Parameters
        ----------
        select : str
            A glob over names.

        Raises
        ------
        ValueError
            Nothing matches.
        """
        found = {site.name: site for _, site in self.site_nodes()}
        chosen = {name: site for name, site in found.items() if fnmatch.fnmatchcase(name, select)}
        if not chosen:
            examples = ", ".join(list(found)[:3])
            raise ValueError(f"select: {select!r} matches no site; sites are named like {examples}")
        return chosen

    def coverage(self) -> Coverage:
        """Every op of the model as integer, folded, view, or float with the reason."""
        return Coverage(CoverageRow(*row) for row in self._rows)  # type: ignore[arg-type]

    @property
    def _whole(self) -> bool:
        return all(kind != "float" for _, _, kind, _ in self._rows)

    @property
    def quant_config(self) -> QuantConfig:
        """The configuration it was prepared with."""
        return self._config

    def site_nodes(self) -> Iterator[tuple[fx.Node, Site]]:
        """(node, site) in execution order."""
        for node in self._graph.nodes:
            if node.op == "call_module":
                yield node, self.get_submodule(str(node.target))  # type: ignore[misc]

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """Read by DistributedDataParallel when it is made.

        Observers are reduced explicitly; it would overwrite them with rank 0's. It reduces the gradients of
        the parameters that want one now, for good: sites remember those that do not.
        """
        for site in self.sites().values():
            site.not_reduced = frozenset(n for n, p in site.named_parameters() if not p.requires_grad)
        return [name for name, _ in self.named_buffers() if "observer." in name]

    # -- state, copying and pickling -------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """The configuration, and what `param_groups` keeps, as a tensor of the state dict."""
        return to_tensor(
            self._config, {name: site.rates for name, site in self.sites().items() if site.rates}
        )

    def set_extra_state(self, state: Any) -> None:
        """Refuse the state of a model that was prepared with another configuration (or plan).

        Raises
        ------
        ValueError
            A site differs (it is named, with its settings), or the state is of a later version.
        """
        saved, sites = from_tensor(state), self.sites()
        differs = difference(self._config, saved["config"], list(sites))
        if differs:
            raise ValueError(f"state: the checkpoint is of another configuration: {differs}")
        for name, site in sites.items():
            site.rates = saved["rates"].get(name, {})

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        # First of all, before a parameter is touched: torch would set it last.
        if prefix + _EXTRA in state:
            self.set_extra_state(state[prefix + _EXTRA])
        super()._load_from_state_dict(state, prefix, *args)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made for this signature, so it is rebuilt, not looked up by name.
        state = {k: v for k, v in self.__dict__.items() if k not in _OWN}
        state["_graph"] = _flatten_graph(self._graph)
        # A TreeSpec warns when it is copied.
        state["_signature"] = replace(self._signature, output_spec=_flatten_spec(self._signature.output_spec))
        return _restore, (self._signature.parameters, type(self).__name__), state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._signature = replace(self._signature, output_spec=_unflatten_spec(self._signature.output_spec))
        self._install(_unflatten_graph(state["_graph"]))

    def _install(self, graph: fx.Graph) -> None:
        object.__setattr__(self, "_graph", graph)
        object.__setattr__(self, "_code", _compile(graph))
        object.__setattr__(self, "_variants", {})
        object.__setattr__(self, "_watch", ScaleWatch())
        labels = frozenset(LABELS) & set(self._signature.inputs)
        with contextlib.suppress(TypeError):  # every output depends on them
            self._variant(labels)  # made now, since torch.compile cannot trace the making

    _graph: fx.Graph
    _watch: ScaleWatch
    _code: Callable[..., Any]
    _signature: Signature
    _rows: tuple[Row, ...]
    _config: QuantConfig


def make_prepared(original: nn.Module, captured: Captured, built: Built, config: QuantConfig) -> Prepared:
    """Assemble a `Prepared` from its parts."""
    prepared = _class_for(captured.signature.parameters, type(original).__name__)()
    for name, child in captured.root.named_children():
        if hasattr(prepared, name):
            raise CaptureError(
                f"prepare: a submodule called {name!r} collides with a method of Prepared; rename it"
            )
        prepared.add_module(name, child)
    for name, parameter in captured.root.named_parameters(recurse=False):
        prepared.register_parameter(name, parameter)
    for name, buffer in captured.root.named_buffers(recurse=False):
        persistent = name not in captured.root._non_persistent_buffers_set
        prepared.register_buffer(name, buffer, persistent=persistent)
    prepared.pq_sites = built.sites
    prepared._signature, prepared._config = captured.signature, config
    prepared._rows = tuple(built.rows)
    for name in _COPIED:
        if hasattr(original, name) and not hasattr(prepared, name):
            setattr(prepared, name, copy.deepcopy(getattr(original, name)))
    prepared._install(built.graph)
    prepared.train(original.training)
    return prepared


def _class_for(parameters: tuple[tuple[str, int, Any], ...], name: str) -> type[Prepared]:
    """A subclass whose forward shows the original signature (training loops inspect it to pick columns)."""

    def forward(self: Prepared, *args: Any, **kwargs: Any) -> Any:
        """Call the model as the original is called."""
        return self._call(args, kwargs)

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    listed = [inspect.Parameter(n, kind, default=d) for n, kind, d in parameters]  # type: ignore[arg-type]
    if listed and listed[0].kind == inspect.Parameter.POSITIONAL_ONLY:
        own = own.replace(kind=inspect.Parameter.POSITIONAL_ONLY)
    forward.__signature__ = inspect.Signature([own, *listed])  # type: ignore[attr-defined]
    members = {"forward": forward, "__module__": __name__}
    return type(f"Prepared{name.removeprefix('Prepared')}", (Prepared,), members)


def _restore(parameters: tuple[tuple[str, int, Any], ...], name: str) -> Prepared:
    cls = _class_for(parameters, name)
    return cls.__new__(cls)


def _bind(signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name. Plain Python, so that torch.compile can trace it."""
    slots = [n for n, kind, _ in signature.parameters if kind in (0, 1)]  # those that may be positional
    if len(args) > len(slots):
        raise TypeError(f"forward() takes {len(slots)} positional arguments but {len(args)} were given")
    given: dict[str, Any] = dict(zip(slots, args, strict=False))
    open_ended = any(kind == 4 for _, kind, _ in signature.parameters)  # **kwargs
    named = {n for n, _, _ in signature.parameters}
    for name, value in kwargs.items():
        if name in given:
            raise TypeError(f"forward() got multiple values for argument {name!r}")
        if name not in named and not open_ended:
            raise TypeError(f"forward() got an unexpected keyword argument {name!r}")
        given[name] = value
    defaults = {n: d for n, _, d in signature.parameters}
    for name, value in given.items():
        if value is None:
            continue
        if name in signature.inputs:
            if not isinstance(value, torch.Tensor):
                raise TypeError(f"forward() expected {name!r} to be a tensor, got {type(value).__name__}")
            continue
        fixed = signature.constants.get(name, defaults.get(name))
        if isinstance(value, torch.Tensor) or value != fixed:
            raise TypeError(
                f"forward() was prepared without {name!r} (it was {fixed!r}); "
                "give it in the example of prepare"
            )
    return given


def _take_sizes_elsewhere(graph: fx.Graph, gone: set[fx.Node]) -> None:
    """Read the batch size from an input that stays: export reads it from any of them, labels included."""
    sizes = {
        size: (node, axis)
        for node in graph.nodes
        if node.op == "placeholder" and node not in gone
        for axis, size in enumerate(node.meta.get("pq_shape") or ())
        if size < 0
    }
    for node in graph.nodes:
        if node.target is torch.ops.aten.sym_size.int and node.args[0] in gone:
            source, axis = node.args
            size = (source.meta.get("pq_shape") or {axis: None})[axis]
            node.args = sizes.get(size, node.args)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: _without_none(v) for k, v in value.items() if v is not None}
        return kept if type(value) is dict else type(value)(**kept)
    if type(value) in (list, tuple):
        return type(value)(_without_none(v) for v in value if v is not None)
    return value


# -- graphs as code and as data ------------------------------------------------------------------------------


def _compile(graph: fx.Graph) -> Callable[..., Any]:
    """The function ``run(self, *inputs)`` of a graph."""
    code = graph.python_code("self")
    scope = dict(code.globals)
    exec(compile(code.src, "<pyquant prepared model>", "exec"), scope)  # generated by torch.fx
    run: Callable[..., Any] = scope["forward"]
    return run


class _Ref:
    """A node inside pickled arguments."""

    def __init__(self, name: str) -> None:
        self.name = name


def _target_name(target: Any) -> str:
    if isinstance(target, str):
        return target
    if isinstance(target, torch._ops.OpOverload):
        return f"torch.ops:{target.namespace}.{target._schema.name.split('::')[1]}.{target._overloadname}"
    return f"{target.__module__}:{target.__qualname__}"


def _find_target(name: str) -> Any:
    module, _, path = name.partition(":")
    at: Any = torch.ops if module == "torch.ops" else importlib.import_module(module)
    for part in path.split("."):
        at = getattr(at, part)
    return at


def _flatten_spec(spec: pytree.TreeSpec) -> Any:
    """(type, context, children) all the way down; None for a leaf."""
    if spec.is_leaf():
        return None
    return spec.type, spec.context, [_flatten_spec(child) for child in spec.children()]


def _unflatten_spec(data: Any) -> pytree.TreeSpec:
    if data is None:
        return pytree.tree_structure(0)
    kind, context, children = data
    return pytree.TreeSpec(kind, context, [_unflatten_spec(child) for child in children])


def _flatten_graph(graph: fx.Graph) -> list[tuple[str, str, str, Any, Any, Any]]:
    steps = []
    for node in graph.nodes:
        args = pytree.tree_map(lambda v: _Ref(v.name) if isinstance(v, fx.Node) else v, _as_tuple(node.args))
        kwargs = pytree.tree_map(lambda v: _Ref(v.name) if isinstance(v, fx.Node) else v, dict(node.kwargs))
        steps.append((node.op, node.name, _target_name(node.target), args, kwargs, node.meta.get("pq_shape")))
    return steps


def _as_tuple(value: Any) -> Any:
    """fx's immutable lists as plain ones."""
    if isinstance(value, (list, tuple)):
        plain = [_as_tuple(v) for v in value]
        return tuple(plain) if type(value) is tuple else plain
    if isinstance(value, dict):
        return {k: _as_tuple(v) for k, v in value.items()}
    return value


def _unflatten_graph(steps: list[tuple[str, str, str, Any, Any, Any]]) -> fx.Graph:
    graph = fx.Graph()
    made: dict[str, fx.Node] = {}

    def nodes(value: Any) -> Any:
        return pytree.tree_map(
            lambda v: made[v.name] if isinstance(v, _Ref) else v, value, is_leaf=lambda v: isinstance(v, _Ref)
        )

    for op, name, target, args, kwargs, shape in steps:
        found = _find_target(target) if op == "call_function" else target
        made[name] = graph.create_node(op, found, nodes(args), nodes(kwargs), name=name)
        made[name].meta["pq_shape"] = shape
    return graph
