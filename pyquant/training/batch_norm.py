"""freeze_batch_norm: from here on, training sees the statistics that are deployed."""

from __future__ import annotations

from pyquant.graph.prepared import Prepared

__all__ = ["check_norms", "freeze_batch_norm"]


def freeze_batch_norm(prepared: Prepared, *, frozen: bool = True) -> Prepared:
    """Let batch norms normalise with their running statistics in `train()` too, and leave those alone.

    Until then a model that was prepared with ``batch_statistics=True`` normalises with the statistics of each
    batch, as the original does, and moves the running ones. Afterwards it computes in `train()` what `eval()`
    and `pyquant.convert` compute. The state is part of the state dict.

    Parameters
    ----------
    prepared : Prepared
        Changed in place. Of a model in `torch.nn.parallel.DistributedDataParallel` it is ``ddp.module``.
    frozen : bool
        False lets them follow their batches again.

    Returns
    -------
    Prepared
        The same object.

    Raises
    ------
    TypeError
        It is no `Prepared`.
    ValueError
        It has no batch norm that follows its batches: it was prepared without ``batch_statistics=True``, or
        the model has none.

    References
    ----------
    Krishnamoorthi, Quantizing deep convolutional networks for efficient inference: A whitepaper,
    arXiv 1806.08342, on batch normalization.

    Examples
    --------
    >>> import torch, pyquant as pq
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU())
    >>> x = torch.randn(16, 4)
    >>> qmodel = pq.quantize(model, [x], batch_statistics=True, progress=False).train()
    >>> before = qmodel.get_buffer("1.running_mean").clone()
    >>> _ = qmodel(x)
    >>> moved = qmodel.get_buffer("1.running_mean").clone()
    >>> _ = pq.freeze_batch_norm(qmodel)(x)
    >>> torch.equal(before, moved), torch.equal(moved, qmodel.get_buffer("1.running_mean"))
    (False, True)
    """
    if not isinstance(prepared, Prepared):
        raise TypeError(f"freeze_batch_norm: expected a Prepared, got {type(prepared).__name__}")
    check_norms("freeze_batch_norm", prepared)
    prepared._norms_frozen = bool(frozen)
    return prepared


def check_norms(op: str, prepared: Prepared) -> None:
    """Raise ValueError where there is nothing to freeze."""
    if prepared.norms_frozen is None:
        raise ValueError(
            f"{op}: no batch norm of the model follows its batches; prepare it with batch_statistics=True"
        )
