"""Weights of linear sites: how many, of how many bits, in how many bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyquant.config import SiteConfig
from pyquant.costs.sizes import CandidateTable, SiteSize, config_of, site_sizes, table_rows
from pyquant.costs.values import CURRENT, CostRow, Costs

if TYPE_CHECKING:
    from pyquant.graph import Prepared

__all__ = ["weight_costs"]


def weight_costs(prepared: Prepared, table: CandidateTable) -> Costs:
    """Metrics ``weights``, ``weight_bits`` and ``weight_bytes`` of every site and candidate.

    Parameters
    ----------
    prepared : Prepared
        Need not be calibrated.
    table : SensitivityTable
        Or anything with ``rows`` that have ``site``, ``candidate`` and ``settings``.

    Returns
    -------
    Costs
        ``weights``: their number; 0 for a site that is not linear. ``weight_bits``: that number times the
        bits of each, what a packing without padding would take. ``weight_bytes``: what the engine's file
        takes: two weights a byte up to 4 bits, one above, and a byte for the multiplier of each group. Biases
        and scales do not depend on the candidate and are left out.

    Raises
    ------
    ValueError
        The table has a site that the model lacks, or the settings of a row do not go together.
    """
    sizes = site_sizes(prepared)
    sites = prepared.sites()
    rows = {(name, CURRENT): _row(sizes[name], CURRENT, sites[name].config) for name in sizes}
    for row in table_rows(table, sizes):
        config = config_of(sites[row.site], row)
        rows[row.site, row.candidate] = _row(sizes[row.site], row.candidate, config)
    return Costs(tuple(rows.values()))


def _row(size: SiteSize, candidate: str, config: SiteConfig) -> CostRow:
    bits, group = config.weight_bits, config.group_size
    a_row = (size.inputs + 1) // 2 if bits <= 4 else size.inputs
    if group:
        a_row += (size.inputs + group - 1) // group
    values = {
        "weights": float(size.weights),
        "weight_bits": float(size.weights * bits),
        "weight_bytes": float(size.outputs * a_row),
    }
    return CostRow(size.site, candidate, tuple(values.items()))
