"""LayerNorm and RMSNorm of one row of integers, exact to half a unit of Q16.

Explained in docs/numerics/layernorm.md; contract: csrc/include/pyquant/layernorm.h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.spec.numbers import INT32_MAX, Clamp, fits_int64, rnu


def inverse_root(w: int) -> tuple[int, int]:
    """(m_r, shift) with m_r / 2^shift ~ 2^16 / sqrt(W), for 1 <= W < 2^63 (layernorm.h).

    W is shifted up by an even k first, so that the floor square root always keeps 32 bits.
    """
    assert 1 <= w < 2**63
    leading_zeros = 64 - w.bit_length()
    k = leading_zeros & ~1
    root = math.isqrt(w << k)
    assert 2**31 <= root < 2**32
    return min(2**62 // root, INT32_MAX), 46 - k // 2


def rnu_affine(z: int, gain: int, offset: int, shift: int) -> int:
    """(z * gain + offset + 2^(s-1)) >> s: signed multiplier and offset, one rounding (layernorm.h)."""
    return fits_int64(z * gain + offset + 2 ** (shift - 1)) >> shift


def normalize(x: Sequence[int], epsilon: int, rms: bool = False, x_zero_point: int = 0) -> list[int]:
    """z, the normalised row in Q16 (layernorm.h). `epsilon` is E = rne(C^2 * eps / s_x^2)."""
    channels = len(x)
    assert 1 <= channels <= 32767
    if rms:
        x = [v - x_zero_point for v in x]
    total = 0 if rms else sum(x)
    variance = fits_int64(channels * sum(v * v for v in x)) - total * total
    m_r, shift = inverse_root(max(variance + epsilon, 1))
    z = [rnu(channels * v - total, m_r, shift) for v in x]
    assert all(abs(v) < 2**24 for v in z)
    return z


def layernorm(
    x: Sequence[int],
    epsilon: int,
    gain: Sequence[int],
    offset: Sequence[int],
    shift: int,
    out: Clamp,
    rms: bool = False,
    x_zero_point: int = 0,
) -> list[int]:
    """One row of C channels. LayerNorm does not see x's zero point; RMSNorm does (layernorm.h)."""
    z = normalize(x, epsilon, rms, x_zero_point)
    return [out.apply(rnu_affine(v, g, b, shift)) for v, g, b in zip(z, gain, offset, strict=True)]
