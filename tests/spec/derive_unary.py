"""From a function, a method and two grids to the constants of tests/spec/unary.py.

Written from the prose of csrc/include/pyquant/derive_unary.h. "float64" is Python's float.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

from tests.spec import functions
from tests.spec.derive import check_scale
from tests.spec.numbers import Affine, Dyadic, dyadic
from tests.spec.unary import Constants, IbertErf, IbertExp, IvitExp, Poly

SQRT_HALF = math.sqrt(0.5)

# function: (kind of curve, gain, shape)
FORMS: dict[str, dict[str, tuple[str, float, str]]] = {
    "ibert": {
        "gelu": ("erf", SQRT_HALF, "product"),
        "gelu_tanh": ("erf", SQRT_HALF, "product"),
        "sigmoid": ("exp", 1.0, "gate"),
        "silu": ("exp", 1.0, "product"),
        "tanh": ("exp", 2.0, "odd"),
        "exp": ("exp", 1.0, "curve"),
    },
    "ivit": {
        "gelu": ("exp", 1.702, "product"),
        "gelu_tanh": ("exp", 1.702, "product"),
        "quick_gelu": ("exp", 1.702, "product"),
        "sigmoid": ("exp", 1.0, "gate"),
        "silu": ("exp", 1.0, "product"),
        "exp": ("exp", 1.0, "curve"),
    },
    "poly": {
        "gelu": ("erf", SQRT_HALF, "product"),
        "gelu_tanh": ("erf", SQRT_HALF, "product"),
        "quick_gelu": ("tanh", 0.851, "product"),
        "sigmoid": ("tanh", 0.5, "gate"),
        "silu": ("tanh", 0.5, "product"),
        "tanh": ("tanh", 1.0, "odd"),
    },
}
DEFAULTS: dict[str, dict[str, int]] = {
    "ibert": {"n": 0, "x_bits": 8, "bits": 15},
    "ivit": {"n": 23, "bits": 8, "division": 62, "x_bits": 8},
    "poly": {"x_bits": 8},
    "nnlut": {"entries": 16, "bits": 16},
}


def visible(scale: float) -> float:
    return min(max(scale, 2.0**-24), 2.0**7)


def unit_of(scale: float, length: float, x_bits: int) -> tuple[float, int]:
    """(S, up)."""
    s = visible(scale)
    up = next(up for up in range(64) if math.ceil(length / s * 2.0**up) >= 2**x_bits)
    return s * 2.0**-up, up


def odd(a: float, power: float, n: int) -> tuple[int, int, int, float]:
    """(n, c, one, |S_L|)."""
    c = math.floor(1 / (a * power))
    while (-c) >> n > 2**22:
        n += 1
    unit = a * power * 2.0**n
    return n, c, math.floor(1 / unit), -unit


def exp_shift(unit: float, y: Affine) -> int:
    """The largest shift for which 2^31 - 1 still stands for more than the top of y's grid; whole octaves."""
    top = max(y.quant_max - y.zero_point, 1) * y.scale
    return 31 + (math.frexp(unit)[1] - 1) - math.frexp(top)[1] - 1


def fit_poly(target: Callable[[float], float], scale: float, x: Affine) -> tuple[float, float]:
    """(a, beta) of the least squared error over the grid."""
    points = [abs(q - x.zero_point) * scale for q in range(x.quant_min, x.quant_max + 1) if q != x.zero_point]
    rests = [target(t) - 1 for t in points]

    def fourth(value: float) -> float:
        return (value * value) * (value * value)

    def best(beta: float) -> tuple[float, float, float]:
        powers = [fourth(beta - t) if t < beta else 0.0 for t in points]
        below = sum_of(w * w for w in powers)
        limit = -1 / fourth(beta)
        a = sum_of(r * w for r, w in zip(rests, powers, strict=True)) / below if below > 0 else limit
        a = min(max(a, 1.25 * limit), 0.75 * limit)
        error = sum_of((a * w - r) * (a * w - r) for r, w in zip(rests, powers, strict=True))
        return error, a, beta

    beta = 3.0
    for step in (2.0**-4, 2.0**-8):
        found = min((best(beta + i * step) for i in range(-16, 17)), key=lambda each: each[0])
        beta = found[2]
    return found[1], beta


def sum_of(values: Iterable[float]) -> float:
    """Left to right: Python's own sum() compensates, since 3.12."""
    total = 0.0
    for value in values:
        total += value
    return total


def targets(function: str, x: Affine, y: Affine) -> list[float]:
    """What the lines of nnlut go through, in steps of y."""
    low, high = y.quant_min - y.zero_point, y.quant_max - y.zero_point
    found = []
    for q in range(x.quant_min, x.quant_max + 1):
        real = functions.value(function, (q - x.zero_point) * Fraction(x.scale))
        steps = Fraction(high) if real is None else real / Fraction(y.scale)
        found.append(float(min(max(steps, Fraction(low)), Fraction(high))))
    return found


def line_error(points: list[tuple[int, float]]) -> float:
    """Squared error of the line of least squares."""
    n = len(points)
    v, g = sum(p[0] for p in points) / n, sum(p[1] for p in points) / n
    vv = sum((p[0] - v) ** 2 for p in points)
    slope = sum((p[0] - v) * (p[1] - g) for p in points) / vv if vv > 0 else 0.0
    return sum((p[1] - g - slope * (p[0] - v)) ** 2 for p in points)


def constants(
    function: str, method: str, x: Affine, y: Affine, parameters: Mapping[str, int] | None = None
) -> Constants:
    """pq_derive_unary, but for nnlut, whose fit has many solutions of one quality."""
    check_scale(x.scale)
    check_scale(y.scale)
    p = {**DEFAULTS[method], **(parameters or {})}
    kind, gain, shape = FORMS[method][function]
    scale = gain * x.scale
    curve: IbertErf | IbertExp | IvitExp | Poly
    if method == "poly":
        a, beta = fit_poly(math.erf if kind == "erf" else math.tanh, visible(scale), x)
        s, up = unit_of(scale, beta, p["x_bits"])
        b = math.floor(-beta / s)
        square = next(k for k in range(64) if (b * b) >> k < 2**15)
        n, c, one, unit = odd(a, (s * s) * (s * s) * 2.0 ** (2 * square), 0)
        curve, unit = Poly(up, square, n, b, c, one), unit / 2
    elif kind == "erf":
        s, up = unit_of(scale, 1.769, p["x_bits"])
        n, c, one, unit = odd(-0.2888, s * s, p["n"])
        curve, unit = IbertErf(up, n, math.floor(-1.769 / s), c, one), unit / 2
    elif method == "ibert":
        s, up = unit_of(scale, math.log(2), p["x_bits"])
        a = 0.35815147
        c = max(math.floor(1 / a / (s * s)), 1)
        unit = a * (s * s)
        shift = exp_shift(unit, y) if shape == "curve" else 30 - c.bit_length()
        b = math.floor(0.96963238 / a / s)
        curve = IbertExp(up, shift, 30, p["bits"], math.ceil(math.log(2) / s), b, c)
        unit = unit * 2.0**-shift if shape == "curve" else 2.0 ** -p["bits"]
    else:
        s, up = unit_of(scale, 1.0, p["x_bits"])
        length = math.ceil(1 / s)
        clip = min(p["n"], 30 - length.bit_length())
        shift = exp_shift(s, y) if shape == "curve" else clip
        curve = IvitExp(up, shift, clip, p["bits"], p["division"], length)
        unit = s * 2.0**-shift if shape == "curve" else 2.0 ** (1 - p["bits"])
    real = (unit * x.scale if shape == "product" else unit) / y.scale
    return Constants(curve, shape, Dyadic(2**31 - 1, 1) if real >= 2.0**30 else dyadic(real))
