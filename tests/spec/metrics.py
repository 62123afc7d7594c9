"""Errors of an approximation: the sums as they are rounded, and KL divergence.

Explained in docs/numerics/metrics.md; contract: csrc/include/pyquant/metrics.h.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

LANES, BLOCK, CHUNK = 16, 2048, 131072
SMALL = 2.0**-100

Sums = tuple[float, float, float, float, float]  # xx, yy, xy, dd, largest


def f32(value: float) -> float:
    """Nearest float32. Of a float64 sum or product of two float32 it is the float32 one."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def dequantized(q: int, zero_point: int, scale: float) -> float:
    return f32(f32(q - zero_point) * f32(scale))


def add_lanes(lanes: Sequence[float]) -> float:
    sums, half = list(lanes), LANES // 2
    while half:
        sums = [sums[i] + sums[i + half] for i in range(half)]
        half //= 2
    return sums[0]


def block(x: Sequence[float], y: Sequence[float]) -> Sums:
    lanes = [[0.0] * LANES for _ in range(4)]
    largest = 0.0
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        d = f32(a - b)
        for sums, (p, q) in zip(lanes, ((a, a), (b, b), (a, b), (d, d)), strict=True):
            sums[i % LANES] = f32(sums[i % LANES] + f32(p * q))
        largest = max(largest, abs(d))
    xx, yy, xy, dd = map(add_lanes, lanes)
    finite = all(map(math.isfinite, (xx, yy, xy, dd)))
    if finite and xx >= SMALL and yy >= SMALL and (dd >= SMALL or largest == 0):
        return xx, yy, xy, dd, largest
    return in_float64(x, y)


def in_float64(x: Sequence[float], y: Sequence[float]) -> Sums:
    xx = yy = xy = dd = largest = 0.0
    for a, b in zip(x, y, strict=True):
        xx, yy, xy, dd = xx + a * a, yy + b * b, xy + a * b, dd + (a - b) * (a - b)
        largest = max(largest, abs(a - b))
    return xx, yy, xy, dd, largest


def add(a: Sums, b: Sums) -> Sums:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], max(a[4], b[4])


def row(x: Sequence[float], y: Sequence[float]) -> Sums:
    """Sums of finite float32 values, in the order of metrics.h."""
    total: Sums = (0.0,) * 5
    for begin in range(0, len(x), CHUNK):
        chunk: Sums = (0.0,) * 5
        for at in range(begin, min(begin + CHUNK, len(x)), BLOCK):
            end = min(at + BLOCK, begin + CHUNK)
            chunk = add(chunk, block(x[at:end], y[at:end]))
        total = add(total, chunk)
    return total


def sqnr(samples: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """dB, by exact sums: what the figure means."""
    ratios = []
    for x, y in samples:
        noise = math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True))
        if noise > 0:
            ratios.append(math.sqrt(math.fsum(a * a for a in x) / noise))
    if not ratios:
        return math.inf if samples else math.nan
    mean = math.fsum(ratios) / len(ratios)
    return 20 * math.log10(mean) if mean > 0 else -math.inf


def kl(x: Sequence[float], y: Sequence[float]) -> float:
    """KL(softmax(x) || softmax(y)) in nats."""
    a, b = [v - max(x) for v in x], [v - max(y) for v in y]
    log_a, log_b = (math.log(math.fsum(map(math.exp, values))) for values in (a, b))
    return math.fsum(math.exp(p - log_a) * ((p - log_a) - (q - log_b)) for p, q in zip(a, b, strict=True))
