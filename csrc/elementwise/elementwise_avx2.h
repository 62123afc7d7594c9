/* Eight elements at a time for the AVX2 files of this family: load, round a 64-bit sum, store.
 *
 * AVX2 has no arithmetic 64-bit shift. v >> s (floor) is ((v + 2^63) >>> s) - (2^63 >>> s), where
 * the sum is v with an offset as an unsigned number. If the result fits in 32 bits, only low halves
 * of the lanes count, and the subtraction may be done on them, modulo 2^32, together with the zero
 * point. pq_narrow says when it fits; other constants (a rescaling by 2^13 or more) are left to
 * the reference.
 */
#ifndef PYQUANT_ELEMENTWISE_AVX2_H
#define PYQUANT_ELEMENTWISE_AVX2_H

#include <stdbool.h>

#include "core/simd_avx2.h"
#include "pyquant/types.h"

/* True if (v + 2^(s-1)) >> s plus a zero point fits in s32 for every |v| <= bound < 2^62. */
static inline bool pq_narrow(uint64_t bound, int shift) {
    return (bound + (UINT64_C(1) << (shift - 1))) >> shift < (UINT64_C(1) << 30) - 1;
}

typedef struct pq_rounding {
    __m256i addend;    /* 2^63 + 2^(s-1) (+ what the caller folds in), s64 */
    __m256i offset;    /* zero point - (2^63 >>> s), s32 */
    __m256i low, high; /* s32 */
    __m128i shift;
} pq_rounding;

/* `constant` is added to every v, modulo 2^64. */
static inline pq_rounding pq_rounding_of(int64_t constant, int shift, pq_clamp out) {
    const uint64_t top = UINT64_C(1) << 63;
    const uint64_t addend = top + (UINT64_C(1) << (shift - 1)) + (uint64_t)constant;
    const uint32_t offset = (uint32_t)out.zero_point - (uint32_t)(top >> shift);
    return (pq_rounding){
        .addend = _mm256_set1_epi64x((int64_t)addend),
        .offset = _mm256_set1_epi32((int32_t)offset),
        .low = _mm256_set1_epi32(out.quant_min),
        .high = _mm256_set1_epi32(out.quant_max),
        .shift = _mm_cvtsi32_si128(shift),
    };
}

/* even: v of elements 0 2 4 6; odd: of 1 3 5 7. The clamped outputs, s32 in order. */
static inline __m256i pq_round_8(const pq_rounding *rounding, __m256i even, __m256i odd) {
    even = _mm256_srl_epi64(_mm256_add_epi64(even, rounding->addend), rounding->shift);
    odd = _mm256_srl_epi64(_mm256_add_epi64(odd, rounding->addend), rounding->shift);
    __m256i y = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
    y = _mm256_add_epi32(y, rounding->offset);
    return _mm256_min_epi32(_mm256_max_epi32(y, rounding->low), rounding->high);
}

/* Elements i .. i + 7 as s32. */
static inline __m256i pq_load_8(pq_dtype type, const void *x, size_t i) {
    if (type == PQ_S8) {
        return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)((const int8_t *)x + i)));
    }
    return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)((const int16_t *)x + i)));
}

/* y: clamped, in the range of the type. */
static inline void pq_store_8(pq_dtype type, void *y, size_t i, __m256i v) {
    const __m128i v16 = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    if (type == PQ_S8) {
        _mm_storel_epi64((__m128i *)((int8_t *)y + i), _mm_packs_epi16(v16, v16));
    } else {
        _mm_storeu_si128((__m128i *)((int16_t *)y + i), v16);
    }
}

static inline __m256i pq_odd(__m256i v_s32) {
    return _mm256_srli_epi64(v_s32, 32);
}

#endif
