"""The real functions behind the tables, to 50 digits.

Written from their mathematics, without the C library: a table entry of the spec is the exact value, rounded
once. The C code evaluates in float64, whose error (some 1e-16) moves an entry only if the exact value lies
that near to a tie. Piecewise polynomials are exact fractions, so that their ties are true ties in both.

Source: csrc/include/pyquant/derive.h (enum pq_unary). GELU: Hendrycks and Gimpel, arXiv:1606.08415; SiLU:
Elfwing et al., arXiv:1702.03118; Mish: Misra, arXiv:1908.08681; hard swish: Howard et al., arXiv:1905.02244;
ELU: Clevert et al., arXiv:1511.07289.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from fractions import Fraction

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
# No traps: an overflow is an infinity, which the table clamps.
CONTEXT = Context(prec=60, traps=[])


def erf(x: Decimal) -> Decimal:
    """2/sqrt(pi) exp(-x^2) sum_n 2^n x^(2n+1) / (2n+1)!!: no cancellation. Beyond 11, 1 - |erf| < 1e-53."""
    if abs(x) > 11:
        return Decimal(1).copy_sign(x)
    term = total = x
    n = 0
    while abs(term) > abs(total) * Decimal("1e-58"):
        n += 1
        term = term * 2 * x * x / (2 * n + 1)
        total += term
    return 2 / PI.sqrt() * (-x * x).exp() * total


def sigmoid(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def tanh(x: Decimal) -> Decimal:
    return 1 - 2 / ((2 * x).exp() + 1)


def softplus(x: Decimal) -> Decimal:
    """ln(1 + exp(x)), written so that a large x does not overflow."""
    return max(x, Decimal(0)) + (1 + (-abs(x)).exp()).ln()


def gelu(x: Decimal) -> Decimal:
    return x / 2 * (1 + erf(x / Decimal(2).sqrt()))


def gelu_tanh(x: Decimal) -> Decimal:
    return x / 2 * (1 + tanh((2 / PI).sqrt() * (x + Decimal("0.044715") * x**3)))


def hardsigmoid(x: Fraction) -> Fraction:
    return min(max(x + 3, Fraction(0)), Fraction(6)) / 6


RATIONAL: dict[str, Callable[[Fraction], Fraction]] = {
    "identity": lambda x: x,
    "relu": lambda x: max(x, Fraction(0)),
    "relu6": lambda x: min(max(x, Fraction(0)), Fraction(6)),
    "hardsigmoid": hardsigmoid,
    "hardswish": lambda x: x * hardsigmoid(x),
    "abs": abs,
    "square": lambda x: x * x,
}

TRANSCENDENTAL: dict[str, Callable[[Decimal], Decimal]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": lambda x: x * sigmoid(Decimal("1.702") * x),
    "silu": lambda x: x * sigmoid(x),
    "sigmoid": sigmoid,
    "tanh": tanh,
    "elu": lambda x: x if x > 0 else x.exp() - 1,
    "mish": lambda x: x * tanh(softplus(x)),
    "softplus": softplus,
    "exp": lambda x: x.exp(),
}

NAMES = (*RATIONAL, *TRANSCENDENTAL)


def value(name: str, x: Fraction) -> Fraction | None:
    """f(x), exactly or to 50 digits; None stands for +infinity (exp of a large x)."""
    if name in RATIONAL:
        return RATIONAL[name](x)
    with localcontext(CONTEXT):
        result = TRANSCENDENTAL[name](Decimal(x.numerator) / Decimal(x.denominator))
        return Fraction(result) if result.is_finite() else None
