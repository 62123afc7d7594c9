/* The rounding primitives. One name, one definition; everything integer is built from these.
 *
 *   rnu(x, m, s)  = (x * m + 2^(s-1)) >> s          round half up, arithmetic shift
 *
 * Bound: |x| <= 2^31 and m < 2^31 give |x * m| <= 2^62, the addend is at most 2^61 (s <= 62), so
 * the sum stays inside int64. Results lie within +-2^62: clamps must be done in int64.
 * Other roundings and widths have other names:
 *   rnu32     (uint32 product, softmax index)      -> attention.h
 *   rnu2      (two terms, one rounding, residual)  -> elementwise.h
 *   rnu_affine (signed multiplier and offset)      -> layernorm.h
 * Source: docs/numerics/numbers.md; the executable specification is tests/spec/numbers.py.
 */
#ifndef PYQUANT_RNU_H
#define PYQUANT_RNU_H

#include <stdint.h>

#include "pyquant/types.h"

static inline int64_t pq_rnu(int64_t x, int32_t multiplier, int shift) {
    return (x * multiplier + (INT64_C(1) << (shift - 1))) >> shift;
}

static inline int64_t pq_clamp_s64(int64_t v, int64_t low, int64_t high) {
    return v < low ? low : v > high ? high : v;
}

/* clamp(rnu(x) + zero_point): the one requantization. */
static inline int32_t pq_requantize(int64_t x, int32_t multiplier, int shift, pq_clamp out) {
    return (int32_t)pq_clamp_s64(pq_rnu(x, multiplier, shift) + out.zero_point, out.quant_min,
                                 out.quant_max);
}

#endif
