"""Observers of several processes, made one at the end: nothing is sent while batches run."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, distributed

from pyquant.errors import CalibrationError
from pyquant.graph.prepared import Prepared
from pyquant.verbs.observed import merge_states, observed_state, setup_of

__all__ = ["group_of", "merge_over_ranks"]


def group_of(op: str, process_group: Any) -> Any:
    """The group that the argument `process_group` stands for.

    Raises
    ------
    RuntimeError
        torch.distributed is not initialised.
    TypeError
        It is neither True nor a process group.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        raise RuntimeError(
            f"{op}: process_group needs torch.distributed; call torch.distributed.init_process_group first"
        )
    if process_group is True:
        return distributed.group.WORLD
    if not isinstance(process_group, distributed.ProcessGroup):
        raise TypeError(
            f"{op}: expected process_group to be None, True or a torch.distributed group, "
            f"got {type(process_group).__name__}"
        )
    return process_group


def merge_over_ranks(op: str, prepared: Prepared, group: Any, count: int, failure: Exception | None) -> int:
    """Every rank ends with what all ranks observed, merged in the order of ranks.

    All ranks call it, one that failed too: then all of them raise, and none waits for ever.

    Parameters
    ----------
    count : int
        Batches that this rank ran.
    failure : Exception or None
        What went wrong on this rank.

    Returns
    -------
    int
        Batches that all ranks ran.

    Raises
    ------
    CalibrationError
        Another rank failed, or the ranks do not hold the same model and configuration.
    """
    head = {
        "count": count,
        "failure": None if failure is None else f"{type(failure).__name__}: {failure}",
        "setup": setup_of(prepared),
    }
    heads = [json.loads(each) for each in _gather(json.dumps(head).encode(), group)]
    if failure is not None:
        raise failure
    for rank, other in enumerate(heads):
        if other["failure"] is not None:
            raise CalibrationError(f"{op}: rank {rank} failed: {other['failure']}")
    for rank, other in enumerate(heads):
        for what, text in other["setup"].items():
            if text != heads[0]["setup"][what]:
                raise CalibrationError(
                    f"{op}: expected the same {what} on all ranks, rank {rank} has another"
                )
    states = _gather(save(observed_state(prepared)), group)
    merge_states(op, prepared, [(f"rank {rank}", load(state)) for rank, state in enumerate(states)])
    return sum(int(each["count"]) for each in heads)


def _gather(payload: bytes, group: Any) -> list[bytes]:
    """The bytes of every rank, on every rank. Lengths may differ."""
    device = "cuda" if distributed.get_backend(group) == "nccl" else "cpu"
    ranks = distributed.get_world_size(group)
    mine = torch.frombuffer(bytearray(payload), dtype=torch.uint8).to(device)
    lengths = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(ranks)]
    distributed.all_gather(lengths, torch.tensor([len(payload)], device=device), group=group)
    most = max(int(length) for length in lengths)
    padded = torch.zeros(most, dtype=torch.uint8, device=device)
    padded[: len(payload)] = mine
    found: list[Tensor] = [torch.empty_like(padded) for _ in range(ranks)]
    distributed.all_gather(found, padded, group=group)
    return [each[: int(length)].cpu().numpy().tobytes() for each, length in zip(found, lengths, strict=True)]
