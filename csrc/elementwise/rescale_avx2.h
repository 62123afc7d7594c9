/* 16 elements at a time for requantize and add: load as s16, finish two halves of T >> 16, store.
 */
#ifndef PYQUANT_ELEMENTWISE_RESCALE_AVX2_H
#define PYQUANT_ELEMENTWISE_RESCALE_AVX2_H

#include "core/simd_avx2.h"
#include "elementwise/rescale.h"

#define PQ_INLINE static inline __attribute__((always_inline))

typedef struct pq_rescale_lanes {
    __m256i constant_high, addend; /* s32, s16 */
    __m128i shift;
    __m256i low, high;       /* of s16 outputs */
    __m128i low_s8, high_s8; /* of s8 outputs */
} pq_rescale_lanes;

PQ_INLINE pq_rescale_lanes pq_rescale_spread(const pq_rescale *rescale, pq_clamp out) {
    return (pq_rescale_lanes){
        .constant_high = _mm256_set1_epi32(rescale->constant_high),
        .addend = _mm256_set1_epi16(rescale->lane_addend),
        .shift = _mm_cvtsi32_si128(rescale->shift),
        .low = _mm256_set1_epi16((int16_t)out.quant_min),
        .high = _mm256_set1_epi16((int16_t)out.quant_max),
        .low_s8 = _mm_set1_epi8((int8_t)out.quant_min),
        .high_s8 = _mm_set1_epi8((int8_t)out.quant_max),
    };
}

/* Elements i .. i + 15 as s16, without the zero point of an s8. */
PQ_INLINE __m256i pq_load_16(pq_dtype type, const void *x, size_t i, __m256i zero_point) {
    if (type == PQ_S8) {
        const __m128i *at = (const __m128i *)(const void *)((const int8_t *)x + i);
        return _mm256_sub_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(at)), zero_point);
    }
    return _mm256_loadu_si256((const __m256i *)(const void *)((const int16_t *)x + i));
}

/* Two numbers beside each other in every 32 bits, for vpmaddwd on interleaved operands. */
PQ_INLINE __m256i pq_pair(int16_t even, int16_t odd) {
    return _mm256_set1_epi32((int32_t)((uint32_t)(uint16_t)odd << 16 | (uint16_t)even));
}

/* a, b: T >> 16 without C.high, of the elements that vpunpcklwd and vpunpckhwd give; vpackssdw puts
 * them in order again. */
PQ_INLINE void pq_rescale_store(const pq_rescale_lanes *lanes, __m256i a, __m256i b,
                                pq_dtype y_type, void *y, size_t i) {
    a = _mm256_sra_epi32(_mm256_add_epi32(a, lanes->constant_high), lanes->shift);
    b = _mm256_sra_epi32(_mm256_add_epi32(b, lanes->constant_high), lanes->shift);
    __m256i v = _mm256_packs_epi32(a, b);
    if (y_type == PQ_S8) {
        v = _mm256_adds_epi16(v, lanes->addend);
        const __m128i v_s8 =
            _mm_packs_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        _mm_storeu_si128((__m128i *)(void *)((int8_t *)y + i),
                         _mm_min_epi8(_mm_max_epi8(v_s8, lanes->low_s8), lanes->high_s8));
    } else {
        v = _mm256_min_epi16(_mm256_max_epi16(v, lanes->low), lanes->high);
        _mm256_storeu_si256((__m256i *)(void *)((int16_t *)y + i), v);
    }
}

#endif
