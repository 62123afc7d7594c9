"""Prepared: the user's model with every compute node a site, in our own module class."""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx, nn

from pyquant.config import QuantConfig
from pyquant.coverage import Coverage, CoverageRow
from pyquant.errors import CalibrationError, CaptureError
from pyquant.graph.aten import LABELS
from pyquant.graph.build import Built, Row
from pyquant.graph.calling import bind_call, without_none
from pyquant.graph.capture import Captured, Signature
from pyquant.graph.checkpointing import Checkpointed
from pyquant.graph.code import (
    compile_graph,
    flatten_graph,
    flatten_spec,
    unflatten_graph,
    unflatten_spec,
)
from pyquant.graph.passes import PASSES, SiteError, in_pass, recomputing
from pyquant.graph.sites import Site
from pyquant.graph.state import COUNTS_PASSES, difference, from_tensor, to_tensor
from pyquant.graph.train_graph import TrainGraphs
from pyquant.graph.watch import ScaleWatch

__all__ = ["LABELS", "Prepared", "as_in_eval", "make_prepared"]

_EXTRA = "_extra_state"  # torch's name for it
_COPIED = ("config", "main_input_name")  # what training loops read from a model besides its parameters
_OWN = ("_code", "_variants", "_segmented", "_graph", "_train_graphs", "_watch")  # rebuilt after pickling


class Prepared(Checkpointed, nn.Module):
    """A model that simulates with the real integer kernels.

    Call it like the original: same parameters, positional or by keyword, same outputs. Parameters and buffers
    keep the names they had; the quantizers' state lies under ``pq_sites``. Made by `pyquant.prepare` and
    `pyquant.quantize`.

    `train()` and `eval()` make no difference to the result: dropout and batch statistics were removed (and
    listed by `coverage`). If it was prepared with ``dropout=True`` or ``batch_statistics=True`` they come
    back in `train()`; what `eval()` gives, and `convert` makes, stays the same.
    """

    pq_sites: nn.Module
    accepts_loss_kwargs = False  # the transformers Trainer then passes nothing that the graph does not know

    def __init__(self) -> None:
        super().__init__()
        self._variants: dict[tuple[str, frozenset[str]], Callable[..., Any]] = {}
        self._counts_passes = True  # calibration with a loss switches it off
        self.register_buffer(PASSES, torch.zeros((), dtype=torch.int64))

    # -- calling ---------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Replaced in each instance's class by a method with the original signature."""
        return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        missing, inputs = self.bind(args, kwargs)
        self._watch.look(self)
        stage = self._stage
        training = self.training and self._counts_passes and torch.is_grad_enabled()
        if training and not recomputing():
            self.pq_training_passes.add_(1)
        if training and self._checkpointing is not None:
            run = self._checkpointed_variant(missing, stage)
        else:
            run = self._variant(missing, stage) if missing or stage else self._code
        device = inputs[0].device.type
        try:
            if self._whole and torch.is_autocast_enabled(device):
                # Integer ops ignore autocast; what is computed of parameters alone must not feel it either.
                with torch.autocast(device, enabled=False):
                    flat = run(self, *inputs)
            else:
                flat = run(self, *inputs)
        except (SiteError, CalibrationError) as error:
            if not training:
                raise
            raise in_pass(error, self.training_passes) from None
        return self.output_of(flat, missing)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[frozenset[str], list[Any]]:
        """(inputs that are not given, values of the others in the order of the graph's placeholders).

        Raises
        ------
        TypeError
            The call does not fit the original signature.
        """
        given = bind_call(self._signature, args, kwargs)
        missing = frozenset(name for name in self._signature.inputs if given.get(name) is None)
        return missing, [given[name] for name in self._signature.inputs if name not in missing]

    def output_of(self, flat: Iterable[Any], missing: frozenset[str]) -> Any:
        """What a call returns, from the values of the graph's output node."""
        output = pytree.tree_unflatten(list(flat), self._signature.output_spec)
        return without_none(output) if missing else output

    @property
    def _stage(self) -> str:
        """Which graph runs now: a field of `TrainGraphs`, or empty for the deployed one."""
        if not self.training:
            return ""
        if self._train_graphs.unfrozen is not None and not self._norms_frozen:
            return "unfrozen"
        return "frozen" if self._train_graphs.frozen is not None else ""

    def _stages(self) -> list[str]:
        """All that there are."""
        return [
            "",
            *(stage for stage in ("unfrozen", "frozen") if getattr(self._train_graphs, stage) is not None),
        ]

    @property
    def norms_frozen(self) -> bool | None:
        """Whether batch norms keep their running statistics in `train()`; None if they always do (it was
        prepared without ``batch_statistics=True``, or has none)."""
        return self._norms_frozen if self._train_graphs.unfrozen is not None else None

    def _variant(self, missing: frozenset[str], stage: str = "") -> Callable[..., Any]:
        """The function of a graph without some inputs (a loss without labels)."""
        if (stage, missing) not in self._variants:
            self._variants[stage, missing] = compile_graph(self.graph_without(missing, stage))
        return self._variants[stage, missing]

    def graph_without(self, missing: frozenset[str], stage: str = "") -> fx.Graph:
        """A graph without some inputs: outputs that depend on them are None.

        Parameters
        ----------
        missing : frozenset of str
            Names of inputs.
        stage : str
            Empty for the deployed graph, or a field of `TrainGraphs`.

        Raises
        ------
        TypeError
            Every output depends on them.
        """
        missing = missing & set(self._signature.inputs)
        whole: fx.Graph = getattr(self._train_graphs, stage) if stage else self._graph
        if not missing:
            return whole
        graph = copy.deepcopy(whole)
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
    def training_passes(self) -> int:
        """How many forward passes this model has trained on, its checkpoints included.

        A pass counts if it runs in `train()` with gradients recorded; what checkpointing runs again in the
        backward pass does not. (Inside torch's reentrant kind of checkpointing no first pass records
        gradients, so that none counts.) The number is the buffer ``pq_training_passes`` of the state dict, an
        int64; copies, averaged ones too, take it along. Reading it waits for the device.
        """
        return int(self.pq_training_passes)

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
        """The configuration, whether batch norms are frozen, and what `param_groups` keeps: a tensor of the
        state dict."""
        rates = {name: site.rates for name, site in self.sites().items() if site.rates}
        return to_tensor(self._config, norms_frozen=self.norms_frozen, rates=rates)

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
        if saved["norms_frozen"] is not None:
            self._norms_frozen = bool(saved["norms_frozen"])

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        # First of all, before a parameter is touched: torch would set it last.
        if prefix + _EXTRA in state:
            self.set_extra_state(state[prefix + _EXTRA])
            if from_tensor(state[prefix + _EXTRA])["format"] < COUNTS_PASSES:
                state.setdefault(prefix + PASSES, torch.zeros((), dtype=torch.int64))
        super()._load_from_state_dict(state, prefix, *args)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made for this signature, so it is rebuilt, not looked up by name.
        state = {k: v for k, v in self.__dict__.items() if k not in _OWN}
        state["_graph"] = flatten_graph(self._graph)
        state["_train_graphs"] = [
            None if graph is None else flatten_graph(graph)
            for graph in (self._train_graphs.unfrozen, self._train_graphs.frozen)
        ]
        # A TreeSpec warns when it is copied.
        state["_signature"] = replace(self._signature, output_spec=flatten_spec(self._signature.output_spec))
        return _restore, (self._signature.parameters, type(self).__name__), state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.__dict__.setdefault("_counts_passes", True)  # pickled before there was a count
        self._buffers.setdefault(PASSES, torch.zeros((), dtype=torch.int64))
        self._signature = replace(self._signature, output_spec=unflatten_spec(self._signature.output_spec))
        stored = state.get("_train_graphs", (None, None))
        trained = TrainGraphs(*(None if steps is None else unflatten_graph(steps) for steps in stored))
        self._install(unflatten_graph(state["_graph"]), trained)

    def _install(self, graph: fx.Graph, trained: TrainGraphs) -> None:
        object.__setattr__(self, "_graph", graph)
        object.__setattr__(self, "_train_graphs", trained)
        object.__setattr__(self, "_code", compile_graph(graph))
        object.__setattr__(self, "_variants", {})
        object.__setattr__(self, "_watch", ScaleWatch())
        labels = frozenset(LABELS) & set(self._signature.inputs)
        for stage in self._stages():
            # Made now, since torch.compile cannot trace the making.
            self._variant(frozenset(), stage)
            with contextlib.suppress(TypeError):  # every output depends on them
                self._variant(labels, stage)
        self._checkpoint_by(self._checkpointing)

    pq_training_passes: Tensor
    _graph: fx.Graph
    _train_graphs: TrainGraphs
    _norms_frozen: bool = False
    _watch: ScaleWatch
    _code: Callable[..., Any]
    _signature: Signature
    _rows: tuple[Row, ...]
    _config: QuantConfig


def make_prepared(
    original: nn.Module,
    captured: Captured,
    built: Built,
    config: QuantConfig,
    trained: TrainGraphs | None = None,
) -> Prepared:
    """Assemble a `Prepared` from its parts."""
    prepared = _class_for(captured.signature.parameters, type(original).__name__)()
    for name, child in captured.root.named_children():
        _check_free(prepared, "submodule", name)
        prepared.add_module(name, child)
    for name, parameter in captured.root.named_parameters(recurse=False):
        _check_free(prepared, "parameter", name)
        prepared.register_parameter(name, parameter)
    for name, buffer in captured.root.named_buffers(recurse=False):
        _check_free(prepared, "buffer", name)
        persistent = name not in captured.root._non_persistent_buffers_set
        prepared.register_buffer(name, buffer, persistent=persistent)
    prepared.pq_sites = built.sites
    prepared._signature, prepared._config = captured.signature, config
    prepared._rows = tuple(built.rows)
    for name in _COPIED:
        if hasattr(original, name) and not hasattr(prepared, name):
            setattr(prepared, name, copy.deepcopy(getattr(original, name)))
    prepared._install(built.graph, trained or TrainGraphs(None, None))
    prepared.train(original.training)
    return prepared


@contextlib.contextmanager
def as_in_eval(prepared: Prepared) -> Iterator[None]:
    """The model does what it does in `eval()`; no flag of a submodule changes, and its own comes back."""
    before = prepared.training
    prepared.training = False
    try:
        yield
    finally:
        prepared.training = before


def _check_free(prepared: Prepared, what: str, name: str) -> None:
    if hasattr(prepared, name):
        raise CaptureError(f"prepare: a {what} called {name!r} collides with a method of Prepared; rename it")


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
