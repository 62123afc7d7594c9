"""One line of a sensitivity table, and what its numbers mean."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["SCORES", "Score", "SensitivityRow"]


class Score(NamedTuple):
    """How a number of a row is read: its unit, and whether a large one is damage."""

    label: str
    unit: str
    large_is_bad: bool

    def damage(self, value: float) -> float:
        """A number that grows with the damage."""
        return value if self.large_is_bad else -value


SCORES: Mapping[str, Score] = {
    "delta": Score("SQNR in - accumulated", "dB", True),
    "accumulated": Score("accumulated SQNR", "dB", False),
    "isolated": Score("isolated SQNR", "dB", False),
    "all_but_this": Score("SQNR with only this site in float", "dB", False),
    "sqnr_in": Score("SQNR of the site's input", "dB", False),
    "mse": Score("mean squared error", "", True),
    "cosine": Score("cosine", "", False),
    "max_error": Score("largest error", "", True),
    "output_sqnr": Score("SQNR of the model's output", "dB", False),
    "kl": Score("KL divergence of the output", "nats", True),
    "flips": Score("predictions that flip", "%", True),
    "accuracy": Score("top-1 accuracy", "%", False),
}
"""Names that `rank` and `plot` take. SQNR of more decibels is better."""


@dataclass(frozen=True, kw_only=True)
class SensitivityRow:
    """One candidate at one site. Scores that were not asked for are None; decibels may be infinite.

    With f the float function of the site, f_c its integer form with the candidate's settings (output grid
    included), x the float stream and xq that of the quantized model, everything compared at the site's
    output, sample by sample (`pyquant.metrics.sqnr`):

    Attributes
    ----------
    site, kind : str
        Name, and what it computes: "attention", "unary", "layer_norm", "linear", ...
    index : int
        Place in the order of execution, from 0, among all sites of the model.
    candidate : str
        Canonical text (`pyquant.Candidate`).
    settings : tuple of (str, value)
        Those settings of the candidate that matter at this site: what an override of the site would hold.
    sqnr_in : float or None
        SQNR(x, xq), the smallest of several inputs; +inf if no quantizer lies upstream.
    isolated : float or None
        SQNR(f(x), f_c(x)): x is quantized onto the grids that the site's inputs have.
    accumulated : float or None
        SQNR(f(x), f_c(xq)).
    all_but_this : float or None
        SQNR(f(x), f(xq)): the site alone stays float. The same for all candidates of a site.
    mse, cosine, max_error : float or None
        Of the same two arrays as `accumulated`, or as `isolated` where that was not asked for.
    samples, exact : int
        Samples seen, and how many of them had no error at all in those arrays; these take no part in the mean
        ratio.
    output_sqnr, kl, flips, accuracy : float or None
        Only this site computes in integers, with this candidate: SQNR of the model's output in dB, mean KL
        divergence of its softmax from the float one in nats, predictions that differ from the float ones in
        percent, and top-1 accuracy in percent where the batches hold targets.
    """

    site: str
    kind: str
    index: int
    candidate: str
    settings: tuple[tuple[str, Any], ...]
    sqnr_in: float | None = None
    isolated: float | None = None
    accumulated: float | None = None
    all_but_this: float | None = None
    mse: float | None = None
    cosine: float | None = None
    max_error: float | None = None
    samples: int = 0
    exact: int = 0
    output_sqnr: float | None = None
    kl: float | None = None
    flips: float | None = None
    accuracy: float | None = None

    @property
    def delta(self) -> float | None:
        """SQNR in - accumulated, in dB: the damage that the site does itself.

        0 where neither has an error, +inf where the input is exact and the output is not, None if either is
        not known.
        """
        if self.sqnr_in is None or self.accumulated is None:
            return None
        if math.isinf(self.sqnr_in) and self.sqnr_in == self.accumulated:
            return 0.0
        return self.sqnr_in - self.accumulated

    def to_dict(self) -> dict[str, Any]:
        """Every column, `delta` among them, as plain data."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["settings"] = dict(self.settings)
        before = {name: fields.pop(name) for name in list(fields)[: list(fields).index("all_but_this") + 1]}
        return {**before, "delta": self.delta, **fields}
