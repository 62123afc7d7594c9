"""What a model drops in training, seen from outside.

Code says ``dropout_p=self.p if self.training else 0.0``, so the graph of the model in `eval()` knows neither
where nor how often it drops. A copy therefore runs once in each mode while every call of a drop function is
written down under the module at work. The n-th call there in `eval()` is the n-th in `train()`, and while the
model is exported it leaves a mark (`marks.py`) with that probability.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from pyquant.graph.marks import Drop, Mark, Norm, mark

__all__ = ["Probe", "drop_paths", "norms_of"]

_Key: TypeAlias = "tuple[str, str]"  # module path, function

_DROPS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
_ATTENTION, _MULTI_HEAD = "scaled_dot_product_attention", "multi_head_attention_forward"
_RANDOM = frozenset({"exponential_", "gumbel_softmax", "multinomial", "poisson", "randperm", "uniform_"}) | {
    *("bernoulli", "bernoulli_", "normal", "normal_", "random_", "rrelu", "rrelu_"),
    *("rand", "rand_like", "randint", "randint_like", "randn", "randn_like"),
}
_DEPTH = re.compile("drop_?path|stochastic_?depth", re.IGNORECASE)


def drop_paths(model: nn.Module) -> dict[nn.Module, float]:
    """Modules of stochastic depth with their probabilities.

    Known by name (DropPath and its copies with a model's name in front, StochasticDepth) and by the attribute
    ``drop_prob`` or ``p``; none of the libraries that define them is needed.
    """
    found: dict[nn.Module, float] = {}
    for module in model.modules():
        if not _DEPTH.search(type(module).__name__) or next(module.children(), None) is not None:
            continue
        rate = getattr(module, "drop_prob", None) or getattr(module, "p", None) or 0.0
        if isinstance(rate, (int, float)) and 0.0 < rate <= 1.0:
            found[module] = float(rate)
    return found


def norms_of(model: nn.Module) -> tuple[dict[str, Norm], list[tuple[str, str, str]]]:
    """Batch norms that can follow the statistics of their batch, by path; (path, what, why) of the others."""
    norms, lost = {}, []
    for path, module in model.named_modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm) or module.running_mean is None:
            continue
        name = type(module).__name__
        if isinstance(module, nn.SyncBatchNorm):
            lost.append((path, name, "statistics over several processes stay frozen"))
        else:
            counter = f"{path}.num_batches_tracked".lstrip(".")
            norms[path] = Norm(path, name, module.momentum, module.eps, counter)
    return norms, lost


def _called(func: Any) -> str:
    """Which drop function this is; empty for any other."""
    if func is F.multi_head_attention_forward:
        return _MULTI_HEAD
    name = str(getattr(func, "__name__", ""))
    name = "dropout2d" if name == "feature_dropout" else name
    return name if name in _DROPS or name == _ATTENTION else ""


def _probability(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """The probability that a call of a drop function asks for, 0 if not in training."""
    if name == _ATTENTION:
        return float(kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0))
    if not inspect.isfunction(func):  # torch.dropout(input, p, train)
        p, training = (*args, kwargs.get("p"), kwargs.get("train"))[1:3]
        return float(p) if training else 0.0
    given = inspect.signature(func).bind(*args, **kwargs)
    given.apply_defaults()
    p = given.arguments["dropout_p" if name == _MULTI_HEAD else "p"]
    return float(p) if given.arguments["training"] else 0.0


class _Listener(TorchFunctionMode):
    """Writes down drop functions, and whatever else is random, by the module at work."""

    def __init__(self, at: list[str], known: set[str]) -> None:
        super().__init__()
        self.at, self.known = at, known
        self.calls: dict[_Key, list[float]] = {}
        self.random: Counter[_Key] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name, path = _called(func), self.at[-1]
        if name:
            self.calls.setdefault((path, name), []).append(_probability(func, name, args, kwargs))
        elif getattr(func, "__name__", "") in _RANDOM and path not in self.known:
            self.random[path, func.__name__] += 1
        return func(*args, **kwargs)


class _Marker(TorchFunctionMode):
    """Lets the calls that drop in training leave marks."""

    def __init__(self, probe: Probe, at: list[str]) -> None:
        super().__init__()
        self.probe, self.at = probe, at
        self.counts: Counter[_Key] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name, path = _called(func), self.at[-1]
        listed = self.probe.planned.get((path, name), ()) if name else ()
        number = self.counts[path, name]
        self.counts[path, name] += 1
        if number >= len(listed) or listed[number] == 0.0 or name == _MULTI_HEAD:
            return func(*args, **kwargs)
        if name == _ATTENTION:
            y = func(*args, **kwargs)
            return mark(y, self.probe.new(path, "attention", listed[number]), [])
        x = args[0] if args else kwargs["input"]
        return mark(x, self.probe.new(path, name, listed[number]), [])


class Probe:
    """The drops of one model.

    Parameters
    ----------
    model : torch.nn.Module
        In `eval()`; a copy of it runs.
    run : callable
        ``run(model)`` calls a model on the example.

    Attributes
    ----------
    marks : dict of int to Mark
        Filled while the model runs under `marking`.
    lost : list of (str, str, str)
        Path, what, and why it cannot be brought back.

    Raises
    ------
    Exception
        Whatever the model raises in training.
    """

    def __init__(self, model: nn.Module, run: Callable[[nn.Module], Any]) -> None:
        self.names = {path: type(module).__name__ for path, module in model.named_modules()}
        self.marks: dict[int, Mark] = {}
        self.lost: list[tuple[str, str, str]] = []
        with torch.random.fork_rng(), torch.no_grad():
            here = self._listen(copy.deepcopy(model), run)
            there = self._listen(copy.deepcopy(model).train(), run)
        self.planned: dict[_Key, list[float]] = {}
        for key, listed in there.calls.items():
            if len(listed) == len(here.calls.get(key, ())):
                self.planned[key] = listed
            elif any(listed):
                times = f"called {len(listed)} times in train() and {len(here.calls.get(key, ()))} in eval()"
                self._lose(key, times)
        for key in there.random - here.random:
            self._lose(key, "random values of the model's own, in train() only")

    def _listen(self, model: nn.Module, run: Callable[[nn.Module], Any]) -> _Listener:
        with _followed(model) as at:
            depth = drop_paths(model)
            known = {path for path, module in model.named_modules() if module in depth}
            listener = _Listener(at, known)
            with listener:
                run(model)
        return listener

    def _lose(self, key: _Key, why: str) -> None:
        path, name = key
        self.lost.append((path, _WORDS.get(name, name), why))

    def new(self, path: str, kind: str, p: float, scaled: bool = True) -> int:
        """The key of a new mark."""
        named = self.names.get(path, "")
        what = named if "drop" in named.lower() or _DEPTH.search(named) else _WORDS.get(kind, "dropout")
        self.marks[len(self.marks)] = Drop(path, what, kind, p, scaled)
        return len(self.marks) - 1

    @contextmanager
    def marking(self, model: nn.Module) -> Iterator[Callable[[], Any]]:
        """While a model is exported. What it gives makes a fresh context for each run of the model."""
        depth = drop_paths(model)
        with _followed(model) as at:
            hooks = [m.register_forward_hook(self._mark_depth(at, p), prepend=True) for m, p in depth.items()]

            def fresh() -> _Marker:
                self.marks.clear()
                return _Marker(self, at)

            try:
                yield fresh
            finally:
                for hook in hooks:
                    hook.remove()

    def _mark_depth(self, at: list[str], p: float) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            path = at[-1]
            if not (isinstance(output, Tensor) and args and output is args[0]):
                why = "in eval() it is not the identity"
                self.lost.append((path, type(module).__name__, why))
                return output
            kind = "batch" if getattr(module, "mode", "row") == "batch" else "row"
            scaled = bool(getattr(module, "scale_by_keep", True))
            return mark(output, self.new(path, kind, p, scaled), [])

        return hook

    def mark_multi_head(self, graph: fx.Graph, paths: dict[str, str]) -> None:
        """The attentions of `F.multi_head_attention_forward`, whose inside no function mode sees."""
        aten = torch.ops.aten
        targets = (aten.scaled_dot_product_attention.default, aten.softmax.int, aten._softmax.default)
        for (path, name), listed in self.planned.items():
            if name != _MULTI_HEAD or not any(listed):
                continue
            found = [n for n in graph.nodes if n.target in targets and paths.get(n.name) == path]
            if len(found) != len(listed):
                self._lose((path, name), "its attention is not found in the graph")
                continue
            for node, p in zip(found, listed, strict=True):
                kind = "attention" if node.target is targets[0] else "dropout"
                with graph.inserting_after(node):
                    new = graph.call_function(mark, (node, self.new(path, kind, p), []))
                node.replace_all_uses_with(new, delete_user_cb=lambda user, new=new: user is not new)
                new.meta = {"val": node.meta.get("val")}
                paths[new.name] = path


_WORDS = {_ATTENTION: "attention dropout", _MULTI_HEAD: "attention dropout", "attention": "attention dropout"}


@contextmanager
def _followed(model: nn.Module) -> Iterator[list[str]]:
    """A list whose last entry is always the path of the module at work."""
    at, hooks = [""], []

    def enter(path: str) -> Callable[..., None]:
        return lambda module, args: at.append(path)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        at.pop()

    for path, module in model.named_modules():
        if path:
            hooks.append(module.register_forward_pre_hook(enter(path), prepend=True))
            hooks.append(module.register_forward_hook(leave))
    try:
        yield at
    finally:
        for hook in hooks:
            hook.remove()
