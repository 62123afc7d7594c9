/* 32 elements at a time for requantize and add, as rescale_avx2.h does 16; the last ones under a
 * mask. */
#ifndef PYQUANT_ELEMENTWISE_RESCALE_AVX512_H
#define PYQUANT_ELEMENTWISE_RESCALE_AVX512_H

#include "core/simd_avx512.h"
#include "elementwise/rescale.h"

#define PQ_INLINE static inline __attribute__((always_inline))

typedef struct pq_rescale_lanes {
    __m512i constant_high, addend; /* s32, s16 */
    __m128i shift;
    __m512i low, high;       /* of s16 outputs */
    __m256i low_s8, high_s8; /* of s8 outputs */
} pq_rescale_lanes;

PQ_INLINE pq_rescale_lanes pq_rescale_spread(const pq_rescale *rescale, pq_clamp out) {
    return (pq_rescale_lanes){
        .constant_high = _mm512_set1_epi32(rescale->constant_high),
        .addend = _mm512_set1_epi16(rescale->lane_addend),
        .shift = _mm_cvtsi32_si128(rescale->shift),
        .low = _mm512_set1_epi16((int16_t)out.quant_min),
        .high = _mm512_set1_epi16((int16_t)out.quant_max),
        .low_s8 = _mm256_set1_epi8((int8_t)out.quant_min),
        .high_s8 = _mm256_set1_epi8((int8_t)out.quant_max),
    };
}

/* The elements of a vector from i on that lie before n. */
PQ_INLINE __mmask32 pq_mask_32(size_t i, size_t n) {
    return n - i >= 32 ? UINT32_MAX : (UINT32_C(1) << (n - i)) - 1;
}

/* Elements i .. i + 31 as s16, without the zero point of an s8. */
PQ_INLINE __m512i pq_load_32(pq_dtype type, const void *x, size_t i, __mmask32 mask,
                             __m512i zero_point) {
    if (type == PQ_S8) {
        const __m256i v = _mm256_maskz_loadu_epi8(mask, (const int8_t *)x + i);
        return _mm512_sub_epi16(_mm512_cvtepi8_epi16(v), zero_point);
    }
    return _mm512_maskz_loadu_epi16(mask, (const int16_t *)x + i);
}

/* Two numbers beside each other in every 32 bits, for vpmaddwd on interleaved operands. */
PQ_INLINE __m512i pq_pair(int16_t even, int16_t odd) {
    return _mm512_set1_epi32((int32_t)((uint32_t)(uint16_t)odd << 16 | (uint16_t)even));
}

/* a, b: T >> 16 without C.high, of the elements that vpunpcklwd and vpunpckhwd give; vpackssdw puts
 * them in order again. */
PQ_INLINE void pq_rescale_store(const pq_rescale_lanes *lanes, __m512i a, __m512i b,
                                pq_dtype y_type, void *y, size_t i, __mmask32 mask) {
    a = _mm512_sra_epi32(_mm512_add_epi32(a, lanes->constant_high), lanes->shift);
    b = _mm512_sra_epi32(_mm512_add_epi32(b, lanes->constant_high), lanes->shift);
    __m512i v = _mm512_packs_epi32(a, b);
    if (y_type == PQ_S8) {
        const __m256i v_s8 = _mm512_cvtsepi16_epi8(_mm512_adds_epi16(v, lanes->addend));
        _mm256_mask_storeu_epi8(
            (int8_t *)y + i, mask,
            _mm256_min_epi8(_mm256_max_epi8(v_s8, lanes->low_s8), lanes->high_s8));
    } else {
        v = _mm512_min_epi16(_mm512_max_epi16(v, lanes->low), lanes->high);
        _mm512_mask_storeu_epi16((int16_t *)y + i, mask, v);
    }
}

#endif
