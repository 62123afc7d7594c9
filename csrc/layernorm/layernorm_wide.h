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

#include "layernorm/layernorm_ptf_kernel.h"

enum { PQ_SHIFT_LEAST = 33, PQ_RAISE_MOST = 6, PQ_Z_BITS = 24, PQ_NEWTON_Z_BITS = 30 };

/* Whether all sums can be finished so, where |z| < 2^z_bits and the shift may be raised by at most
 * `raise`. derive's constants for any sensible gamma, beta and grid pass; others are left to the
 * reference. */
static inline bool pq_layernorm_is_narrow(const pq_layernorm_args *args, int z_bits, int raise) {
    uint64_t gain = 0, offset = 0;
    for (size_t c = 0; c < args->channels; c++) {
        const int64_t g = args->gain[c], b = args->offset[c];
        const uint64_t g_size = (uint64_t)(g < 0 ? -g : g), b_size = (uint64_t)(b < 0 ? -b : b);
        gain = g_size > gain ? g_size : gain;
        offset = b_size > offset ? b_size : offset;
    }
    /* At most 2^61 each; the comparison is made on the shifted value, which floors. */
    const uint64_t bound = (gain << z_bits) + offset + (UINT64_C(1) << (args->shift - 1));
    return args->shift >= PQ_SHIFT_LEAST - raise &&
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

/* pq_layernorm_reciprocal_of. */
static inline pq_layernorm_reciprocal pq_layernorm_reciprocal_quick(uint64_t w) {
    const int k = __builtin_clzll(w) & ~1;
    const int64_t y = pq_reciprocal_root(w << k);
    const int64_t multiplier = pq_quotient_near(pq_root_near(w << k, y), y);
    return (pq_layernorm_reciprocal){
        multiplier > INT32_MAX ? INT32_MAX : (int32_t)multiplier, 46 - k / 2};
}

static inline pq_layernorm_row pq_layernorm_row_quick(const pq_layernorm_args *args, int64_t sum,
                                                      int64_t square_sum) {
    pq_layernorm_row row = {.channels = (int32_t)args->channels};
    const pq_layernorm_reciprocal r =
        pq_layernorm_reciprocal_quick(pq_layernorm_w(args, sum, square_sum, &row.centre));
    row.multiplier = r.multiplier;
    row.shift = r.shift;
    return row;
}

/* ---- PTF in 32 bits ----
 *
 *   X      the shift of its rnu is raised to 33 by shifting x - z_x up, by at most 14 bits: it
 *          stays below 2^30, the upper half of the product below 2^29.
 *   mean   u * a < 2^61 is finished in its upper half where 20 + d >= 33. Then M = a >> d < 2^17,
 *          and the mean's part is below 2^28: T fits. Where N >= 1, M <= 255 and |T| <= 2^20.
 *   B      offset = high * 2^32 + low with low in [-2^31, 2^31): B = high * 2^N + B_low, and
 *          y = high + ((T + B_low + floor(2^(N-1))) >> N), |B_low| <= 2^(N-1), |high| <= 2^29.
 *   rounding shifts by s >= 1 never add 2^(s-1), which may overflow:
 *          (v + 2^(s-1)) >> s = ((v >> (s-1)) + 1) >> 1,  and  (w + 1) >> 1 = (w >> 1) + (w & 1).
 */
enum { PQ_PTF_RAISE_MOST = 14, PQ_PTF_DOWN_LEAST = 13 };

static inline bool pq_layernorm_ptf_is_narrow(const pq_layernorm_args *args) {
    return args->requant.shift >= PQ_SHIFT_LEAST - PQ_PTF_RAISE_MOST;
}

static inline int pq_layernorm_ptf_exponent_min(const pq_layernorm_args *args) {
    int least = PQ_NORM_EXPONENT_MAX;
    for (size_t c = 0; c < args->channels; c++) {
        least = args->exponent[c] < least ? args->exponent[c] : least;
    }
    return least;
}

/* d of all channels is at least 13: 21 or more where N >= 1, exponent + 30 - h where N = 0. */
static inline bool pq_layernorm_ptf_row_is_narrow(pq_layernorm_ptf_row row, int exponent_min) {
    return exponent_min + 30 - row.half_shift >= PQ_PTF_DOWN_LEAST;
}

static inline pq_layernorm_ptf_row pq_layernorm_ptf_row_quick(const pq_layernorm_args *args,
                                                              int64_t sum, int64_t square_sum) {
    pq_layernorm_ptf_row row = {.half_shift = PQ_PTF_HALF_SHIFT_MIN};
    const uint64_t v = pq_layernorm_ptf_v(args, sum, square_sum, &row.mean);
    if (v > 0) {
        const pq_layernorm_reciprocal r = pq_layernorm_reciprocal_quick(v);
        row.inverse = r.multiplier;
        row.half_shift = 46 - r.shift;
    }
    return row;
}

#endif
