"""convert: a calibrated Prepared becomes a program of the integer engine."""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
import torch.utils._pytree as pytree

from pyquant.engine import IntegerModel
from pyquant.errors import CalibrationError, CoverageError
from pyquant.graph.hybrid import HybridModel, split
from pyquant.graph.lower import lower_nodes
from pyquant.graph.prepared import Prepared

__all__ = ["convert"]


@overload
def convert(prepared: Prepared, *, partial: Literal[False] = False) -> IntegerModel: ...
@overload
def convert(prepared: Prepared, *, partial: Literal[True]) -> HybridModel: ...


def convert(prepared: Prepared, *, partial: bool = False) -> IntegerModel | HybridModel:
    """Freeze scales, weights and tables into an integer program.

    Parameters
    ----------
    prepared : Prepared
        Calibrated; not changed.
    partial : bool
        Allow ops that have no integer form: the result then is a `HybridModel`, which needs torch and cannot
        be saved. Equality with the simulation holds for each integer segment.

    Returns
    -------
    IntegerModel or HybridModel
        The same integers as `prepared` in mode ``quantized``.

    Raises
    ------
    CoverageError
        Something would stay float (all of it is listed) and `partial` is not set.
    CalibrationError
        A site has no scale.
    """
    if not isinstance(prepared, Prepared):
        raise TypeError(f"convert: expected a Prepared (see pyquant.quantize), got {type(prepared).__name__}")
    missing = [name for name, site in prepared.sites().items() if not site.output.ready]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CalibrationError(f"convert: site {missing[0]!r}{more} has no scale yet; calibrate first")
    if partial:
        return split(prepared)
    floats = prepared.coverage().float_rows
    if floats:
        listed = "; ".join(f"{row.site} ({row.op}): {row.reason}" for row in floats)
        raise CoverageError(
            f"convert: {len(floats)} ops have no integer form: {listed}. With partial=True they run in torch"
        )
    simulated = prepared.coverage().simulated_rows
    if simulated:
        listed = "; ".join(f"{row.site} ({row.op}): {row.reason}" for row in simulated)
        raise CoverageError(
            f"convert: {len(simulated)} sites are simulated, and no integers: {listed}. "
            "With partial=True they run in torch"
        )
    graph = prepared.inference_graph()
    output = next(n for n in graph.nodes if n.op == "output")
    leaves = [i for i, node in enumerate(output.args[0]) if node is not None]
    structure = _structure(prepared._signature.output_spec, iter(_leaf_numbers(output.args[0])))
    metadata = {
        "coverage": prepared.coverage().to_rows(),
        "config": prepared.quant_config.to_dict(),
        "model": type(prepared).__name__.removeprefix("Prepared"),
    }
    with torch.no_grad():
        model, layouts = lower_nodes(
            prepared, graph.nodes, lambda to: None, [output.args[0][i] for i in leaves], structure, metadata
        )
    for number, layout in enumerate(layouts):
        axis, outer, inner = layout.batch_place()
        if axis > 0 or outer * inner != 1:
            raise CoverageError(
                f"convert: output {number} does not have the batch as its first axis, as programs do; "
                f"transpose it in the model, or use partial=True"
            )
    return model


def _leaf_numbers(flat: Any) -> list[int | None]:
    """Number of each output among those that are there."""
    numbers: list[int | None] = []
    for node in flat:
        numbers.append(None if node is None else sum(n is not None for n in numbers))
    return numbers


def _structure(spec: pytree.TreeSpec, leaves: Any) -> Any:
    """The output's pytree as the JSON tree of `pyquant.engine.structure`."""
    if spec.is_leaf():
        number = next(leaves)
        return {"none": None} if number is None else {"output": number}
    children = [_structure(child, leaves) for child in spec.children()]
    kind = spec.type
    none = {"none": None}
    if kind is tuple or kind is list:
        return {kind.__name__: children}
    keys = spec.context
    if isinstance(keys, (list, tuple)) and len(keys) == 2 and isinstance(keys[0], (list, tuple)):
        keys = keys[0]
    if (
        isinstance(keys, (list, tuple))
        and len(keys) == len(children)
        and all(isinstance(k, str) for k in keys)
    ):
        # A loss that was left out is no key, as when the original is called without labels.
        return {"dict": {k: c for k, c in zip(keys, children, strict=True) if c != none}}
    if hasattr(kind, "_fields"):
        return {"dict": dict(zip(kind._fields, children, strict=True))}
    return {"tuple": children}
