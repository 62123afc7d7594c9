"""What a data loader yields, as arguments of a model.

A tensor is the first argument; a mapping gives the keys that the signature has (the rest is ignored, and
logged once); a tuple or list gives its first n items, n being the number of inputs the model takes without a
default (at least one).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

__all__ = ["arguments", "count_inputs", "device_of", "first_batch", "logits_of", "target_of"]

_log = logging.getLogger("pyquant")
_TARGETS = ("labels", "label", "target", "targets", "y")
_logged: set[tuple[str, ...]] = set()


def device_of(model: nn.Module) -> torch.device | None:
    """Where the model's first parameter or buffer lives."""
    tensor: torch.Tensor | None = next(model.parameters(), None)
    if tensor is None:
        tensor = next(model.buffers(), None)
    return None if tensor is None else tensor.device


def _moved(value: Any, device: torch.device | None) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) and device is not None else value


def arguments(
    model: nn.Module, batch: Any, *, drop: tuple[str, ...] = ()
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(args, kwargs) for one batch, on the model's device.

    Raises
    ------
    TypeError
        The batch is of no known form, or has none of the model's inputs.
    """
    device, name = device_of(model), type(model).__name__
    parameters = inspect.signature(model.forward).parameters
    if isinstance(batch, torch.Tensor):
        return (_moved(batch, device),), {}
    if isinstance(batch, Mapping):
        open_ended = any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        known = {k: v for k, v in batch.items() if k in parameters and k not in drop}
        if not known and open_ended:
            known = {k: v for k, v in batch.items() if k not in drop}
        ignored = tuple(sorted(str(k) for k in batch if k not in known and k not in drop))
        if ignored and ignored not in _logged:
            _logged.add(ignored)
            _log.info("batch: ignored keys %s, which %s does not take", ", ".join(ignored), name)
        if not known:
            raise TypeError(f"batch: none of the keys {sorted(map(str, batch))} is an input of {name}")
        return (), {str(k): _moved(v, device) for k, v in known.items()}
    if isinstance(batch, (tuple, list)):
        if not batch or not isinstance(batch[0], torch.Tensor):
            kinds = [type(item).__name__ for item in batch]
            raise TypeError(
                f"batch: expected a tuple that starts with a tensor, got {type(batch).__name__} of {kinds}"
            )
        return tuple(_moved(item, device) for item in batch[: count_inputs(model)]), {}
    raise TypeError(f"batch: expected a tensor, a mapping or a tuple, got {type(batch).__name__}")


def count_inputs(model: nn.Module) -> int:
    """How many items of a tuple are inputs: the parameters without a default, at least one."""
    parameters = inspect.signature(model.forward).parameters.values()
    slots = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return max(1, sum(p.default is p.empty for p in slots))


def target_of(batch: Any, inputs: int = 1) -> torch.Tensor | None:
    """The labels of a batch: a known key, or the last item of a tuple that holds more than the inputs."""
    if isinstance(batch, Mapping):
        return next((batch[k] for k in _TARGETS if k in batch), None)
    if isinstance(batch, (tuple, list)) and len(batch) > inputs and isinstance(batch[-1], torch.Tensor):
        return batch[-1]
    return None


def logits_of(output: Any) -> npt.NDArray[np.float32]:
    """The logits of what a model returns: the entry of that name, or the first one."""
    if isinstance(output, Mapping):
        output = output["logits"] if "logits" in output else next(iter(output.values()))
    elif hasattr(output, "logits"):
        output = output.logits
    elif isinstance(output, (tuple, list)):
        output = output[0]
    if isinstance(output, torch.Tensor):
        output = output.detach().float().cpu().numpy()
    return np.asarray(output, dtype=np.float32)


def first_batch(batches: Iterable[Any], name: str) -> tuple[Any, Callable[[], Iterator[Any]]]:
    """The first batch, and a function that gives an iterator over all of them, the first included."""
    iterator = iter(batches)
    try:
        first = next(iterator)
    except StopIteration:
        raise ValueError(f"{name}: expected at least one batch, got none") from None

    def everything() -> Iterator[Any]:
        yield first
        yield from iterator

    return first, everything
