"""set_mode and mode: float, observe, quantized or frozen, for the sites of a glob."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyquant.errors import CalibrationError
from pyquant.graph.prepared import Prepared
from pyquant.graph.sites import MODES
from pyquant.graph.watch import warn_not_reduced

__all__ = ["mode", "set_mode"]


def set_mode(prepared: Prepared, mode: str, select: str = "*") -> None:
    """Switch sites between float, observing and integer arithmetic.

    Parameters
    ----------
    prepared : Prepared
        Changed in place.
    mode : str
        ``float``: the original function. ``observe``: the same, and calibration sees the output.
        ``weights``: the same with quantized weights, a stage of training on the way to integers.
        ``quantized``: the integer op. ``frozen``: the same with scales that do not learn.
    select : str
        A glob over site names, for example ``"vit.layers.*.attention.*"``.

    Raises
    ------
    ValueError
        No such mode, or no such site.
    CalibrationError
        A site has no scale yet and should compute in integers.

    Warns
    -----
    UserWarning
        Learned scales begin to learn that did not when DistributedDataParallel was made (docs/training.md).
    """
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    sites = prepared.sites(select)
    if mode in ("weights", "quantized", "frozen"):
        missing = [name for name, site in sites.items() if not site.output.ready]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise CalibrationError(f"set_mode: site {missing[0]!r}{more} has no scale yet; calibrate first")
    for site in sites.values():
        site.mode = mode
    warn_not_reduced(sites.values())


@contextmanager
def mode(prepared: Prepared, mode: str, select: str = "*") -> Iterator[Prepared]:
    """`set_mode` for the length of a ``with`` block."""
    before = {name: site.mode for name, site in prepared.sites().items()}
    try:
        set_mode(prepared, mode, select)
        yield prepared
    finally:
        for name, site in prepared.sites().items():
            site.mode = before[name]
