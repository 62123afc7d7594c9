"""Gradient checkpointing: a training pass keeps what enters a block, and runs the block again."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.utils.checkpoint import checkpoint

from pyquant.graph.aten import LABELS
from pyquant.graph.build import attribute
from pyquant.graph.capture import Signature
from pyquant.graph.passes import recomputing
from pyquant.graph.segments import Segment, blocks_of, cut, even_blocks
from pyquant.graph.sites import Site

__all__ = ["Checkpointed", "Checkpointing"]

_FLAGS = ("preserve_rng_state", "debug", "early_stop")
_KEYWORDS = ("use_reentrant", *_FLAGS, "determinism_check", "context_fn")
_CHECKS = ("default", "none")


@dataclass(frozen=True)
class Checkpointing:
    """What the user chose.

    Attributes
    ----------
    block_of : mapping of str to str
        Site -> block.
    every : int
        Each so-many-th block is checkpointed.
    offload : bool
        Keep what crosses the borders in pinned memory of the host.
    keywords : mapping
        For `torch.utils.checkpoint.checkpoint`.
    """

    block_of: Mapping[str, str]
    every: int = 1
    offload: bool = False
    keywords: Mapping[str, Any] = field(default_factory=dict)


class Checkpointed:
    """The part of `Prepared` that the user calls."""

    _checkpointing: Checkpointing | None = None
    _signature: Signature
    graph_without: Callable[[frozenset[str], str], fx.Graph]
    _stages: Callable[[], list[str]]
    sites: Callable[[], dict[str, Site]]

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
        *,
        blocks: str | None = None,
        segments: int | None = None,
    ) -> None:
        """From now on a training pass keeps what enters a block, and runs the block again for its gradient.

        Outputs and gradients are the same to the last bit, at the cost of a second forward. It takes part in
        passes in `train()` with gradients recorded; the ones that run again are neither counted
        (`training_passes`) nor observed. Modes, and `train()`, are those of the first pass, even if they
        changed since; weights must not change before `backward()`, and batch norms that follow their batches
        (``batch_statistics=True``) must be frozen. Copies and pickles keep the setting; a
        state dict does not hold it. Under `torch.compile` blocks are recomputed by the compiler; no site may
        be in mode ``observe`` there.

        The transformers Trainer calls it for ``gradient_checkpointing=True`` (or
        ``activation_checkpointing=True``).

        Parameters
        ----------
        gradient_checkpointing_kwargs : mapping, optional
            Keywords of `torch.utils.checkpoint.checkpoint`: ``preserve_rng_state``, ``determinism_check``,
            ``early_stop``, ``debug``, ``context_fn``, and ``use_reentrant``, which must be False.
        every_n_layers : int
            Each so-many-th block is run again; the others keep their activations.
        offload : bool
            Keep what enters a block in pinned memory of the host until then.
        blocks : str, optional
            A glob over module paths, for example ``"vit.layers.*"``: each module that it matches is a block.
            By default they are found: the repeated modules with a number, such as the layers of a
            transformer.
        segments : int, optional
            Instead of blocks, cut the model into so many stretches of as many sites each.

        Raises
        ------
        ValueError
            No blocks are found, a glob matches none, or an argument is out of its range; nothing has changed.
        TypeError
            An argument of another type.
        """
        setting = _checked(
            list(self.sites()), gradient_checkpointing_kwargs, every_n_layers, offload, blocks, segments
        )
        self._checkpoint_by(setting)

    def gradient_checkpointing_disable(self) -> None:
        """Keep all activations again."""
        self._checkpoint_by(None)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether training passes run blocks again."""
        return self._checkpointing is not None

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
        **selection: Any,
    ) -> None:
        """`gradient_checkpointing_enable` under the name that transformers 5.23 gave it."""
        self.gradient_checkpointing_enable(
            activation_checkpointing_kwargs, every_n_layers, offload, **selection
        )

    def activation_checkpointing_disable(self) -> None:
        """`gradient_checkpointing_disable` under its new name."""
        self.gradient_checkpointing_disable()

    @property
    def is_activation_checkpointing(self) -> bool:
        """`is_gradient_checkpointing` under its new name."""
        return self.is_gradient_checkpointing

    def _checkpoint_by(self, setting: Checkpointing | None) -> None:
        self._segmented: dict[tuple[str, frozenset[str]], Callable[..., Any]] = {}
        self._checkpointing = setting
        if setting is not None:  # made now, since torch.compile cannot trace the making
            for stage, missing in itertools.product(set(self._stages()) - {"unfrozen"}, ((), LABELS)):
                with contextlib.suppress(TypeError):  # every output depends on them
                    self._checkpointed_variant(frozenset(missing) & set(self._signature.inputs), stage)

    def _checkpointed_variant(self, missing: frozenset[str], stage: str) -> Callable[..., Any]:
        if stage == "unfrozen":
            raise RuntimeError(
                "gradient checkpointing: a block that runs again would move its batch norms twice; "
                "freeze_batch_norm first, or disable checkpointing"
            )
        key = stage, missing
        if key not in self._segmented:
            assert self._checkpointing is not None
            self._segmented[key] = _segmented_run(self.graph_without(missing, stage), self._checkpointing)
        return self._segmented[key]


def _checked(
    names: Sequence[str],
    keywords: Mapping[str, Any] | None,
    every_n_layers: int,
    offload: bool,
    blocks: str | None,
    segments: int | None,
) -> Checkpointing:
    """Check what the user chose (`gradient_checkpointing_enable`).

    Raises
    ------
    TypeError
        `keywords` is no mapping, or `blocks` no string.
    ValueError
        An unknown keyword, a value out of its range, both `blocks` and `segments`, or no blocks.
    """
    if keywords is not None and not isinstance(keywords, Mapping):
        raise TypeError(f"gradient_checkpointing_kwargs: expected a mapping, got {keywords!r}")
    chosen = dict(keywords or {})
    for name, value in chosen.items():
        if name not in _KEYWORDS:
            raise ValueError(f"gradient_checkpointing_kwargs: expected {', '.join(_KEYWORDS)}, got {name!r}")
        if name == "use_reentrant" and value is not False:
            raise ValueError(
                f"gradient_checkpointing_kwargs: expected use_reentrant False, got {value!r} (the reentrant "
                "kind gives no gradients to a block whose inputs want none)"
            )
        if name in _FLAGS and not isinstance(value, bool):
            raise ValueError(f"gradient_checkpointing_kwargs: expected {name} True or False, got {value!r}")
        if name == "determinism_check" and value not in _CHECKS:
            raise ValueError(f"gradient_checkpointing_kwargs: expected {name} default or none, got {value!r}")
    if isinstance(every_n_layers, bool) or not isinstance(every_n_layers, int) or every_n_layers < 1:
        raise ValueError(f"every_n_layers: expected an integer >= 1, got {every_n_layers!r}")
    if not isinstance(offload, bool):
        raise ValueError(f"offload: expected True or False, got {offload!r}")
    if blocks is not None and segments is not None:
        raise ValueError(f"blocks, segments: expected one of them, got {blocks!r} and {segments!r}")
    if blocks is not None and not isinstance(blocks, str):
        raise TypeError(f"blocks: expected a glob over module paths, got {blocks!r}")
    chosen["use_reentrant"] = False
    block_of = even_blocks(names, segments) if segments is not None else blocks_of(names, blocks)
    return Checkpointing(block_of, every_n_layers, offload, chosen)


def _segmented_run(graph: fx.Graph, setting: Checkpointing) -> Callable[..., Any]:
    """The function ``run(self, *inputs)`` of a graph, its blocks checkpointed."""
    targets = {f"pq_sites.{attribute(name)}": block for name, block in setting.block_of.items()}

    def block_of(node: fx.Node) -> str | None:
        return targets.get(str(node.target)) if node.op == "call_module" else None

    inputs = tuple(node.name for node in graph.nodes if node.op == "placeholder")
    segments = cut(graph, block_of, setting.every)

    def run(prepared: nn.Module, *given: Any) -> Any:
        values = dict(zip(inputs, given, strict=True))
        found: Any = ()
        for segment in segments:
            args = [values[name] for name in segment.reads]
            for name in segment.last_reads:
                del values[name]
            if segment.block:
                found = _checkpointed(prepared, segment, args, setting)
            else:
                found = segment.run(prepared, *args)
            values.update(zip(segment.writes, found, strict=False))
        return found

    return run


def _checkpointed(prepared: nn.Module, segment: Segment, args: list[Any], setting: Checkpointing) -> Any:
    if torch.compiler.is_compiling():
        return checkpoint(lambda *given: segment.run(prepared, *given), *args, **setting.keywords)
    modules = [prepared, *(prepared.get_submodule(target) for target in segment.modules)]
    before = _states(modules)

    def block(*given: Any) -> Any:
        if not recomputing():
            return segment.run(prepared, *given)
        with _in_states(modules, before):
            return segment.run(prepared, *given)

    with _offloaded(args) if setting.offload else contextlib.nullcontext():
        return checkpoint(block, *args, **setting.keywords)


def _states(modules: Sequence[nn.Module]) -> list[tuple[str, bool]]:
    """Mode, of a site, and training flag of each."""
    return [(module.mode if isinstance(module, Site) else "", module.training) for module in modules]


@contextmanager
def _in_states(modules: Sequence[nn.Module], states: list[tuple[str, bool]]) -> Iterator[None]:
    """As they were in the first pass: since then ``with pq.mode(...)`` may have ended, or `eval()` begun."""
    now = _states(modules)
    if now == states:
        yield
        return
    try:
        _set_states(modules, states)
        yield
    finally:
        _set_states(modules, now)


def _set_states(modules: Sequence[nn.Module], states: list[tuple[str, bool]]) -> None:
    for module, (mode, training) in zip(modules, states, strict=True):
        if isinstance(module, Site) and module.mode != mode:
            module.mode = mode
        module.training = training


def _offloaded(args: list[Any]) -> contextlib.AbstractContextManager[Any]:
    """Nothing to do where the tensors are on the host already."""
    devices = {arg.device.type for arg in args if isinstance(arg, torch.Tensor)} - {"cpu"}
    if not devices:
        return contextlib.nullcontext()
    hooks: Any = torch.autograd.graph.save_on_cpu
    manager: contextlib.AbstractContextManager[Any] = hooks(pin_memory=True, device_type=devices.pop())
    return manager
