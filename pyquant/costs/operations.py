"""Costs by a model of the hardware: so much for a shift, an addition, a multiplication, a stored bit."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyquant.config import SiteConfig
from pyquant.costs.counts import MethodCounts, Operations, counts_of
from pyquant.costs.sizes import CandidateTable, SiteSize, config_of, site_sizes, table_rows
from pyquant.costs.values import CURRENT, CostRow, Costs

if TYPE_CHECKING:
    from pyquant.graph import Prepared
    from pyquant.graph.sites import Site

__all__ = ["OperationCost", "operation_costs"]


@dataclass(frozen=True, kw_only=True)
class OperationCost:
    """What one scalar operation costs, in a unit of your own (energy, gates, area).

    Parameters
    ----------
    shift, add, multiply, divide : float
        Comparisons count as additions.
    lookup : float
        Reading one entry of a table.
    table_bit : float
        Storing one bit of a table; counts for area alone.
    """

    shift: float
    add: float
    multiply: float
    divide: float
    lookup: float = 0.0
    table_bit: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0.0 <= value < math.inf:
                raise ValueError(f"{field.name}: expected a number >= 0, got {value!r}")

    def of(self, operations: Operations) -> float:
        """Cost of some operations."""
        return math.fsum(
            getattr(self, field.name) * getattr(operations, field.name)
            for field in dataclasses.fields(operations)
        )


def operation_costs(prepared: Prepared, table: CandidateTable, model: OperationCost) -> Costs:
    """Metrics ``operations`` and ``area`` of every site and candidate, by counts of scalar operations.

    Parameters
    ----------
    prepared : Prepared
        Need not be calibrated.
    table : SensitivityTable
        Or anything with ``rows`` that have ``site``, ``candidate`` and ``settings``.
    model : OperationCost

    Returns
    -------
    Costs
        ``operations``: of one sample. A softmax, norm or element-wise function costs what its method computes
        for each element and row, the softmax also its product with v. A linear site costs a multiplication
        and an addition for each multiply-add, the multiplication in proportion to ``weight_bits / 8``. Other
        sites (sums, concatenations, requantization) do the same with every candidate and cost 0. ``area``:
        one unit for each method in use, which takes an element a cycle: every operation of an element, of a
        row and of a product once, and the table. It is paid once for all sites with the same method; linear
        sites share an array that is there in any case, and cost 0.

    Raises
    ------
    ValueError
        The table has a site that the model lacks, or a method whose operations were never counted.
    """
    sizes = site_sizes(prepared)
    sites = prepared.sites()
    rows = {}
    for name, site in sites.items():
        rows[name, CURRENT] = _row(sizes[name], CURRENT, site, site.config, model)
    for row in table_rows(table, sizes):
        site = sites[row.site]
        config = config_of(site, row)
        rows[row.site, row.candidate] = _row(sizes[row.site], row.candidate, site, config, model)
    return Costs(tuple(rows.values()), shared=("area",), meta={"model": dataclasses.asdict(model)})


def _row(size: SiteSize, candidate: str, site: Site, config: SiteConfig, model: OperationCost) -> CostRow:
    operations, area, unit = 0.0, 0.0, site.kind
    if site.method:
        function = str(getattr(site, "function", ""))
        method = getattr(config, site.method)
        counts = counts_of(site.method, method, function)
        operations, area = _totals(counts, size, model)
        unit = f"{function or site.method} {method}"
    elif site.kind == "linear":
        one = Operations(add=1, multiply=config.weight_bits / 8)
        operations = size.multiply_adds * model.of(one)
    return CostRow(size.site, candidate, (("operations", operations), ("area", area)), unit)


def _totals(counts: MethodCounts, size: SiteSize, model: OperationCost) -> tuple[float, float]:
    element, row, product = (model.of(part) for part in (counts.element, counts.row, counts.product))
    operations = size.elements * (element + size.channels * product) + size.rows * row
    return operations, element + row + product + counts.table_bits * model.table_bit
