"""compare: the integers of the simulation against those of the engine, site by site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.utils._pytree as pytree
from torch import Tensor

from pyquant.engine import IntegerModel
from pyquant.errors import CalibrationError
from pyquant.graph.grid import qparams_of
from pyquant.graph.prepared import Prepared, as_in_eval
from pyquant.graph.sites import Site

__all__ = ["Comparison", "Difference", "compare", "trace_sites"]


@dataclass(frozen=True)
class Difference:
    """One site, or one output.

    Attributes
    ----------
    name : str
    count : int
        Number of values.
    differing : int
        Number of values that are not the same.
    largest : float
        Largest absolute difference: in steps of the grid for a site, in real units for an output.
    """

    name: str
    count: int
    differing: int
    largest: float


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; equal comparisons compare equal.

    Attributes
    ----------
    sites : tuple of Difference
        In the order in which they run.
    outputs : tuple of Difference
        Of the float32 results.
    folded : tuple of str
        Sites that are constants of the program and so have nothing to trace.
    """

    sites: tuple[Difference, ...]
    outputs: tuple[Difference, ...]
    folded: tuple[str, ...] = ()

    @property
    def differing(self) -> int:
        """Differing integers at all sites together."""
        return sum(site.differing for site in self.sites)

    @property
    def identical(self) -> bool:
        """True if not one integer and not one output differs."""
        return self.differing == 0 and all(output.differing == 0 for output in self.outputs)

    def __str__(self) -> str:
        lines = [
            f"{row.name}: {row.differing} of {row.count} differ, by up to {row.largest:g}"
            for row in (*self.sites, *self.outputs)
            if row.differing
        ]
        total = sum(site.count for site in self.sites)
        off = sum(output.differing for output in self.outputs)
        lines.append(
            f"{len(self.sites)} sites, {self.differing} of {total} integers differ; "
            f"{off} of {sum(o.count for o in self.outputs)} outputs differ"
        )
        return "\n".join(lines)


def trace_sites(prepared: Prepared, *args: Any, **kwargs: Any) -> dict[str, npt.NDArray[np.int32]]:
    """Run a prepared model and read the integers off every edge.

    Parameters
    ----------
    prepared : Prepared
        Calibrated, in mode ``quantized`` or ``frozen``.
    *args, **kwargs
        As for a call of the model.

    Returns
    -------
    dict of str to ndarray
        ``rne(x / scale) + zero_point`` of each site's output, int32, in execution order.

    Raises
    ------
    CalibrationError
        A site does not compute in integers.
    """
    traced, _ = _run(prepared, args, kwargs)
    return traced


def _run(
    prepared: Prepared, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[str, npt.NDArray[np.int32]], Any]:
    for name, site in prepared.sites().items():
        if site.mode not in ("quantized", "frozen"):
            raise CalibrationError(f"trace_sites: site {name!r} is in mode {site.mode!r}; see set_mode")
        if not site.output.on_grid:
            raise CalibrationError(f"trace_sites: site {name!r} has no integers: {site.simulated}")
    traced: dict[str, npt.NDArray[np.int32]] = {}

    def keep(site: torch.nn.Module, _: Any, output: Any) -> None:
        assert isinstance(site, Site)
        grid = qparams_of(site.output)
        real = output.detach().cpu().numpy().astype(np.float64)
        traced[site.name] = (np.rint(real / grid.scale) + grid.zero_point).astype(np.int32)

    hooks = [site.register_forward_hook(keep) for site in prepared.sites().values()]
    try:
        with torch.no_grad(), as_in_eval(prepared):
            output = prepared(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return traced, output


def compare(prepared: Prepared, engine: IntegerModel, *args: Any, **kwargs: Any) -> Comparison:
    """Run both on the same inputs and count what differs.

    Parameters
    ----------
    prepared : Prepared
        The simulation.
    engine : IntegerModel
        What `convert` made of it.
    *args, **kwargs
        CPU tensors, as for a call of the model.

    Raises
    ------
    TypeError
        `engine` is no `IntegerModel` (a `HybridModel` has no single program).
    CalibrationError
        As `trace_sites`.

    Examples
    --------
    >>> import torch, pyquant as pq
    >>> x = torch.randn(16, 4)
    >>> qmodel = pq.quantize(torch.nn.Linear(4, 2), [x], progress=False)
    >>> print(pq.compare(qmodel, pq.convert(qmodel), x))
    2 sites, 0 of 96 integers differ; 0 of 32 outputs differ
    """
    if not isinstance(engine, IntegerModel):
        raise TypeError(f"compare: expected an IntegerModel, got {type(engine).__name__}")
    simulated, output = _run(prepared, args, kwargs)
    run = engine.trace(*args, **kwargs)
    sites, folded = [], []
    for name, expected in simulated.items():
        if name in run:
            sites.append(_difference(name, expected, run[name].integers))
        else:
            folded.append(name)
    ours = [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]
    theirs = _arrays(engine(*args, **kwargs))
    outputs = [
        _difference(f"output {i}", a.detach().cpu().numpy(), b)
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True))
    ]
    return Comparison(tuple(sites), tuple(outputs), tuple(folded))


def _difference(name: str, expected: npt.NDArray[Any], got: npt.NDArray[Any]) -> Difference:
    if expected.shape != got.shape:
        raise ValueError(
            f"compare: {name}: the simulation has shape {expected.shape}, the engine {got.shape}"
        )
    apart = np.abs(expected.astype(np.float64) - got.astype(np.float64))
    largest = float(apart.max()) if apart.size else 0.0
    return Difference(name, int(apart.size), int(np.count_nonzero(apart)), largest)


def _arrays(output: Any) -> list[npt.NDArray[Any]]:
    """The arrays of an engine's output, in order."""
    if isinstance(output, np.ndarray):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    return [array for part in output or () for array in _arrays(part)]
