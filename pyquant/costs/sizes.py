"""How much a site has to do for one sample, from the shapes that the model was captured with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pyquant.config import SiteConfig
    from pyquant.graph import Prepared
    from pyquant.graph.sites import Site

__all__ = ["CandidateRow", "CandidateTable", "SiteSize", "config_of", "site_sizes", "table_rows"]


class CandidateRow(Protocol):
    """A site and a candidate for it: rows of a sensitivity table have these."""

    @property
    def site(self) -> str: ...
    @property
    def candidate(self) -> str: ...
    @property
    def settings(self) -> tuple[tuple[str, Any], ...]: ...


class CandidateTable(Protocol):
    """Anything with such rows."""

    @property
    def rows(self) -> Iterable[CandidateRow]: ...


@dataclass(frozen=True)
class SiteSize:
    """Work of a site for one sample.

    Parameters
    ----------
    site, kind : str
    elements : int
        Values that its function is applied to: scores of an attention's softmax (heads x queries x keys,
        masked ones included), else values of the result.
    rows : int
        Groups that are normalised together: rows of a softmax, tokens of a norm; 0 for other sites.
    channels : int
        Length of the other axis of what follows the softmax, its head's; 0 for other sites.
    outputs, inputs : int
        Of a linear site's weight [outputs, inputs]; 0 for other sites.
    """

    site: str
    kind: str
    elements: int
    rows: int = 0
    channels: int = 0
    outputs: int = 0
    inputs: int = 0

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.outputs * self.inputs

    @property
    def multiply_adds(self) -> int:
        """Of a linear site, for one sample."""
        return self.elements * self.inputs


def site_sizes(prepared: Prepared) -> dict[str, SiteSize]:
    """Sizes of all sites by name, in execution order.

    Raises
    ------
    ValueError
        A site has a shape that depends on the input in more than the batch.
    """
    return {site.name: _size(site.name, site.kind, node) for node, site in prepared.site_nodes()}


def _size(name: str, kind: str, node: Any) -> SiteSize:
    shape = _shape(name, node)
    elements = math.prod(shape)
    if kind == "attention":
        q, k = (_shape(name, node.args[i][0]) for i in (0, 1))
        rows = math.prod(q[:-1])
        return SiteSize(name, kind, rows * k[-2], rows, q[-1])
    if kind == "layer_norm":
        return SiteSize(name, kind, elements, elements // shape[-1])
    if kind == "softmax":
        return SiteSize(name, kind, elements, elements // shape[-1])
    if kind == "linear":
        outputs, inputs = _shape(name, node.args[1])
        return SiteSize(name, kind, elements, outputs=outputs, inputs=inputs)
    return SiteSize(name, kind, elements)


def _shape(name: str, node: Any) -> tuple[int, ...]:
    """Of one sample: an axis of c times the batch is noted as -c."""
    shape = node.meta.get("pq_shape")
    if shape is None:
        raise ValueError(f"costs: site {name!r}: its shape depends on the input in more than the batch")
    return tuple(abs(size) for size in shape)


def table_rows(table: CandidateTable, known: Mapping[str, Any]) -> list[CandidateRow]:
    """Rows of a table, all of sites that are known.

    Raises
    ------
    ValueError
        A site is not.
    """
    rows = list(table.rows)
    for row in rows:
        if row.site not in known:
            raise ValueError(f"costs: the model has no site {row.site!r}, which the table has")
    return rows


def config_of(site: Site, row: CandidateRow) -> SiteConfig:
    """The settings of a site with a candidate.

    Raises
    ------
    ValueError
        They do not go together.
    """
    try:
        return dataclasses.replace(site.config, **dict(row.settings))
    except (TypeError, ValueError) as error:
        raise ValueError(f"costs: {row.candidate!r} at {row.site!r}: {error}") from None
