"""LayerNorm and RMSNorm as I-BERT, I-ViT and FQ-ViT compute them, in integers.

Explained in docs/numerics/layernorm_methods.md; contract: csrc/include/pyquant/layernorm.h. Written from the
papers' equations: I-BERT (arXiv:2101.01321, Alg. 4), I-ViT (arXiv:2207.01405, I-LayerNorm), FQ-ViT
(arXiv:2111.13824, Powers-of-Two Factor).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.spec.layernorm import inverse_root, rnu_affine
from tests.spec.numbers import Clamp, Dyadic, clamp, fits_int32, fits_int64, rnu

PUBLISHED_START, PUBLISHED_STEPS = 2**16, 10
NUMERATOR = {"ibert": 2**31, "ivit": 2**31 - 1, "ivit_published": 2**31 - 1}
MEAN_BITS = 20  # of the fraction of ptf's mean
OFFSET_BITS = 32  # of the fraction of ptf's offset


# ---- the square roots ----


def newton_step(k: int, n: int) -> int:
    """floor((k + floor(n / k)) / 2): the integer step of Newton for sqrt(n); never below isqrt(n)."""
    return (k + n // k) >> 1


def start_of(n: int) -> int:
    """2^ceil(bits / 2): at least sqrt(n), at most twice as large (I-BERT, Alg. 4)."""
    return 1 << (n.bit_length() + 1) // 2


def root_ibert(n: int) -> int:
    """floor(sqrt(n)), n >= 1: steps until the value falls no more (I-BERT, Alg. 4)."""
    k = start_of(n)
    while True:
        following = newton_step(k, n)
        if following >= k:
            return k
        k = following


def root_steps(n: int, start: int, steps: int) -> int:
    """A fixed number of steps. Once converged it is isqrt(n), or one more where n + 1 is a square."""
    k = start
    for _ in range(steps):
        k = newton_step(k, n)
    return k


def root(method: str, n: int, iterations: int = 10) -> int:
    """The standard deviation's estimate of a method, times sqrt(C)."""
    assert 1 <= n < 2**47
    if method == "ibert":
        return root_ibert(n)
    if method == "ivit":
        return root_steps(n, start_of(n), iterations)
    return root_steps(n, PUBLISHED_START, PUBLISHED_STEPS)


def root_of_shifted_squares(y: Sequence[int]) -> int:
    """What I-BERT's released code does where sum y^2 reaches 2^32: the differences are shifted down by
    ceil(log2(sqrt(var / 2^32))), and the root of the smaller sum is shifted back up."""
    var = sum(v * v for v in y)
    shift = 0
    while var >= 2**32 << (2 * shift):
        shift += 1
    return math.isqrt(sum((v >> shift) ** 2 for v in y)) << shift


# ---- I-BERT and I-ViT ----


def normalize_newton(
    x: Sequence[int], method: str, iterations: int = 10, rms: bool = False, x_zero_point: int = 0
) -> list[int]:
    """z: the normalised row times 2^30 / sqrt(C), floored twice as the papers' code does."""
    channels = len(x)
    assert 1 <= channels <= 32767
    centre = x_zero_point if rms else (2 * sum(x) + channels) // (2 * channels)  # half up
    y = [v - centre for v in x]
    var = fits_int64(sum(v * v for v in y))
    std = root(method, max(var, 1), iterations)
    assert std >= math.isqrt(var)  # hence |y| <= std
    factor = NUMERATOR[method] // std
    z = [fits_int64(v * factor) >> 1 for v in y]
    assert all(abs(v) <= 2**30 for v in z)
    return z


def layernorm_newton(
    x: Sequence[int],
    method: str,
    iterations: int,
    gain: Sequence[int],
    offset: Sequence[int],
    shift: int,
    out: Clamp,
    rms: bool = False,
    x_zero_point: int = 0,
) -> list[int]:
    """One row. gain is gamma * sqrt(C) / 2^30 / s_y, offset beta / s_y, on one shift."""
    z = normalize_newton(x, method, iterations, rms, x_zero_point)
    return [out.apply(rnu_affine(v, g, b, shift)) for v, g, b in zip(z, gain, offset, strict=True)]


# ---- FQ-ViT ----


@dataclass(frozen=True)
class Ptf:
    """The grid of 8 bits on which a row is normalised: x_c ~ (x8 - zero_point) * s1 * 2^alpha_c, with
    requant ~ s_x / s1; and the channels' constants |gamma_c| * C / s_y ~ |gain_c| / 2^exponent_c."""

    requant: Dyadic
    zero_point: int
    alpha: Sequence[int]
    gain: Sequence[int]
    exponent: Sequence[int]
    offset: Sequence[int]


def expand(x: Sequence[int], x_zero_point: int, c: Ptf) -> list[int]:
    """X_c = (x8 - zero_point) << alpha_c: the row on 8 bits a channel, then on the common scale s1."""
    low, high = -128 - c.zero_point, 127 - c.zero_point
    result = []
    for v, alpha in zip(x, c.alpha, strict=True):
        step = rnu(v - x_zero_point, c.requant.multiplier, c.requant.shift + alpha)
        result.append(clamp(step, low, high) << alpha)
    return result


def layernorm_ptf(
    x: Sequence[int], c: Ptf, out: Clamp, rms: bool = False, x_zero_point: int = 0
) -> list[int]:
    """One row: out = round((sgn M X + B) / 2^N) with an 8-bit mantissa M of A = |gamma| s1 / (std s_y)."""
    channels = len(x)
    wide = expand(x, x_zero_point, c)
    assert all(abs(v) <= 2040 for v in wide)
    total = 0 if rms else sum(wide)
    variance = channels * sum(v * v for v in wide) - total * total
    assert 0 <= variance < 2**52
    inverse, h = 0, 6  # no variance: A = 0, and a large N for the offset
    if variance > 0:
        inverse, shift = inverse_root(variance)
        h = 46 - shift  # 1 / sqrt(V) ~ inverse / 2^(62 - h)
    mean = fits_int32(((total << (MEAN_BITS + 1)) + channels) // (2 * channels))
    y = []
    for v, gain, exponent, offset in zip(wide, c.gain, c.exponent, c.offset, strict=True):
        a = fits_int64(abs(gain) * inverse) >> 32  # 0, or 29 or 30 bits
        n = clamp(exponent + 9 - h - int(a >= 2**29), 0, 31)
        down = exponent + 30 - h - n  # A * 2^N = a / 2^down
        assert 0 <= down <= 31
        term = (a >> down) * v - (fits_int64(mean * a + 2 ** (MEAN_BITS - 1 + down)) >> (MEAN_BITS + down))
        bias = (offset + 2 ** (OFFSET_BITS - 1 - n)) >> (OFFSET_BITS - n)
        total_n = fits_int64((-term if gain < 0 else term) + bias + (1 << n >> 1))
        y.append(out.apply(total_n >> n))
    return y
