"""Published integer approximations of GELU and its relatives, on one element.

Python integers have no width; `fits_int32` and `fits_int64` stand where the C code relies on a bound. `//` by
a power of two is the arithmetic shift `>>`: both floor.

Explained in docs/numerics/unary_methods.md; contract: csrc/include/pyquant/unary.h. Sources: I-BERT,
arXiv:2101.01321, Algorithms 2 and 3; I-ViT, arXiv:2207.01405, ShiftExp and ShiftGELU; IPTQ-ViT,
arXiv:2511.15369, Data-aware Poly-GELU; NN-LUT, arXiv:2112.02191.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.spec.numbers import INT32_MAX, Affine, Dyadic, fits_int32, fits_int64, requantize


def sign(v: int) -> int:
    return (v > 0) - (v < 0)


def scaled(z: int, exponent: int) -> int:
    """floor(z * 2^exponent), at most 2^31 - 1."""
    assert z >= 0
    return min(z << exponent if exponent >= 0 else z >> -exponent, INT32_MAX)


@dataclass(frozen=True)
class IbertErf:
    """I-BERT, Algorithm 2: sgn(t) (a (min(|t|, -b) + b)^2 + 1) in the unit S_L = a S^2 2^n < 0."""

    up: int
    n: int
    b: int
    c: int
    one: int

    def value(self, v: int) -> int:
        t = abs(v) * 2**self.up
        w = min(t, -self.b) + self.b
        square = fits_int64(w * w + self.c)
        return fits_int32((sign(v) * square) // 2**self.n)  # the sign first, as the released code has it

    def gate(self, v: int) -> tuple[int, int]:
        """(1 + L, 2) in units of |S_L|: twice the gate, and what twice the gate of infinity would be."""
        return -(self.value(v) + self.one), -2 * self.one


@dataclass(frozen=True)
class Poly:
    """Data-aware Poly-GELU: sgn(t) (a (min(|t|, beta) - beta)^4 + 1), likewise."""

    up: int
    square: int
    n: int
    b: int
    c: int
    one: int

    def value(self, v: int) -> int:
        t = abs(v) * 2**self.up
        w = min(t, -self.b) + self.b
        h = fits_int64(w * w) // 2**self.square
        assert h < 2**15
        return sign(v) * (fits_int32(h * h + self.c) // 2**self.n)

    def gate(self, v: int) -> tuple[int, int]:
        return -(self.value(v) + self.one), -2 * self.one


@dataclass(frozen=True)
class IbertExp:
    """I-BERT, Algorithm 3: exp(t) = exp(p) / 2^z with p in (-ln 2, 0]."""

    up: int
    shift: int
    clip: int
    bits: int
    unit: int
    b: int
    c: int

    def exp(self, t: int) -> int:
        z = -t // self.unit
        p = t + z * self.unit
        assert -self.unit < p <= 0
        return scaled(fits_int64(p * (p + self.b) + self.c), self.shift - z)

    def value(self, v: int) -> int:
        return self.exp(v * 2**self.up)

    def gate(self, v: int) -> tuple[int, int]:
        """sigmoid(|x|) = 1 / (1 + e), sigmoid(-|x|) = e / (1 + e), e = exp(-|x|); rounded."""
        e = self.exp(-min(abs(v) * 2**self.up, self.clip * self.unit))
        one = self.exp(0)
        over = one if v >= 0 else e
        return (fits_int64(over << self.bits) + (one + e) // 2) // (one + e), 2**self.bits


@dataclass(frozen=True)
class IvitExp:
    """I-ViT, ShiftExp: exp(t) = 2^(1.0111b t), the fraction by 2^f ~ 1 + f / 2."""

    up: int
    shift: int
    clip: int
    bits: int
    division: int
    unit: int

    def exp(self, t: int, clip: int | None = None) -> int:
        t = t + t // 2 - t // 16
        if clip is not None:
            t = max(t, -clip * self.unit)
        z = -t // self.unit
        p = t + z * self.unit
        return scaled(p + 2 * self.unit, self.shift - z - 1)  # (p / 2 + unit) * 2^(shift - z)

    def value(self, v: int) -> int:
        return self.exp(v * 2**self.up)

    def sigmoid(self, t: int, most: int) -> int:
        """exp(t - most) / (exp(t - most) + exp(-most)); which `most` is the question (`rows`)."""
        e = self.exp(t - most, self.clip)
        total = fits_int32(e + self.exp(-most, self.clip))
        factor = (2**self.division - 1) // total
        return fits_int64(e * factor) // 2 ** (self.division - self.bits + 1)

    def gate(self, v: int) -> tuple[int, int]:
        t = v * 2**self.up
        return self.sigmoid(t, max(t, 0)), 2 ** (self.bits - 1)

    def rows(self, row: Sequence[int]) -> list[int]:
        """The gates of a row as the released code has them: one `most`, the row's."""
        most = max(row) * 2**self.up
        return [self.sigmoid(v * 2**self.up, most) for v in row]


@dataclass(frozen=True)
class Nnlut:
    """NN-LUT: the line of the last segment that has begun."""

    start: tuple[int, ...]
    slope: tuple[int, ...]
    intercept: tuple[int, ...]

    def value(self, v: int) -> int:
        j = max([0, *(i for i, start in enumerate(self.start) if start <= v)])
        return fits_int32(self.slope[j] * v + self.intercept[j])


Curve = IbertErf | Poly | IbertExp | IvitExp | Nnlut


@dataclass(frozen=True)
class Constants:
    """`shape`: curve (f itself), gate, product (v * gate), odd (2 gate - 1)."""

    curve: Curve
    shape: str
    requant: Dyadic

    def apply(self, v: int) -> int:
        """f in the unit of the requantization; v = q - zero_point."""
        assert -255 <= v <= 255
        if self.shape == "curve":
            return fits_int32(self.curve.value(v))
        assert not isinstance(self.curve, Nnlut)
        gate, whole = self.curve.gate(v)
        return fits_int32({"gate": gate, "product": v * gate, "odd": 2 * gate - whole}[self.shape])

    def table(self, x: Affine, y: Affine) -> list[int]:
        """table[q + 128] for q = -128..127."""
        return [requantize(self.apply(q - x.zero_point), self.requant, y.out) for q in range(-128, 128)]
