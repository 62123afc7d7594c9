"""From a user's model to an ATen graph that we own.

`torch.export` sees every functional call of an unmodified model, but its module shares Parameter objects with
the model, refuses ``.train()`` and cannot be pickled. So the exported graph is copied into a plain
``torch.fx.Graph`` over a copy of the model: parameters and buffers are read by ``get_attr`` under the names
the user knows.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import fx, nn
from torch.export import Dim
from torch.export.graph_signature import InputKind, OutputKind

from pyquant.errors import CaptureError
from pyquant.graph.marks import Mark, Norm
from pyquant.graph.probe import Probe, norms_of

__all__ = ["Captured", "Pass", "Signature", "capture"]

_log = logging.getLogger("pyquant")
_DROPPED = {"_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range_for_size", "_assert_async"}


@dataclass(frozen=True)
class Signature:
    """How the original model is called, and how its outputs are put together."""

    parameters: tuple[
        tuple[str, int, Any], ...
    ]  # name, inspect kind, default (inspect.Parameter.empty if none)
    inputs: tuple[str, ...]  # the parameters that were tensors when captured, in graph order
    constants: Mapping[str, Any]  # the parameters that were something else, baked in
    output_spec: pytree.TreeSpec

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name, as Python itself would bind them."""
        parameters = [inspect.Parameter(n, kind, default=d) for n, kind, d in self.parameters]  # type: ignore[arg-type]
        bound = inspect.Signature(parameters).bind(*args, **kwargs)
        found: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = next(k for n, k, _ in self.parameters if n == name)
            if kind == inspect.Parameter.VAR_KEYWORD:
                found.update(value)
            elif kind == inspect.Parameter.VAR_POSITIONAL:
                found.update({f"{name}_{i}": v for i, v in enumerate(value)})
            else:
                found[name] = value
        return found


@dataclass
class Captured:
    """An ATen graph over `root`, with the names of its nodes kept apart (later passes lose them)."""

    root: nn.Module  # parameters and buffers under their original names
    graph: fx.Graph
    signature: Signature
    paths: dict[str, str]  # node name -> module path that made the call
    leaves: set[str]  # module paths that have no children: one op there carries the path as its name
    removed: list[tuple[str, str]] = field(
        default_factory=list
    )  # (what, why): dropout, stochastic depth, ...
    marks: dict[int, Mark] = field(default_factory=dict)  # of the marks in the graph (`marks.py`)
    norms: dict[str, Norm] = field(default_factory=dict)  # batch norms that keep batch statistics, by path
    lost: list[tuple[str, str, str]] = field(default_factory=list)  # path, what, why: not in train() either


def _signature_of(model: nn.Module) -> list[inspect.Parameter]:
    return list(inspect.signature(model.forward).parameters.values())


def _double(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    """An example of batch 1 cannot tell a batch axis from a broadcast one: repeat it."""
    if batch == 1 and tensor.dim() > 0 and tensor.shape[0] == 1:
        return torch.cat([tensor, tensor])
    return tensor.clone()


def capture(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dropout: bool = False,
    batch_statistics: bool = False,
) -> Captured:
    """Export an eval copy of `model` with a dynamic batch and rebuild its graph.

    Parameters
    ----------
    model : torch.nn.Module
        Any exportable model. It is copied first and never changed.
    args, kwargs
        One example call. The first axis of every tensor is the batch; an example of batch 1 is repeated to 2.
    dropout : bool
        Leave marks where the model drops values in training.
    batch_statistics : bool
        Note which batch norms follow the statistics of the batch in training.

    Raises
    ------
    CaptureError
        The model cannot be exported: an input specialises, or its control flow depends on data. The message
        names the input or the line. With `dropout`: it does not run in training mode.
    """
    if not isinstance(model, nn.Module):
        raise CaptureError(f"capture: expected model to be a torch.nn.Module, got {type(model).__name__}")
    with torch.inference_mode(False), torch.no_grad():
        work = copy.deepcopy(model).eval()
    parameters = _signature_of(work)
    try:
        bound = inspect.Signature(parameters).bind(*args, **(kwargs or {}))
    except TypeError as error:
        raise CaptureError(
            f"capture: the example does not fit {type(model).__name__}.forward: {error}"
        ) from None
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = work_kind(parameters, name)
        if kind == inspect.Parameter.VAR_POSITIONAL:
            raise CaptureError(
                f"capture: *{name} of {type(model).__name__}.forward is not supported; name the inputs"
            )
        named.update(value if kind == inspect.Parameter.VAR_KEYWORD else {name: value})
    tensors = {n: v for n, v in named.items() if isinstance(v, torch.Tensor)}
    nested = [
        n for n, v in named.items() if not isinstance(v, (torch.Tensor, int, float, bool, str, type(None)))
    ]
    if nested:
        raise CaptureError(
            f"capture: input {nested[0]!r} is a {type(named[nested[0]]).__name__}; inputs must be tensors"
        )
    if not tensors:
        raise CaptureError(f"capture: the example has no tensor among {sorted(named) or 'no inputs'}")
    first = next(iter(tensors.values()))
    if first.dim() == 0:
        raise CaptureError(
            f"capture: input {next(iter(tensors))!r} is a scalar; its first axis must be the batch"
        )
    batch = first.shape[0]
    with torch.inference_mode(False):
        example = {
            n: _double(v.detach(), batch) if isinstance(v, torch.Tensor) else v for n, v in named.items()
        }
    size = max(2, batch)
    dynamic = {
        n: ({0: Dim.DYNAMIC} if isinstance(v, torch.Tensor) and v.dim() and v.shape[0] == size else None)
        for n, v in example.items()
    }
    positional = [p.name for p in parameters if p.kind == inspect.Parameter.POSITIONAL_ONLY]
    call_args = tuple(example.pop(n) for n in positional if n in example)
    inputs = {**dict(zip(positional, call_args, strict=False)), **example}
    probe = _probed(work, inputs, positional) if dropout else None
    exported = _export(work, inputs, dynamic, positional, probe)
    captured = _rebuild(work, exported, parameters, named)
    if probe is not None:
        probe.mark_multi_head(captured.graph, captured.paths)
        captured.marks, captured.lost = probe.marks, probe.lost
    if batch_statistics:
        captured.norms, frozen = norms_of(work)
        captured.lost = [*captured.lost, *frozen]
    return captured


def _probed(work: nn.Module, inputs: dict[str, Any], positional: list[str]) -> Probe:
    def run(model: nn.Module) -> Any:
        return _KeywordCall(model, positional)(dict(inputs))

    try:
        return Probe(work, run)
    except Exception as error:
        raise CaptureError(
            f"capture: dropout: {type(work).__name__} has to run once in training mode, which failed: {error}"
        ) from error


def work_kind(parameters: list[inspect.Parameter], name: str) -> int:
    """The inspect kind of the parameter called `name`."""
    return next(p.kind for p in parameters if p.name == name)


def _export(
    work: nn.Module,
    inputs: dict[str, Any],
    dynamic: dict[str, Any],
    positional: list[str],
    probe: Probe | None,
) -> torch.export.ExportedProgram:
    marking = contextlib.nullcontext(contextlib.nullcontext) if probe is None else probe.marking(work)
    try:
        with torch.inference_mode(False), warnings.catch_warnings(), marking as context:
            warnings.simplefilter("ignore", FutureWarning)  # torch.export warns about its own internals
            program = torch.export.export(
                _KeywordCall(work, positional, context),
                (inputs,),
                dynamic_shapes={"inputs": dynamic},
                strict=False,
            )
            decomposed: torch.export.ExportedProgram = program.run_decompositions({})
            return decomposed
    except Exception as error:  # torch.export raises a dozen kinds; all are restated once, here
        raise CaptureError(_explain(work, error)) from error


class _KeywordCall(nn.Module):
    """One dict of named inputs, so that one path serves every signature. The model runs in a context."""

    def __init__(
        self,
        model: nn.Module,
        positional: list[str],
        context: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        super().__init__()
        self.model = model
        self.positional = positional
        self.context = context

    def forward(self, inputs: dict[str, Any]) -> Any:
        """Call the model by name, with what must be positional first."""
        args = [inputs[n] for n in self.positional if n in inputs]
        with self.context():
            return self.model(*args, **{n: v for n, v in inputs.items() if n not in self.positional})


def _explain(work: nn.Module, error: Exception) -> str:
    text = str(error)
    name = type(work).__name__
    if "pecializ" in text or "Constraints violated" in text:
        wanted = [line.strip() for line in text.splitlines() if "inputs" in line or "pecializ" in line]
        detail = (wanted or text.splitlines())[0].replace("L['inputs']", "inputs")
        return (
            f"capture: an input of {name} fixes the batch size (len(x) and int(x.shape[0]) do, "
            f"x.shape[0] does not): {detail}"
        )
    where = [
        line.strip()
        for line in text.splitlines()
        if 'File "' in line or "Caused by" in line or ".py:" in line
    ]
    line = f" at {where[-1]}" if where else ""
    head = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return f"capture: {name} cannot be exported (control flow or shapes that depend on data?): {head}{line}"


def _set_module_path(root: nn.Module, path: str) -> tuple[nn.Module, str]:
    *parents, last = path.split(".")
    at = root
    for part in parents:
        child = getattr(at, part, None)
        if child is None:
            child = nn.Module()
            at.add_module(part, child)
        at = child
    return at, last


def _rebuild(
    work: nn.Module,
    program: torch.export.ExportedProgram,
    parameters: list[inspect.Parameter],
    named: dict[str, Any],
) -> Captured:
    root = nn.Module()
    tensors: dict[int, torch.Tensor] = {}
    persistent = set(work.state_dict(keep_vars=True))
    for path, parameter in work.named_parameters(remove_duplicate=False):
        owner, last = _set_module_path(root, path)
        owner.register_parameter(last, parameter)
        tensors[id(parameter)] = parameter
    for path, buffer in work.named_buffers(remove_duplicate=False):
        owner, last = _set_module_path(root, path)
        owner.register_buffer(last, buffer, persistent=path in persistent)

    graph = fx.Graph()
    env: dict[str, fx.Node] = {}
    paths: dict[str, str] = {}
    signature = program.graph_signature
    specs = {spec.arg.name: spec for spec in signature.input_specs}
    user_inputs: list[str] = []
    bad = [s for s in signature.output_specs if s.kind != OutputKind.USER_OUTPUT]
    if bad:
        raise CaptureError(f"capture: {type(work).__name__} changes its state in forward ({bad[0].target})")
    names = [n for n, v in named.items() if isinstance(v, torch.Tensor)]
    for node in program.graph.nodes:
        if node.op == "placeholder":
            spec = specs[node.name]
            if spec.kind == InputKind.USER_INPUT:
                if node.meta.get("val") is None or not isinstance(node.meta["val"], torch.Tensor):
                    continue
                key = next((n for n in names if node.name == n or node.name.endswith(n)), node.name)
                user_inputs.append(key)
                new = graph.placeholder(key)
            else:
                new = _constant(graph, root, work, program, spec, node)
        elif node.op == "output":
            new = graph.output(fx.map_arg(node.args[0], lambda n: env[n.name]))
        elif node.op == "get_attr":
            raise CaptureError(
                f"capture: {type(work).__name__} uses torch control flow ({node.target}), not supported"
            )
        else:
            if getattr(node.target, "__name__", "").split(".")[0] in _DROPPED:
                continue
            new = graph.node_copy(node, lambda n: env[n.name])
        new.meta = {"val": node.meta.get("val")}
        env[node.name] = new
        stack = node.meta.get("nn_module_stack") or {}
        path = list(stack.values())[-1][0].split("@")[0] if stack else ""
        path = "" if path == "_empty_nn_module_stack_from_metadata_hook" else path
        paths[new.name] = path.removeprefix("model").removeprefix(".")
    leaves = {p for p, m in work.named_modules() if p and next(m.children(), None) is None}
    removed = [
        (p, type(m).__name__)
        for p, m in work.named_modules()
        if "drop" in type(m).__name__.lower()
        and (getattr(m, "p", None) or getattr(m, "drop_prob", None) or 0) > 0
    ]
    listed = tuple((p.name, int(p.kind), p.default) for p in parameters)
    constants = {n: v for n, v in named.items() if not isinstance(v, torch.Tensor) and v is not None}
    spec = program.call_spec.out_spec
    assert spec is not None
    return Captured(
        root, graph, Signature(listed, tuple(user_inputs), constants, spec), paths, leaves, removed
    )


def _constant(
    graph: fx.Graph,
    root: nn.Module,
    work: nn.Module,
    program: torch.export.ExportedProgram,
    spec: Any,
    node: fx.Node,
) -> fx.Node:
    """A parameter, buffer or lifted constant becomes a get_attr under the user's name."""
    if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
        return graph.create_node("get_attr", spec.target.removeprefix("model."), name=node.name)
    if spec.kind == InputKind.CONSTANT_TENSOR:
        name = f"pq_constant_{node.name}".replace(".", "_")
        root.register_buffer(name, program.constants[spec.target].clone(), persistent=False)
        return graph.create_node("get_attr", name, name=node.name)
    raise CaptureError(
        f"capture: {type(work).__name__} takes a {spec.kind.name.lower()} input, not supported"
    )


Pass = Callable[[Captured], None]
