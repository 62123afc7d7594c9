"""What each non-linear method computes for one element and for one row, operation by operation.

Counted as the method is defined (docs/numerics), on scalars, whatever form our kernels have: several of them
read from one table what a chip would compute. Left out is the work of the neighbours: the scores, the clamp
and requantization of what follows. A subtraction, comparison, minimum, negation or leading-zero count is one
addition; a division by a constant of the site is one multiplication and one shift; a division by a value of
the row is a division. Where a number depends on the data (Newton's steps) it is the bound that the definition
gives.

RMSNorm counts as LayerNorm; it lacks the mean, at most two additions an element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyquant import _C
from pyquant.methods import methods

__all__ = ["MethodCounts", "Operations", "counts_of"]

Parameters = Mapping[str, float]


@dataclass(frozen=True)
class Operations:
    """Numbers of scalar operations."""

    shift: float = 0.0
    add: float = 0.0
    multiply: float = 0.0
    divide: float = 0.0
    lookup: float = 0.0

    def __add__(self, other: Operations) -> Operations:
        return Operations(
            self.shift + other.shift,
            self.add + other.add,
            self.multiply + other.multiply,
            self.divide + other.divide,
            self.lookup + other.lookup,
        )

    def __mul__(self, times: float) -> Operations:
        return Operations(
            self.shift * times,
            self.add * times,
            self.multiply * times,
            self.divide * times,
            self.lookup * times,
        )


@dataclass(frozen=True)
class MethodCounts:
    """Of one method.

    Parameters
    ----------
    element : Operations
        For each element.
    row : Operations
        For each row of a softmax or norm.
    product : Operations
        For each weight of a softmax and channel of the head: what the product with v is made of.
    table_bits : float
        Stored.
    """

    element: Operations
    row: Operations = Operations()
    product: Operations = Operations()
    table_bits: float = 0.0


Count = Callable[[Parameters], MethodCounts]

# -- softmax -------------------------------------------------------------------------------------------------

_MULTIPLY_ADD = Operations(multiply=1, add=1)
_SHIFT_ADD = Operations(shift=1, add=1)
# Scaled by a factor of the site or row: one product, one shift; `_ROUNDED` adds one half first.
_SCALE = Operations(multiply=1, shift=1)
_ROUNDED = _SCALE + Operations(add=1)
# z = floor(x / c) by a constant, and the remainder x - z c.
_SPLIT = Operations(multiply=2, shift=1, add=1)
# Of every method: row maximum, distance to it, at most so much, into the method's unit u, and the row's sum.
_DISTANCES = Operations(add=4) + _ROUNDED
# One division a row: the reciprocal of its sum, before the product with v or after it.
_DIVISION = Operations(divide=1)


def _table_softmax(bits: int) -> Count:
    """min(u, 479), h = u >> 5, T[u & 31], (T + 2^h) >> (h + 1). A row: (m << 32) / L, normalised."""
    element = Operations(add=2, shift=3, lookup=1)
    row = _DIVISION + Operations(add=2, shift=2)
    return lambda p: MethodCounts(_DISTANCES + element, row, _MULTIPLY_ADD, 32 * bits)


# max(x, n x0); split by ln 2; r (r + b) + c.
_I_EXP = Operations(add=1) + _SPLIT + Operations(add=2, multiply=1)
# x + (x >> 1) - (x >> 4); max(x, n x0); split by 1; r / 2 - x0; << (n - q).
_SHIFT_EXP = Operations(shift=2, add=3) + _SPLIT + _SHIFT_ADD + _SHIFT_ADD


def _ibert_softmax(p: Parameters) -> MethodCounts:
    """i-exp, to 16 bits with >> q; times floor(2^32 / sum), >>."""
    return MethodCounts(_DISTANCES + _I_EXP + _ROUNDED + _SCALE, _DIVISION, _MULTIPLY_ADD)


def _ivit_softmax(p: Parameters) -> MethodCounts:
    """ShiftExp; times floor((2^31 - 1) / sum), >>."""
    return MethodCounts(_DISTANCES + _SHIFT_EXP + _SCALE, _DIVISION, _MULTIPLY_ADD)


def _fqvit_softmax(p: Parameters) -> MethodCounts:
    """i-exp, << (n - q); t = round(sum / e); its leading one, minus 2^k, against 2^(k - 1); clip.

    P is a power of two: the product with v is a shift, and nothing is left to divide.
    """
    code = Operations(divide=1, add=1) + Operations(add=3, shift=2) + Operations(add=1)
    return MethodCounts(_DISTANCES + _I_EXP + _SHIFT_ADD + code, product=_SHIFT_ADD)


def _iptq_softmax(p: Parameters) -> MethodCounts:
    """u + (u >> 1) - (u >> 4) - (u >> 7); q = x >> fraction; (2 - r) / 2 in 2^bits; >> q."""
    element = Operations(shift=3, add=3) + Operations(shift=1) + _SHIFT_ADD + Operations(shift=1)
    return MethodCounts(_DISTANCES + element, _DIVISION, _MULTIPLY_ADD)


def _qflash_softmax(p: Parameters) -> MethodCounts:
    """q = u >> fraction; S - (r >> 1); >> q; to `bits` bits, rounded."""
    element = Operations(shift=1) + _SHIFT_ADD + Operations(shift=1) + _ROUNDED
    return MethodCounts(_DISTANCES + element, _DIVISION, _MULTIPLY_ADD)


def _index_softmax(p: Parameters) -> MethodCounts:
    """Look up 8 bits at u; times 255 / sum, rounded."""
    element = Operations(lookup=1) + _ROUNDED
    return MethodCounts(_DISTANCES + element, _DIVISION, _MULTIPLY_ADD, 8.0 * 2.0 ** p["bits"])


def _sole_softmax(p: Parameters) -> MethodCounts:
    """Code = round(u + (u >> 1) - (u >> 4)), at most so much, 2^-code. A row: leading one, factor by a bit.

    P is a power of two: the product with v is a shift; the sum is replaced by 2^ks and one of two factors.
    """
    element = Operations(shift=2, add=2) + _SHIFT_ADD + Operations(add=1, shift=1)
    return MethodCounts(_DISTANCES + element, Operations(add=2, shift=2, multiply=1), _SHIFT_ADD)


# -- element-wise functions ----------------------------------------------------------------------------------

# Minus the zero point of x; requantization of the result. A table holds both.
_BETWEEN_GRIDS = Operations(add=1) + Operations(multiply=1, add=1, shift=1)


def _table_unary(p: Parameters) -> MethodCounts:
    """One byte for each of the 256 integers."""
    return MethodCounts(Operations(lookup=1), table_bits=256 * 8)


def _ibert_erf(p: Parameters) -> MethodCounts:
    """Unit up; |t|, min, + b, square, + c, sign, >> n; + one; times x."""
    erf = Operations(shift=2, add=5, multiply=1)
    return MethodCounts(_BETWEEN_GRIDS + erf + Operations(add=1, multiply=1))


def _ibert_exp(p: Parameters) -> MethodCounts:
    """Unit up; |t|, clip, split by ln 2, polynomial, shift; e / (1 + e), rounded; times x."""
    exponential = Operations(shift=1, add=2) + _SPLIT + Operations(add=2, multiply=1) + _SHIFT_ADD
    sigmoid = Operations(shift=2, add=2, divide=1)
    return MethodCounts(_BETWEEN_GRIDS + exponential + sigmoid + Operations(multiply=1))


def _ivit_unary(p: Parameters) -> MethodCounts:
    """Unit up; max(t, 0), t - max; ShiftExp (of two, one is exp(0)); sum, reciprocal, product; times x."""
    sigmoid = Operations(add=1, divide=1) + _SCALE
    return MethodCounts(
        _BETWEEN_GRIDS + Operations(shift=1, add=2) + _SHIFT_EXP + sigmoid + Operations(multiply=1)
    )


def _poly_unary(p: Parameters) -> MethodCounts:
    """As I-BERT's erf with a second square and its shift."""
    return MethodCounts(_ibert_erf(p).element + Operations(multiply=1, shift=1))


def _nnlut_unary(p: Parameters) -> MethodCounts:
    """Search for the segment by halves; slope times x plus intercept. A start has 10 bits, that 32."""
    entries = p["entries"]
    line = Operations(add=math.ceil(math.log2(max(entries, 1.0))), lookup=1) + _MULTIPLY_ADD
    return MethodCounts(_BETWEEN_GRIDS + line, table_bits=entries * (10 + p["bits"] + 32))


# -- norms ---------------------------------------------------------------------------------------------------

# (z g + b) >> s, the rounding inside b.
_AFFINE = Operations(multiply=1, add=1, shift=1)
# floor(sqrt) of 64 bits, bit by bit: 32 times compare, subtract, shift.
_ROOT_BY_BITS = Operations(add=2, shift=1) * 32
# k = (k + n / k) >> 1, and the comparison that ends it.
_NEWTON = Operations(divide=1, add=2, shift=1)


def _exact_norm(p: Parameters) -> MethodCounts:
    """S1, S2; C x - S1; times m_r, rounded; affine. A row: V = C S2 - S1^2 + E, root, 2^62 / r."""
    sums = Operations(add=1) + _MULTIPLY_ADD
    normalise = _MULTIPLY_ADD + Operations(multiply=1, add=1, shift=1)
    row = Operations(multiply=2, add=3) + Operations(add=1, shift=2) + _ROOT_BY_BITS + Operations(divide=1)
    return MethodCounts(sums + normalise + _AFFINE, row)


def _newton_norm(steps: Callable[[Parameters], float]) -> Count:
    """sum; x - mean; sum of squares; times floor(2^31 / std), >> 1; affine. A row: mean, Newton, factor."""

    def count(p: Parameters) -> MethodCounts:
        element = Operations(add=1) + Operations(add=1) + _MULTIPLY_ADD + _SCALE + _AFFINE
        mean = Operations(divide=1, add=1, shift=1)
        start = Operations(add=1, shift=2)
        return MethodCounts(element, mean + start + _NEWTON * steps(p) + Operations(divide=1))

    return count


def _ptf_norm(p: Parameters) -> MethodCounts:
    """To 8 bits and << alpha; sums; A = gain times 1 / std and its exponent; M x - M mean + B, >> N."""
    onto = Operations(multiply=1, add=1, shift=1) + Operations(shift=1)
    sums = Operations(add=1) + _MULTIPLY_ADD
    mantissa = _SCALE + Operations(add=3, shift=1)
    result = Operations(multiply=1) + Operations(multiply=1, add=1, shift=1) + Operations(add=4, shift=2)
    row = Operations(multiply=2, add=2, shift=2) + _ROOT_BY_BITS + Operations(divide=2)
    return MethodCounts(onto + sums + mantissa + result, row)


# op -> method -> counts. Newton from 2^ceil(bits / 2), at most twice the root: the relative error e becomes
# e^2 / (2 + 2 e), that is 1, 1/4, 1/40, 3e-4, 5e-8 after four steps, less than one unit in 24 bits; the fifth
# sees that the value falls no more.
_COUNTS: Mapping[str, Mapping[str, Count]] = {
    "softmax": {
        "table16": _table_softmax(15),
        "table8": _table_softmax(9),
        "ibert": _ibert_softmax,
        "ivit": _ivit_softmax,
        "fqvit": _fqvit_softmax,
        "iptq": _iptq_softmax,
        "qflash": _qflash_softmax,
        "index": _index_softmax,
        "sole": _sole_softmax,
    },
    "unary": {
        "table": _table_unary,
        "ibert": _ibert_exp,
        "ivit": _ivit_unary,
        "poly": _poly_unary,
        "nnlut": _nnlut_unary,
    },
    "norm": {
        "exact": _exact_norm,
        "ibert": _newton_norm(lambda p: 5),
        "ivit": _newton_norm(lambda p: p["iterations"]),
        "ivit_published": _newton_norm(lambda p: 10),
        "ptf": _ptf_norm,
    },
}


def counts_of(op: str, method: str, function: str = "") -> MethodCounts:
    """Counts of a method.

    Parameters
    ----------
    op : {"softmax", "unary", "norm"}
    method : str
        Its text, parameters included.
    function : str
        Of an element-wise site; I-BERT has another way for GELU than for the rest.

    Raises
    ------
    ValueError
        No such method, or none whose operations were counted.
    """
    text, code, values = _C.method_parse(op, method)
    name = list(methods(op))[code]
    count = _COUNTS[op].get(name)
    if count is None:
        raise ValueError(
            f"costs: the operations of {op} {text!r} were never counted; there are {', '.join(_COUNTS[op])}"
        )
    if name == "ibert" and function == "gelu":
        count = _ibert_erf
    names = [parameter.name for parameter in methods(op)[name].parameters]
    return count(dict(zip(names, values, strict=False)))
