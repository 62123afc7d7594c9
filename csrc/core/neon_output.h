/* From 64-bit sums to stored elements, for the NEON files of the integer families.
 *
 * vrshlq_s64 by -s is rnu's rounding: (v + 2^(s-1)) >> s, on the sum before it could overflow.
 * The clamp of the definitions is done in int64. Here each narrowing saturates, first to s32 (and
 * so does the addition of the zero point, |z| <= 2^15), then to s16: both intervals contain all
 * wanted results, before and after the zero point, so that the clamps nest and the last one
 * decides.
 */
#ifndef PYQUANT_CORE_NEON_OUTPUT_H
#define PYQUANT_CORE_NEON_OUTPUT_H

#include "core/simd_neon.h"
#include "pyquant/types.h"

typedef struct pq_neon_output {
    int32x4_t zero_point;
    int16x8_t low, high;
} pq_neon_output;

/* `out` within s16. */
static inline pq_neon_output pq_neon_output_of(pq_clamp out) {
    return (pq_neon_output){
        .zero_point = vdupq_n_s32(out.zero_point),
        .low = vdupq_n_s16((int16_t)out.quant_min),
        .high = vdupq_n_s16((int16_t)out.quant_max),
    };
}

/* Elements 0 1 and 2 3; the shifts are negative. */
static inline int32x4_t pq_neon_round_4(int64x2_t a, int64x2_t b, int64x2_t a_shift,
                                        int64x2_t b_shift) {
    const int32x2_t low = vqmovn_s64(vrshlq_s64(a, a_shift));
    return vqmovn_high_s64(low, vrshlq_s64(b, b_shift));
}

static inline int16x8_t pq_neon_clamp_8(const pq_neon_output *out, int32x4_t a, int32x4_t b) {
    const int16x4_t low = vqmovn_s32(vqaddq_s32(a, out->zero_point));
    const int16x8_t v = vqmovn_high_s32(low, vqaddq_s32(b, out->zero_point));
    return vminq_s16(vmaxq_s16(v, out->low), out->high);
}

/* Elements i .. i + 7 of s8 or s16. */
static inline int16x8_t pq_neon_load_8(pq_dtype type, const void *x, size_t i) {
    return type == PQ_S8 ? vmovl_s8(vld1_s8((const int8_t *)x + i))
                         : vld1q_s16((const int16_t *)x + i);
}

/* v lies in the range of the type. */
static inline void pq_neon_store_8(pq_dtype type, void *y, size_t i, int16x8_t v) {
    if (type == PQ_S8) {
        vst1_s8((int8_t *)y + i, vmovn_s16(v));
    } else {
        vst1q_s16((int16_t *)y + i, v);
    }
}

#endif
