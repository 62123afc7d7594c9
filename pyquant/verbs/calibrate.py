"""calibrate: run batches in float, observe every edge, set every scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyquant.graph.prepared import Prepared
from pyquant.verbs.finish_calibration import set_scales
from pyquant.verbs.observe import Forward, Loss, observe_batches
from pyquant.verbs.observed import check_prepared, observers_restored

__all__ = ["calibrate"]


def calibrate(
    prepared: Prepared,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    loss: Loss | None = None,
    process_group: Any = None,
    progress: bool = True,
) -> Prepared:
    """Choose every scale and zero point from data: `observe`, then `finish_calibration`.

    The state of the observers has a fixed size, so memory does not grow with the number of samples. What was
    observed before is forgotten first.

    Parameters
    ----------
    prepared : Prepared
        Changed in place; ends in mode ``quantized``.
    batches : iterable of batches
        Read once.
    forward : callable, optional
        ``forward(prepared, batch)``; what it returns goes to `loss`.
    loss : callable, optional
        ``loss(output, batch)``, a tensor of one number. It is called, and differentiated, only where an
        observer (``hessian``) needs gradients; parameters get none.
    process_group : None, True or torch.distributed.ProcessGroup, optional
        Where several processes hold the same model and each reads batches of its own, the group of them
        (True: the default one). Observers are merged at the end, in the order of ranks, and all ranks choose
        the same scales: those that one process would have chosen from the same batches (``hessian``: but for
        the rounding of sums). A rank without batches is fine as long as another has some.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Prepared
        The same object.

    Raises
    ------
    CalibrationError
        No batch, a value that is not finite (the site is named), a site that no batch reaches, an observer
        that needs a `loss` or, with `process_group`, cannot be merged (``ema``), ranks that hold different
        models, or a rank that failed (then all raise). After any error, an interrupt included, scales, modes
        and observers are as they were before.
    TypeError
        A batch does not fit the model.
    RuntimeError
        `process_group` without an initialised torch.distributed.
    """
    check_prepared("calibrate", prepared)
    with observers_restored(prepared):
        observe_batches("calibrate", prepared, batches, forward, loss, process_group, progress)
        set_scales("calibrate", prepared)
    return prepared
