"""Softmax methods whose exponentials are a table over the distance from the maximum (pyquant/softmax.h).

Everything in Python integers and fractions; each method is written from its paper, as the docstrings say, and
not after the C code. Explained in docs/numerics/softmax_methods.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tests.spec.numbers import rne

LOG2_E = 1.4426950408889634074
FAR = 1 << 20


def half_up(value: Fraction) -> int:
    """To the nearest, ties up."""
    return math.floor(value + Fraction(1, 2))


@dataclass(frozen=True)
class Method:
    """A method with its parameters: exponentials, weights of a row, divisor, and bounds."""

    per_nat: float
    exponential: Callable[[int], int]
    weight: Callable[[int, int], int]
    divisor: Callable[[int], int]
    pmax: int
    bits: int = 0
    sum_limit: int = 2**32 - 1
    weights_most: Callable[[int], int] | None = None
    divisor_most: Callable[[int], int] | None = None

    def most_weights(self, keys: int) -> int:
        """A bound on the sum of weights."""
        return self.weights_most(keys) if self.weights_most else self.pmax * keys

    def most_divisor(self, keys: int) -> int:
        """A bound on L."""
        return self.divisor_most(keys) if self.divisor_most else self.most_weights(keys)

    def table(self) -> list[int]:
        """Exponentials up to where they no longer change."""
        last = self.exponential(FAR)
        entries = []
        while not entries or entries[-1] != last:
            entries.append(self.exponential(len(entries)))
            assert len(entries) <= 8192
        return entries


@dataclass(frozen=True)
class Lookup:
    """The constants of one softmax by table."""

    delta_max: int
    multiplier: int
    shift: int
    method: Method
    table: tuple[int, ...]

    @property
    def pmax(self) -> int:
        """Largest weight."""
        return self.method.pmax

    def weigh(self, score: Sequence[int], keep: Sequence[bool]) -> tuple[list[int], int]:
        """(P, L) of one row. An excluded key takes no part in the maximum and weighs 0."""
        kept = [s for s, is_kept in zip(score, keep, strict=True) if is_kept]
        if not kept:
            return [0] * len(score), 1
        highest, e = max(kept), []
        for s, is_kept in zip(score, keep, strict=True):
            nearest = min(highest - s, self.delta_max) * self.multiplier + (1 << (self.shift - 1))
            assert not is_kept or nearest < 2**32
            e.append(self.table[min(nearest >> self.shift, len(self.table) - 1)] if is_kept else 0)
        total = sum(e)
        assert total <= self.method.sum_limit
        if total == 0:
            return [0] * len(score), 1
        p = [self.method.weight(x, total) if x or is_kept else 0 for x, is_kept in zip(e, keep, strict=True)]
        assert max(p) <= self.pmax
        assert sum(p) <= self.method.most_weights(len(score))
        return p, self.method.divisor(total)


def i_exp(u: int, fraction: int, n: int, top: int) -> int:
    """I-BERT, algorithm 2: x = q ln2 + p, exp(p) ~ a p^2 + b p + 1, in the integers of the released code."""
    scale = Fraction(1, 2**fraction)
    x0 = math.floor(-0.6931 / float(scale))
    b, c = math.floor(0.96963238 / 0.35815147 / float(scale)), math.floor(1 / 0.35815147 / float(scale) ** 2)
    x = max(-u, n * x0)
    q = x // x0  # both negative: floor of a positive quotient
    r = x - x0 * q
    z = r * (r + b) + c
    # floor(z 2^(n - q)), then 16 bits (or others): the largest of a row is c 2^n
    return half_up(Fraction(z * top, c * 2**q))


def shift_exp(u: int, step: float, n: int) -> int:
    """I-ViT, algorithm 1, as the released code has it, in exact fractions where that uses floats."""
    x = -u + math.floor(Fraction(-u, 2)) - math.floor(Fraction(-u, 16))
    x0 = math.floor(-1.0 / step)
    x = max(x, n * x0)
    q = x // x0
    r = x - x0 * q
    return max(math.floor((Fraction(r, 2) - x0) * Fraction(2) ** (n - q)), 0)


def log_code(total: int, e: int) -> int:
    """FQ-ViT's log_round of round(total / e)."""
    t = half_up(Fraction(total, e))
    k = t.bit_length() - 1
    return k + (1 if t - 2**k >= Fraction(2) ** (k - 1) else 0)


def shift_log2(u: int, fraction: int, bits: int) -> int:
    """Three shifts for log2(e), a straight line on each octave."""
    x = u - math.floor(Fraction(-u, 2)) + math.floor(Fraction(-u, 16)) - math.floor(Fraction(-u, 128))
    q, r = divmod(x, 2**fraction)
    return math.floor(Fraction((2 * 2**fraction - r) * 2**bits, 2 * 2**fraction)) >> q


def shift_exp2(u: int, fraction: int, bits: int) -> int:
    """QFlash: e = ((r >> 1) + S) >> q with S = 2^12, then to `bits` bits by rounding."""
    q, r = divmod(Fraction(u, 2**fraction), 1)
    e = math.floor(4096 + Fraction(-math.ceil(r * 4096 / 2))) >> int(q)
    return half_up(Fraction(e * (2**bits - 1), 4096))


def e2_code(u: int, fraction: int) -> int:
    """SOLE: the nearest integer to 1.4375 x, by shifts."""
    x = u - math.floor(Fraction(-u, 2)) + math.floor(Fraction(-u, 16))
    return half_up(Fraction(x, 2**fraction))


def e2_divisor(total: int) -> int:
    """SOLE: 2^ks / 0.818 or 2^ks / 0.568, to 8 bits behind the point of the factor."""
    ks = total.bit_length() - 1
    factor = 451 if ks > 0 and total * 2 >= 3 * 2**ks else 313
    return max(math.floor(Fraction(factor * 2**ks, 256)), 1)


def as_is(e: int, total: int) -> int:
    """Methods that divide after P times V only."""
    return e


def ibert(bits: int = 8, n: int = 30, fraction: int = 9) -> Method:
    """I-BERT."""
    return Method(
        2.0**fraction, lambda u: i_exp(u, fraction, n, 2**15 - 1),
        lambda e, total: e * ((2**32 - 1) // total) // 2 ** (32 - bits),
        lambda total: 2**bits, 2**bits - 1, bits, weights_most=lambda keys: 2**bits,
    )  # fmt: skip


def ivit(bits: int = 16, n: int = 15, step: float = 0.015625) -> Method:
    """I-ViT."""
    return Method(
        1.0 / step, lambda u: shift_exp(u, step, n),
        lambda e, total: e * ((2**31 - 1) // total) // 2 ** (31 - bits + 1),
        lambda total: 2 ** (bits - 1), 2 ** (bits - 1) - 1, bits, 2**31 - 1, lambda keys: 2 ** (bits - 1),
    )  # fmt: skip


def fqvit(bits: int = 4, n: int = 30, fraction: int = 9) -> Method:
    """FQ-ViT."""

    def weight(e: int, total: int) -> int:
        code = log_code(total, e) if e else 99
        return 2 ** (14 - code) if code <= min(14, 2**bits - 1) else 0

    return Method(
        2.0**fraction, lambda u: i_exp(u, fraction, n, 2**20 - 1), weight, lambda total: 2**14, 2**14, bits,
        weights_most=lambda keys: 3 * 2**14, divisor_most=lambda keys: 2**14,
    )  # fmt: skip


def iptq(bits: int = 14, fraction: int = 8) -> Method:
    """After IPTQ-ViT."""
    return Method(2.0**fraction, lambda u: shift_log2(u, fraction, bits), as_is, lambda total: total, 2**bits)


def qflash(bits: int = 7, fraction: int = 7) -> Method:
    """QFlash."""
    return Method(
        LOG2_E * 2.0**fraction,
        lambda u: shift_exp2(u, fraction, bits),
        as_is,
        lambda total: total,
        2**bits - 1,
    )


def index(bits: int = 5, clip: float = 6.6) -> Method:
    """IntAttention."""
    last = 2**bits - 1
    return Method(
        last / clip, lambda u: rne(Fraction(255.0 * math.exp(-clip * u / last))) if u < last else 0,
        lambda e, total: half_up(Fraction(255 * e, total)), lambda total: 255, 255, 0, (2**32 - 1) // 512,
        lambda keys: 255 + keys // 2, lambda keys: 255,
    )  # fmt: skip


def sole(fraction: int = 6) -> Method:
    """SOLE."""

    def exponential(u: int) -> int:
        code = e2_code(u, fraction)
        return 2 ** (14 - code) if code <= 14 else 0

    return Method(
        2.0**fraction, exponential, as_is, e2_divisor, 2**14, divisor_most=lambda keys: 2 * 2**14 * keys
    )


METHODS: dict[str, Callable[..., Method]] = {
    "ibert": ibert, "ivit": ivit, "fqvit": fqvit, "iptq": iptq, "qflash": qflash, "index": index, "sole": sole
}  # fmt: skip


def parse(text: str) -> Method | None:
    """A method of METHODS from its text; None for the others."""
    name, _, rest = text.partition("(")
    if name not in METHODS:
        return None
    given = dict(part.split("=") for part in rest.rstrip(")").split(",") if part)
    numbers = {key: float(value) if "." in value else int(value) for key, value in given.items()}
    return METHODS[name](**numbers)
