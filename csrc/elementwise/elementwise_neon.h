/* Eight elements at a time for the NEON files of this family. */
#ifndef PYQUANT_ELEMENTWISE_NEON_H
#define PYQUANT_ELEMENTWISE_NEON_H

#include "core/neon_output.h"

typedef struct pq_s32x8 {
    int32x4_t low, high;
} pq_s32x8;

/* x - z; a zero point lies inside its operand's type, so that the difference needs 17 bits. */
static inline pq_s32x8 pq_centred_8(pq_dtype type, const void *x, size_t i, int16x8_t zero_point) {
    const int16x8_t v = pq_neon_load_8(type, x, i);
    return (pq_s32x8){vsubl_s16(vget_low_s16(v), vget_low_s16(zero_point)),
                      vsubl_high_s16(v, zero_point)};
}

/* clamp(rnu(x, m, s) + z_y), stored; `shift` holds -s. */
static inline void pq_requantize_8(const pq_neon_output *out, pq_s32x8 x, int32x4_t multiplier,
                                   int64x2_t shift, pq_dtype type, void *y, size_t i) {
    const int32x2_t m = vget_low_s32(multiplier);
    const int32x4_t low = pq_neon_round_4(vmull_s32(vget_low_s32(x.low), m),
                                          vmull_high_s32(x.low, multiplier), shift, shift);
    const int32x4_t high = pq_neon_round_4(vmull_s32(vget_low_s32(x.high), m),
                                           vmull_high_s32(x.high, multiplier), shift, shift);
    pq_neon_store_8(type, y, i, pq_neon_clamp_8(out, low, high));
}

#endif
