/* What the variants of x86 share: how 64-bit sums are finished in 32 bits, which constants allow
 * it, and the constants of a row without bit-by-bit root and without division (which would take as
 * long as a hundred channels).
 *
 * A shift of 33 or more only looks at the upper half of a sum, as an s32: 2^(s-1) is a multiple of
 * 2^32 then, and
 *     (p + 2^(s-1)) >> s = (upper(p) + 2^(s-33)) >> (s - 32).
 * So the upper halves of even and odd lanes are brought together and rounded in 32 bits.
 *
 *   z    a shift below 33 is raised to it by shifting C * x - S1 up as well: |z| < 2^24 and
 *        m_r >= 2^30 bound |C * x - S1| by 2^(s-5), so that 2^28 holds the result.
 *   y    a shift s below 33 is raised by shifting z and the offset up, by at most 6 bits: |z| <
 * 2^30 then. pq_layernorm_is_narrow demands that the sum with 2^(s-1) is below 2^(s+30), so that 64
 * bits hold it shifted up to 33, and y fits 32 bits.
 */
#ifndef PYQUANT_LAYERNORM_LAYERNORM_WIDE_H
#define PYQUANT_LAYERNORM_LAYERNORM_WIDE_H

#include "layernorm/layernorm_kernel.h"

enum { PQ_SHIFT_LEAST = 33, PQ_RAISE_MOST = 6 };

/* derive's constants for any sensible gamma, beta and grid pass; others are left to the reference.
 */
static inline bool pq_layernorm_is_narrow(const pq_layernorm_args *args) {
    uint64_t gain = 0, offset = 0;
    for (size_t c = 0; c < args->channels; c++) {
        const int64_t g = args->gain[c], b = args->offset[c];
        const uint64_t g_size = (uint64_t)(g < 0 ? -g : g), b_size = (uint64_t)(b < 0 ? -b : b);
        gain = g_size > gain ? g_size : gain;
        offset = b_size > offset ? b_size : offset;
    }
    /* 2^55 + 2^61 + 2^61 fits; the comparison is made on the shifted value, which floors. */
    const uint64_t bound = (gain << 24) + offset + (UINT64_C(1) << (args->shift - 1));
    return args->shift >= PQ_SHIFT_LEAST - PQ_RAISE_MOST &&
           bound >> args->shift < (UINT64_C(1) << 30) - 1;
}

/* By how much a shift is raised. */
static inline int pq_raise(int shift) {
    return shift < PQ_SHIFT_LEAST ? PQ_SHIFT_LEAST - shift : 0;
}

/* About 2^62 / sqrt(n) for n in [2^62, 2^64), in (2^30, 2^31], to one part in 2^23.
 *
 * With x = n / 2^62 in [1, 4): 1.067 - 0.1525 x is within 0.0864 of 1 / sqrt(x), relatively, and a
 * Newton step y + y (1 - x y^2) / 2 turns an error of e into 1.5 e^2: 0.0112, 1.9e-4, 5.4e-8, while
 * each rounds by less than 2^-28. In numbers: h = 2^30 x, y = 2^31 / sqrt(x), h * (y^2 / 2^32) near
 * 2^60. */
static inline int64_t pq_reciprocal_root(uint64_t n) {
    const int64_t h = (int64_t)(n >> 32);
    int64_t y = INT64_C(2291365052) - (h * 312 >> 10);
    for (int i = 0; i < 3; i++) {
        const int64_t square = (int64_t)(((uint64_t)y * (uint64_t)y) >> 32);
        const int64_t error = (INT64_C(1) << 60) - h * square;
        y += y * (error >> 30) >> 31;
    }
    return y;
}

/* floor(sqrt(n)) for n in [2^62, 2^64) with y near 2^62 / sqrt(n). n y / 2^62 is off by at most
 * d = 2^10, one Newton step in 64 bits by d^2 / 2^32 and its roundings, which is less than 1. */
static inline uint64_t pq_root_near(uint64_t n, int64_t y) {
    uint64_t r = (n >> 32) * (uint64_t)y >> 30;
    const int64_t left = (int64_t)(n - r * r); /* below 2^43: exact modulo 2^64 */
    r += (uint64_t)((left >> 12) * y >> 51);
    r = r > UINT32_MAX ? UINT32_MAX : r;
    if (r * r > n) {
        return r - 1;
    }
    return r < UINT32_MAX && (r + 1) * (r + 1) <= n ? r + 1 : r;
}

/* floor(2^62 / r) for r in [2^31, 2^32) with y near it, in the same way. */
static inline int64_t pq_quotient_near(uint64_t r, int64_t y) {
    const int64_t whole = INT64_C(1) << 62, divisor = (int64_t)r;
    int64_t q = y;
    q += ((whole - q * divisor) >> 12) * y >> 50;
    const int64_t left = whole - q * divisor;
    return left < 0 ? q - 1 : left >= divisor ? q + 1 : q;
}

static inline pq_layernorm_row pq_layernorm_row_quick(const pq_layernorm_args *args, int64_t sum,
                                                      int64_t square_sum) {
    pq_layernorm_row row = {.channels = (int32_t)args->channels};
    const uint64_t w = pq_layernorm_w(args, sum, square_sum, &row.centre);
    const int k = __builtin_clzll(w) & ~1;
    const int64_t y = pq_reciprocal_root(w << k);
    const int64_t multiplier = pq_quotient_near(pq_root_near(w << k, y), y);
    row.multiplier = multiplier > INT32_MAX ? INT32_MAX : (int32_t)multiplier;
    row.shift = 46 - k / 2;
    return row;
}

#endif
