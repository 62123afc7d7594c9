/* AVX-512 intrinsics that SIMDe 0.7.4 lacks, in plain C: included by simd_avx512.h in the emulated
 * test build and nowhere else. Slow on purpose; tests/test_simd_*avx512*.c holds each to a model of
 * its own, and on a CPU with AVX-512 holds the model to the instruction.
 *
 * An entry renames the intrinsic (the compiler's immintrin.h declares the real one, which cannot be
 * called without AVX-512) and defines it in one line, by a macro of simd_lanes.h.
 */
#ifndef PYQUANT_CORE_SIMD_AVX512_MISSING_H
#define PYQUANT_CORE_SIMD_AVX512_MISSING_H

#include "core/simd_lanes.h"

/* Some of these are macros in clang's headers. */
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wmacro-redefined"
#endif

/* SIMDe gives it the arguments of the masked form. */
#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)

static inline uint8_t pq_align(const uint8_t *high, const uint8_t *low, int at) {
    return at < 16 ? low[at] : at < 32 ? high[at - 16] : 0;
}

/* `value` to a multiple of 2^-(how >> 4), rounded as the two lowest bits of how say. */
static inline double pq_round(double value, int how) {
    const double scaled = ldexp(value, how >> 4);
    const double rounded = (how & 3) == _MM_FROUND_TO_NEAREST_INT ? rint(scaled)
                           : (how & 3) == _MM_FROUND_TO_NEG_INF   ? floor(scaled)
                           : (how & 3) == _MM_FROUND_TO_POS_INF   ? ceil(scaled)
                                                                  : trunc(scaled);
    return ldexp(rounded, -(how >> 4));
}

/* Loads and stores under a mask: what is masked out is neither read nor written. */

#define _mm512_maskz_loadu_epi8 pq_mm512_maskz_loadu_epi8
PQ_LOAD_Z(__m512i, u8, _mm512_maskz_loadu_epi8, __mmask64)
#define _mm512_mask_loadu_epi8 pq_mm512_mask_loadu_epi8
PQ_LOAD_M(__m512i, u8, _mm512_mask_loadu_epi8, __mmask64)
#define _mm512_mask_storeu_epi8 pq_mm512_mask_storeu_epi8
PQ_STORE_M(__m512i, u8, _mm512_mask_storeu_epi8, __mmask64)
#define _mm256_maskz_loadu_epi8 pq_mm256_maskz_loadu_epi8
PQ_LOAD_Z(__m256i, u8, _mm256_maskz_loadu_epi8, __mmask32)
#define _mm256_mask_loadu_epi8 pq_mm256_mask_loadu_epi8
PQ_LOAD_M(__m256i, u8, _mm256_mask_loadu_epi8, __mmask32)
#define _mm256_mask_storeu_epi8 pq_mm256_mask_storeu_epi8
PQ_STORE_M(__m256i, u8, _mm256_mask_storeu_epi8, __mmask32)
#define _mm_maskz_loadu_epi8 pq_mm_maskz_loadu_epi8
PQ_LOAD_Z(__m128i, u8, _mm_maskz_loadu_epi8, __mmask16)
#define _mm_mask_loadu_epi8 pq_mm_mask_loadu_epi8
PQ_LOAD_M(__m128i, u8, _mm_mask_loadu_epi8, __mmask16)
#define _mm_mask_storeu_epi8 pq_mm_mask_storeu_epi8
PQ_STORE_M(__m128i, u8, _mm_mask_storeu_epi8, __mmask16)
#define _mm512_maskz_loadu_epi16 pq_mm512_maskz_loadu_epi16
PQ_LOAD_Z(__m512i, u16, _mm512_maskz_loadu_epi16, __mmask32)
#define _mm512_mask_loadu_epi16 pq_mm512_mask_loadu_epi16
PQ_LOAD_M(__m512i, u16, _mm512_mask_loadu_epi16, __mmask32)
#define _mm512_mask_storeu_epi16 pq_mm512_mask_storeu_epi16
PQ_STORE_M(__m512i, u16, _mm512_mask_storeu_epi16, __mmask32)
#define _mm256_maskz_loadu_epi16 pq_mm256_maskz_loadu_epi16
PQ_LOAD_Z(__m256i, u16, _mm256_maskz_loadu_epi16, __mmask16)
#define _mm256_mask_loadu_epi16 pq_mm256_mask_loadu_epi16
PQ_LOAD_M(__m256i, u16, _mm256_mask_loadu_epi16, __mmask16)
#define _mm256_mask_storeu_epi16 pq_mm256_mask_storeu_epi16
PQ_STORE_M(__m256i, u16, _mm256_mask_storeu_epi16, __mmask16)
#define _mm_maskz_loadu_epi16 pq_mm_maskz_loadu_epi16
PQ_LOAD_Z(__m128i, u16, _mm_maskz_loadu_epi16, __mmask8)
#define _mm_mask_loadu_epi16 pq_mm_mask_loadu_epi16
PQ_LOAD_M(__m128i, u16, _mm_mask_loadu_epi16, __mmask8)
#define _mm_mask_storeu_epi16 pq_mm_mask_storeu_epi16
PQ_STORE_M(__m128i, u16, _mm_mask_storeu_epi16, __mmask8)
#define _mm512_maskz_loadu_epi32 pq_mm512_maskz_loadu_epi32
PQ_LOAD_Z(__m512i, u32, _mm512_maskz_loadu_epi32, __mmask16)
#define _mm512_mask_loadu_epi32 pq_mm512_mask_loadu_epi32
PQ_LOAD_M(__m512i, u32, _mm512_mask_loadu_epi32, __mmask16)
#define _mm512_mask_storeu_epi32 pq_mm512_mask_storeu_epi32
PQ_STORE_M(__m512i, u32, _mm512_mask_storeu_epi32, __mmask16)
#define _mm256_maskz_loadu_epi32 pq_mm256_maskz_loadu_epi32
PQ_LOAD_Z(__m256i, u32, _mm256_maskz_loadu_epi32, __mmask8)
#define _mm256_mask_loadu_epi32 pq_mm256_mask_loadu_epi32
PQ_LOAD_M(__m256i, u32, _mm256_mask_loadu_epi32, __mmask8)
#define _mm256_mask_storeu_epi32 pq_mm256_mask_storeu_epi32
PQ_STORE_M(__m256i, u32, _mm256_mask_storeu_epi32, __mmask8)
#define _mm_maskz_loadu_epi32 pq_mm_maskz_loadu_epi32
PQ_LOAD_Z(__m128i, u32, _mm_maskz_loadu_epi32, __mmask8)
#define _mm_mask_loadu_epi32 pq_mm_mask_loadu_epi32
PQ_LOAD_M(__m128i, u32, _mm_mask_loadu_epi32, __mmask8)
#define _mm_mask_storeu_epi32 pq_mm_mask_storeu_epi32
PQ_STORE_M(__m128i, u32, _mm_mask_storeu_epi32, __mmask8)
#define _mm512_maskz_loadu_epi64 pq_mm512_maskz_loadu_epi64
PQ_LOAD_Z(__m512i, u64, _mm512_maskz_loadu_epi64, __mmask8)
#define _mm512_mask_loadu_epi64 pq_mm512_mask_loadu_epi64
PQ_LOAD_M(__m512i, u64, _mm512_mask_loadu_epi64, __mmask8)
#define _mm512_mask_storeu_epi64 pq_mm512_mask_storeu_epi64
PQ_STORE_M(__m512i, u64, _mm512_mask_storeu_epi64, __mmask8)
#define _mm256_maskz_loadu_epi64 pq_mm256_maskz_loadu_epi64
PQ_LOAD_Z(__m256i, u64, _mm256_maskz_loadu_epi64, __mmask8)
#define _mm256_mask_loadu_epi64 pq_mm256_mask_loadu_epi64
PQ_LOAD_M(__m256i, u64, _mm256_mask_loadu_epi64, __mmask8)
#define _mm256_mask_storeu_epi64 pq_mm256_mask_storeu_epi64
PQ_STORE_M(__m256i, u64, _mm256_mask_storeu_epi64, __mmask8)
#define _mm_maskz_loadu_epi64 pq_mm_maskz_loadu_epi64
PQ_LOAD_Z(__m128i, u64, _mm_maskz_loadu_epi64, __mmask8)
#define _mm_mask_loadu_epi64 pq_mm_mask_loadu_epi64
PQ_LOAD_M(__m128i, u64, _mm_mask_loadu_epi64, __mmask8)
#define _mm_mask_storeu_epi64 pq_mm_mask_storeu_epi64
PQ_STORE_M(__m128i, u64, _mm_mask_storeu_epi64, __mmask8)
#define _mm512_maskz_loadu_ps pq_mm512_maskz_loadu_ps
PQ_LOAD_Z(__m512, u32, _mm512_maskz_loadu_ps, __mmask16)
#define _mm512_mask_loadu_ps pq_mm512_mask_loadu_ps
PQ_LOAD_M(__m512, u32, _mm512_mask_loadu_ps, __mmask16)
#define _mm512_mask_storeu_ps pq_mm512_mask_storeu_ps
PQ_STORE_M(__m512, u32, _mm512_mask_storeu_ps, __mmask16)
#define _mm512_maskz_loadu_pd pq_mm512_maskz_loadu_pd
PQ_LOAD_Z(__m512d, u64, _mm512_maskz_loadu_pd, __mmask8)
#define _mm512_mask_loadu_pd pq_mm512_mask_loadu_pd
PQ_LOAD_M(__m512d, u64, _mm512_mask_loadu_pd, __mmask8)
#define _mm512_mask_storeu_pd pq_mm512_mask_storeu_pd
PQ_STORE_M(__m512d, u64, _mm512_mask_storeu_pd, __mmask8)

/* Widening. */

#define _mm512_cvtepi8_epi32 pq_mm512_cvtepi8_epi32
PQ_MAP1(__m512i, s32, _mm512_cvtepi8_epi32, __m128i, x.s8[i])
#define _mm512_cvtepi8_epi64 pq_mm512_cvtepi8_epi64
PQ_MAP1(__m512i, s64, _mm512_cvtepi8_epi64, __m128i, x.s8[i])
#define _mm512_cvtepi16_epi32 pq_mm512_cvtepi16_epi32
PQ_MAP1(__m512i, s32, _mm512_cvtepi16_epi32, __m256i, x.s16[i])
#define _mm512_cvtepi16_epi64 pq_mm512_cvtepi16_epi64
PQ_MAP1(__m512i, s64, _mm512_cvtepi16_epi64, __m128i, x.s16[i])
#define _mm512_cvtepi32_epi64 pq_mm512_cvtepi32_epi64
PQ_MAP1(__m512i, s64, _mm512_cvtepi32_epi64, __m256i, x.s32[i])
#define _mm512_cvtepu8_epi16 pq_mm512_cvtepu8_epi16
PQ_MAP1(__m512i, u16, _mm512_cvtepu8_epi16, __m256i, x.u8[i])
#define _mm512_cvtepu8_epi32 pq_mm512_cvtepu8_epi32
PQ_MAP1(__m512i, u32, _mm512_cvtepu8_epi32, __m128i, x.u8[i])
#define _mm512_cvtepu16_epi32 pq_mm512_cvtepu16_epi32
PQ_MAP1(__m512i, u32, _mm512_cvtepu16_epi32, __m256i, x.u16[i])
#define _mm512_cvtepu32_epi64 pq_mm512_cvtepu32_epi64
PQ_MAP1(__m512i, u64, _mm512_cvtepu32_epi64, __m256i, x.u32[i])

/* Narrowing: epi wraps, sepi saturates, usepi saturates what it takes to be unsigned. The halves of
 * a result that have no source are zero. */

#define _mm512_cvtepi32_epi16 pq_mm512_cvtepi32_epi16
PQ_MAP1(__m256i, u16, _mm512_cvtepi32_epi16, __m512i, (uint16_t)x.u32[i])
#define _mm512_cvtepi32_epi8 pq_mm512_cvtepi32_epi8
PQ_MAP1(__m128i, u8, _mm512_cvtepi32_epi8, __m512i, (uint8_t)x.u32[i])
#define _mm512_cvtepi64_epi16 pq_mm512_cvtepi64_epi16
PQ_MAP1(__m128i, u16, _mm512_cvtepi64_epi16, __m512i, (uint16_t)x.u64[i])
#define _mm512_cvtepi64_epi8 pq_mm512_cvtepi64_epi8
PQ_MAP1(__m128i, u8, _mm512_cvtepi64_epi8, __m512i, i < 8 ? (uint8_t)x.u64[i] : 0)
#define _mm512_cvtusepi16_epi8 pq_mm512_cvtusepi16_epi8
PQ_MAP1(__m256i, u8, _mm512_cvtusepi16_epi8, __m512i,
        (uint8_t)(x.u16[i] < UINT8_MAX ? x.u16[i] : UINT8_MAX))
#define _mm512_cvtusepi32_epi8 pq_mm512_cvtusepi32_epi8
PQ_MAP1(__m128i, u8, _mm512_cvtusepi32_epi8, __m512i,
        (uint8_t)(x.u32[i] < UINT8_MAX ? x.u32[i] : UINT8_MAX))
#define _mm512_cvtusepi32_epi16 pq_mm512_cvtusepi32_epi16
PQ_MAP1(__m256i, u16, _mm512_cvtusepi32_epi16, __m512i,
        (uint16_t)(x.u32[i] < UINT16_MAX ? x.u32[i] : UINT16_MAX))
#define _mm256_cvtepi16_epi8 pq_mm256_cvtepi16_epi8
PQ_MAP1(__m128i, u8, _mm256_cvtepi16_epi8, __m256i, (uint8_t)x.u16[i])
#define _mm256_cvtepi32_epi8 pq_mm256_cvtepi32_epi8
PQ_MAP1(__m128i, u8, _mm256_cvtepi32_epi8, __m256i, (uint8_t)x.u32[i])
#define _mm256_cvtepi32_epi16 pq_mm256_cvtepi32_epi16
PQ_MAP1(__m128i, u16, _mm256_cvtepi32_epi16, __m256i, (uint16_t)x.u32[i])
#define _mm256_cvtepi64_epi32 pq_mm256_cvtepi64_epi32
PQ_MAP1(__m128i, u32, _mm256_cvtepi64_epi32, __m256i, (uint32_t)x.u64[i])
#define _mm256_cvtsepi64_epi32 pq_mm256_cvtsepi64_epi32
PQ_MAP1(__m128i, s32, _mm256_cvtsepi64_epi32, __m256i, pq_saturate(x.s64[i], INT32_MIN, INT32_MAX))
#define _mm512_mask_cvtepi32_storeu_epi8 pq_mm512_mask_cvtepi32_storeu_epi8
PQ_STORE_NARROW(__m512i, u8, _mm512_mask_cvtepi32_storeu_epi8, __mmask16, (uint8_t)x.u32[i])
#define _mm512_mask_cvtepi32_storeu_epi16 pq_mm512_mask_cvtepi32_storeu_epi16
PQ_STORE_NARROW(__m512i, u16, _mm512_mask_cvtepi32_storeu_epi16, __mmask16, (uint16_t)x.u32[i])
#define _mm512_mask_cvtepi16_storeu_epi8 pq_mm512_mask_cvtepi16_storeu_epi8
PQ_STORE_NARROW(__m512i, u8, _mm512_mask_cvtepi16_storeu_epi8, __mmask32, (uint8_t)x.u16[i])
#define _mm512_mask_cvtepi64_storeu_epi32 pq_mm512_mask_cvtepi64_storeu_epi32
PQ_STORE_NARROW(__m512i, u32, _mm512_mask_cvtepi64_storeu_epi32, __mmask8, (uint32_t)x.u64[i])
#define _mm512_mask_cvtsepi32_storeu_epi8 pq_mm512_mask_cvtsepi32_storeu_epi8
PQ_STORE_NARROW(__m512i, s8, _mm512_mask_cvtsepi32_storeu_epi8, __mmask16,
                (int8_t)pq_saturate(x.s32[i], INT8_MIN, INT8_MAX))
#define _mm512_mask_cvtsepi32_storeu_epi16 pq_mm512_mask_cvtsepi32_storeu_epi16
PQ_STORE_NARROW(__m512i, s16, _mm512_mask_cvtsepi32_storeu_epi16, __mmask16,
                (int16_t)pq_saturate(x.s32[i], INT16_MIN, INT16_MAX))
#define _mm512_mask_cvtsepi16_storeu_epi8 pq_mm512_mask_cvtsepi16_storeu_epi8
PQ_STORE_NARROW(__m512i, s8, _mm512_mask_cvtsepi16_storeu_epi8, __mmask32,
                (int8_t)pq_saturate(x.s16[i], INT8_MIN, INT8_MAX))

/* Shifts. A count beyond the width leaves the sign. */

#define _mm512_srai_epi32 pq_mm512_srai_epi32
PQ_MAP2(__m512i, s32, _mm512_srai_epi32, __m512i, unsigned, x.s32[i] >> pq_least(y.u32[0], 31))
#define _mm512_sra_epi32 pq_mm512_sra_epi32
PQ_MAP2(__m512i, s32, _mm512_sra_epi32, __m512i, __m128i, x.s32[i] >> pq_least(y.u64[0], 31))
#define _mm512_srav_epi32 pq_mm512_srav_epi32
PQ_MAP2(__m512i, s32, _mm512_srav_epi32, __m512i, __m512i, x.s32[i] >> pq_least(y.u32[i], 31))
#define _mm512_srai_epi64 pq_mm512_srai_epi64
PQ_MAP2(__m512i, s64, _mm512_srai_epi64, __m512i, unsigned, x.s64[i] >> pq_least(y.u32[0], 63))
#define _mm512_sra_epi64 pq_mm512_sra_epi64
PQ_MAP2(__m512i, s64, _mm512_sra_epi64, __m512i, __m128i, x.s64[i] >> pq_least(y.u64[0], 63))
#define _mm512_srav_epi64 pq_mm512_srav_epi64
PQ_MAP2(__m512i, s64, _mm512_srav_epi64, __m512i, __m512i, x.s64[i] >> pq_least(y.u64[i], 63))
#define _mm256_srai_epi64 pq_mm256_srai_epi64
PQ_MAP2(__m256i, s64, _mm256_srai_epi64, __m256i, unsigned, x.s64[i] >> pq_least(y.u32[0], 63))
#define _mm256_sra_epi64 pq_mm256_sra_epi64
PQ_MAP2(__m256i, s64, _mm256_sra_epi64, __m256i, __m128i, x.s64[i] >> pq_least(y.u64[0], 63))
#define _mm256_srav_epi64 pq_mm256_srav_epi64
PQ_MAP2(__m256i, s64, _mm256_srav_epi64, __m256i, __m256i, x.s64[i] >> pq_least(y.u64[i], 63))
#define _mm512_bslli_epi128 pq_mm512_bslli_epi128
PQ_MAP2(__m512i, u8, _mm512_bslli_epi128, __m512i, int, i % 16 < y.s32[0] ? 0 : x.u8[i - y.s32[0]])
#define _mm512_bsrli_epi128 pq_mm512_bsrli_epi128
PQ_MAP2(__m512i, u8, _mm512_bsrli_epi128, __m512i, int,
        i % 16 + y.s32[0] > 15 ? 0 : x.u8[i + y.s32[0]])
#define _mm512_mask_slli_epi64 pq_mm512_mask_slli_epi64
PQ_MASKED_SHIFT(_mm512_mask_slli_epi64, _mm512_slli_epi64, 64, 8, unsigned)
#define _mm512_mask_srli_epi64 pq_mm512_mask_srli_epi64
PQ_MASKED_SHIFT(_mm512_mask_srli_epi64, _mm512_srli_epi64, 64, 8, unsigned)
#define _mm512_mask_srai_epi32 pq_mm512_mask_srai_epi32
PQ_MASKED_SHIFT(_mm512_mask_srai_epi32, _mm512_srai_epi32, 32, 16, unsigned)
#define _mm512_mask_srlv_epi64 pq_mm512_mask_srlv_epi64
PQ_MASKED_SHIFT(_mm512_mask_srlv_epi64, _mm512_srlv_epi64, 64, 8, __m512i)

/* Arithmetic. */

#define _mm512_mulhi_epu16 pq_mm512_mulhi_epu16
PQ_MAP2(__m512i, u16, _mm512_mulhi_epu16, __m512i, __m512i,
        (uint16_t)(((uint32_t)x.u16[i] * y.u16[i]) >> 16))
#define _mm256_min_epi64 pq_mm256_min_epi64
PQ_MAP2(__m256i, s64, _mm256_min_epi64, __m256i, __m256i, x.s64[i] < y.s64[i] ? x.s64[i] : y.s64[i])
#define _mm256_max_epi64 pq_mm256_max_epi64
PQ_MAP2(__m256i, s64, _mm256_max_epi64, __m256i, __m256i, x.s64[i] > y.s64[i] ? x.s64[i] : y.s64[i])

/* Moves within and between 128-bit parts. */

#define _mm512_alignr_epi8 pq_mm512_alignr_epi8
PQ_MAP3(__m512i, u8, _mm512_alignr_epi8, __m512i, __m512i, int,
        pq_align(x.u8 + i / 16 * 16, y.u8 + i / 16 * 16, i % 16 + z.s32[0]))
#define _mm512_alignr_epi32 pq_mm512_alignr_epi32
PQ_MAP3(__m512i, u32, _mm512_alignr_epi32, __m512i, __m512i, int,
        i + z.s32[0] < 16 ? y.u32[i + z.s32[0]] : x.u32[i + z.s32[0] - 16])
#define _mm512_alignr_epi64 pq_mm512_alignr_epi64
PQ_MAP3(__m512i, u64, _mm512_alignr_epi64, __m512i, __m512i, int,
        i + z.s32[0] < 8 ? y.u64[i + z.s32[0]] : x.u64[i + z.s32[0] - 8])
#define _mm512_permutex_epi64 pq_mm512_permutex_epi64
PQ_MAP2(__m512i, u64, _mm512_permutex_epi64, __m512i, int,
        x.u64[i / 4 * 4 + (y.s32[0] >> i % 4 * 2 & 3)])
#define _mm512_shuffle_epi32 pq_mm512_shuffle_epi32
PQ_MAP2(__m512i, u32, _mm512_shuffle_epi32, __m512i, _MM_PERM_ENUM,
        x.u32[i / 4 * 4 + (y.s32[0] >> i % 4 * 2 & 3)])
#define _mm512_shufflelo_epi16 pq_mm512_shufflelo_epi16
PQ_MAP2(__m512i, u16, _mm512_shufflelo_epi16, __m512i, int,
        i % 8 < 4 ? x.u16[i / 8 * 8 + (y.s32[0] >> i % 4 * 2 & 3)] : x.u16[i])
#define _mm512_shufflehi_epi16 pq_mm512_shufflehi_epi16
PQ_MAP2(__m512i, u16, _mm512_shufflehi_epi16, __m512i, int,
        i % 8 > 3 ? x.u16[i / 8 * 8 + 4 + (y.s32[0] >> i % 4 * 2 & 3)] : x.u16[i])
#define _mm512_shuffle_i64x2 pq_mm512_shuffle_i64x2
PQ_MAP3(__m512i, u64, _mm512_shuffle_i64x2, __m512i, __m512i, int,
        (i < 4 ? x : y).u64[(z.s32[0] >> i / 2 * 2 & 3) * 2 + i % 2])
#define _mm512_broadcast_i32x2 pq_mm512_broadcast_i32x2
PQ_MAP1(__m512i, u64, _mm512_broadcast_i32x2, __m128i, x.u64[i * 0])
#define _mm512_broadcast_i64x2 pq_mm512_broadcast_i64x2
PQ_MAP1(__m512i, u64, _mm512_broadcast_i64x2, __m128i, x.u64[i % 2])
#define _mm512_broadcast_i32x8 pq_mm512_broadcast_i32x8
PQ_MAP1(__m512i, u32, _mm512_broadcast_i32x8, __m256i, x.u32[i % 8])
#define _mm512_extracti32x8_epi32 pq_mm512_extracti32x8_epi32
PQ_MAP2(__m256i, u32, _mm512_extracti32x8_epi32, __m512i, int, x.u32[i + 8 * y.s32[0]])
#define _mm512_extracti64x2_epi64 pq_mm512_extracti64x2_epi64
PQ_MAP2(__m128i, u64, _mm512_extracti64x2_epi64, __m512i, int, x.u64[i + 2 * y.s32[0]])
#define _mm512_extractf32x8_ps pq_mm512_extractf32x8_ps
PQ_MAP2(__m256, u32, _mm512_extractf32x8_ps, __m512, int, x.u32[i + 8 * y.s32[0]])
#define _mm512_zextsi128_si512 pq_mm512_zextsi128_si512
PQ_MAP1(__m512i, u64, _mm512_zextsi128_si512, __m128i, x.u64[i])
#define _mm512_zextsi256_si512 pq_mm512_zextsi256_si512
PQ_MAP1(__m512i, u64, _mm512_zextsi256_si512, __m256i, x.u64[i])
#define _mm512_cvtsi512_si32 pq_mm512_cvtsi512_si32
PQ_MAP1(int, s32, _mm512_cvtsi512_si32, __m512i, x.s32[i])
#define _mm512_cvtss_f32 pq_mm512_cvtss_f32
PQ_MAP1(float, f32, _mm512_cvtss_f32, __m512, x.f32[i])

/* Comparisons of integers; `op` is one of _MM_CMPINT_*. */

#define _mm512_cmp_epi8_mask pq_mm512_cmp_epi8_mask
PQ_COMPARE(__mmask64, s, 8, _mm512_cmp_epi8_mask, __m512i)
#define _mm512_cmpneq_epi8_mask(a, b) _mm512_cmp_epi8_mask(a, b, _MM_CMPINT_NE)
#define _mm512_cmp_epi16_mask pq_mm512_cmp_epi16_mask
PQ_COMPARE(__mmask32, s, 16, _mm512_cmp_epi16_mask, __m512i)
#define _mm512_cmpeq_epi16_mask(a, b) _mm512_cmp_epi16_mask(a, b, _MM_CMPINT_EQ)
#define _mm512_cmplt_epi16_mask(a, b) _mm512_cmp_epi16_mask(a, b, _MM_CMPINT_LT)
#define _mm512_cmpneq_epi16_mask(a, b) _mm512_cmp_epi16_mask(a, b, _MM_CMPINT_NE)
#define _mm512_cmpgt_epi16_mask(a, b) _mm512_cmp_epi16_mask(a, b, _MM_CMPINT_NLE)
#define _mm512_cmp_epi32_mask pq_mm512_cmp_epi32_mask
PQ_COMPARE(__mmask16, s, 32, _mm512_cmp_epi32_mask, __m512i)
#define _mm512_cmplt_epi32_mask(a, b) _mm512_cmp_epi32_mask(a, b, _MM_CMPINT_LT)
#define _mm512_cmpneq_epi32_mask(a, b) _mm512_cmp_epi32_mask(a, b, _MM_CMPINT_NE)
#define _mm512_cmp_epi64_mask pq_mm512_cmp_epi64_mask
PQ_COMPARE(__mmask8, s, 64, _mm512_cmp_epi64_mask, __m512i)
#define _mm512_cmplt_epi64_mask(a, b) _mm512_cmp_epi64_mask(a, b, _MM_CMPINT_LT)
#define _mm512_cmpneq_epi64_mask(a, b) _mm512_cmp_epi64_mask(a, b, _MM_CMPINT_NE)
#define _mm512_cmp_epu8_mask pq_mm512_cmp_epu8_mask
PQ_COMPARE(__mmask64, u, 8, _mm512_cmp_epu8_mask, __m512i)
#define _mm512_cmpeq_epu8_mask(a, b) _mm512_cmp_epu8_mask(a, b, _MM_CMPINT_EQ)
#define _mm512_cmpneq_epu8_mask(a, b) _mm512_cmp_epu8_mask(a, b, _MM_CMPINT_NE)
#define _mm512_cmp_epu16_mask pq_mm512_cmp_epu16_mask
PQ_COMPARE(__mmask32, u, 16, _mm512_cmp_epu16_mask, __m512i)
#define _mm512_cmpeq_epu16_mask(a, b) _mm512_cmp_epu16_mask(a, b, _MM_CMPINT_EQ)
#define _mm512_cmplt_epu16_mask(a, b) _mm512_cmp_epu16_mask(a, b, _MM_CMPINT_LT)
#define _mm512_cmpneq_epu16_mask(a, b) _mm512_cmp_epu16_mask(a, b, _MM_CMPINT_NE)
#define _mm512_cmpgt_epu16_mask(a, b) _mm512_cmp_epu16_mask(a, b, _MM_CMPINT_NLE)
#define _mm512_cmp_epu32_mask pq_mm512_cmp_epu32_mask
PQ_COMPARE(__mmask16, u, 32, _mm512_cmp_epu32_mask, __m512i)
#define _mm512_cmpeq_epu32_mask(a, b) _mm512_cmp_epu32_mask(a, b, _MM_CMPINT_EQ)
#define _mm512_cmplt_epu32_mask(a, b) _mm512_cmp_epu32_mask(a, b, _MM_CMPINT_LT)
#define _mm512_cmpneq_epu32_mask(a, b) _mm512_cmp_epu32_mask(a, b, _MM_CMPINT_NE)
#define _mm512_cmpgt_epu32_mask(a, b) _mm512_cmp_epu32_mask(a, b, _MM_CMPINT_NLE)
#define _mm256_cmp_epi8_mask pq_mm256_cmp_epi8_mask
PQ_COMPARE(__mmask32, s, 8, _mm256_cmp_epi8_mask, __m256i)
#define _mm256_cmpeq_epi8_mask(a, b) _mm256_cmp_epi8_mask(a, b, _MM_CMPINT_EQ)
#define _mm256_cmplt_epi8_mask(a, b) _mm256_cmp_epi8_mask(a, b, _MM_CMPINT_LT)
#define _mm256_cmpgt_epi8_mask(a, b) _mm256_cmp_epi8_mask(a, b, _MM_CMPINT_NLE)
#define _mm256_cmp_epi16_mask pq_mm256_cmp_epi16_mask
PQ_COMPARE(__mmask16, s, 16, _mm256_cmp_epi16_mask, __m256i)
#define _mm256_cmpeq_epi16_mask(a, b) _mm256_cmp_epi16_mask(a, b, _MM_CMPINT_EQ)
#define _mm256_cmplt_epi16_mask(a, b) _mm256_cmp_epi16_mask(a, b, _MM_CMPINT_LT)
#define _mm256_cmpgt_epi16_mask(a, b) _mm256_cmp_epi16_mask(a, b, _MM_CMPINT_NLE)
#define _mm256_cmp_epi32_mask pq_mm256_cmp_epi32_mask
PQ_COMPARE(__mmask8, s, 32, _mm256_cmp_epi32_mask, __m256i)
#define _mm256_cmpeq_epi32_mask(a, b) _mm256_cmp_epi32_mask(a, b, _MM_CMPINT_EQ)
#define _mm256_cmplt_epi32_mask(a, b) _mm256_cmp_epi32_mask(a, b, _MM_CMPINT_LT)
#define _mm256_cmpgt_epi32_mask(a, b) _mm256_cmp_epi32_mask(a, b, _MM_CMPINT_NLE)
#define _mm_cmp_epi8_mask pq_mm_cmp_epi8_mask
PQ_COMPARE(__mmask16, s, 8, _mm_cmp_epi8_mask, __m128i)
#define _mm_cmpeq_epi8_mask(a, b) _mm_cmp_epi8_mask(a, b, _MM_CMPINT_EQ)
#define _mm_cmplt_epi8_mask(a, b) _mm_cmp_epi8_mask(a, b, _MM_CMPINT_LT)
#define _mm_cmpgt_epi8_mask(a, b) _mm_cmp_epi8_mask(a, b, _MM_CMPINT_NLE)
#define _mm_cmp_epi16_mask pq_mm_cmp_epi16_mask
PQ_COMPARE(__mmask8, s, 16, _mm_cmp_epi16_mask, __m128i)
#define _mm_cmpeq_epi16_mask(a, b) _mm_cmp_epi16_mask(a, b, _MM_CMPINT_EQ)
#define _mm_cmplt_epi16_mask(a, b) _mm_cmp_epi16_mask(a, b, _MM_CMPINT_LT)
#define _mm_cmpgt_epi16_mask(a, b) _mm_cmp_epi16_mask(a, b, _MM_CMPINT_NLE)
#define _mm_cmp_epi32_mask pq_mm_cmp_epi32_mask
PQ_COMPARE(__mmask8, s, 32, _mm_cmp_epi32_mask, __m128i)
#define _mm_cmpeq_epi32_mask(a, b) _mm_cmp_epi32_mask(a, b, _MM_CMPINT_EQ)
#define _mm_cmplt_epi32_mask(a, b) _mm_cmp_epi32_mask(a, b, _MM_CMPINT_LT)
#define _mm_cmpgt_epi32_mask(a, b) _mm_cmp_epi32_mask(a, b, _MM_CMPINT_NLE)
#define _mm512_testn_epi8_mask pq_mm512_testn_epi8_mask
PQ_MASK(__mmask64, u8, _mm512_testn_epi8_mask, __m512i, (x.u8[i] & y.u8[i]) == 0)
#define _mm512_testn_epi32_mask pq_mm512_testn_epi32_mask
PQ_MASK(__mmask16, u32, _mm512_testn_epi32_mask, __m512i, (x.u32[i] & y.u32[i]) == 0)
#define _mm_test_epi8_mask pq_mm_test_epi8_mask
PQ_MASK(__mmask16, u8, _mm_test_epi8_mask, __m128i, (x.u8[i] & y.u8[i]) != 0)
#define _mm512_mask_cmp_ps_mask(k, a, b, op) ((__mmask16)((k)&_mm512_cmp_ps_mask(a, b, op)))

/* Reductions. In halves, as the order matters where lanes are floats. */

#define _mm512_reduce_add_epi32 pq_mm512_reduce_add_epi32
PQ_REDUCE(int32_t, u32, _mm512_reduce_add_epi32, __m512i, a + b)
#define _mm512_reduce_max_epi32 pq_mm512_reduce_max_epi32
PQ_REDUCE(int32_t, s32, _mm512_reduce_max_epi32, __m512i, a > b ? a : b)
#define _mm512_reduce_min_epi32 pq_mm512_reduce_min_epi32
PQ_REDUCE(int32_t, s32, _mm512_reduce_min_epi32, __m512i, a < b ? a : b)
#define _mm512_reduce_add_epi64 pq_mm512_reduce_add_epi64
PQ_REDUCE(int64_t, u64, _mm512_reduce_add_epi64, __m512i, a + b)
#define _mm512_reduce_max_epi64 pq_mm512_reduce_max_epi64
PQ_REDUCE(int64_t, s64, _mm512_reduce_max_epi64, __m512i, a > b ? a : b)
#define _mm512_reduce_min_epi64 pq_mm512_reduce_min_epi64
PQ_REDUCE(int64_t, s64, _mm512_reduce_min_epi64, __m512i, a < b ? a : b)
#define _mm512_reduce_add_ps pq_mm512_reduce_add_ps
PQ_REDUCE(float, f32, _mm512_reduce_add_ps, __m512, a + b)
#define _mm512_reduce_max_ps pq_mm512_reduce_max_ps
PQ_REDUCE(float, f32, _mm512_reduce_max_ps, __m512, a > b ? a : b)
#define _mm512_reduce_min_ps pq_mm512_reduce_min_ps
PQ_REDUCE(float, f32, _mm512_reduce_min_ps, __m512, a < b ? a : b)
#define _mm512_reduce_add_pd pq_mm512_reduce_add_pd
PQ_REDUCE(double, f64, _mm512_reduce_add_pd, __m512d, a + b)
#define _mm512_reduce_max_pd pq_mm512_reduce_max_pd
PQ_REDUCE(double, f64, _mm512_reduce_max_pd, __m512d, a > b ? a : b)
#define _mm512_reduce_min_pd pq_mm512_reduce_min_pd
PQ_REDUCE(double, f64, _mm512_reduce_min_pd, __m512d, a < b ? a : b)
#define _mm512_reduce_max_epu32 pq_mm512_reduce_max_epu32
PQ_REDUCE(uint32_t, u32, _mm512_reduce_max_epu32, __m512i, a > b ? a : b)
#define _mm512_reduce_min_epu32 pq_mm512_reduce_min_epu32
PQ_REDUCE(uint32_t, u32, _mm512_reduce_min_epu32, __m512i, a < b ? a : b)
#define _mm512_reduce_or_epi32 pq_mm512_reduce_or_epi32
PQ_REDUCE(int32_t, s32, _mm512_reduce_or_epi32, __m512i, a | b)
#define _mm512_reduce_and_epi32 pq_mm512_reduce_and_epi32
PQ_REDUCE(int32_t, s32, _mm512_reduce_and_epi32, __m512i, a &b)
#define _mm512_mask_reduce_add_epi32(k, a) _mm512_reduce_add_epi32(_mm512_maskz_mov_epi32(k, a))
#define _mm512_mask_reduce_max_epi32(k, a) \
    _mm512_reduce_max_epi32(_mm512_mask_mov_epi32(_mm512_set1_epi32(INT32_MIN), k, a))
#define _mm512_mask_reduce_min_epi32(k, a) \
    _mm512_reduce_min_epi32(_mm512_mask_mov_epi32(_mm512_set1_epi32(INT32_MAX), k, a))

/* Gathers: indices count units of `scale` bytes. */

#define _mm512_i32gather_epi32 pq_mm512_i32gather_epi32
PQ_GATHER(__m512i, u32, s32, _mm512_i32gather_epi32, __m512i)
#define _mm512_i32gather_epi64 pq_mm512_i32gather_epi64
PQ_GATHER(__m512i, u64, s32, _mm512_i32gather_epi64, __m256i)
#define _mm512_i64gather_epi64 pq_mm512_i64gather_epi64
PQ_GATHER(__m512i, u64, s64, _mm512_i64gather_epi64, __m512i)
#define _mm512_i32gather_ps pq_mm512_i32gather_ps
PQ_GATHER(__m512, u32, s32, _mm512_i32gather_ps, __m512i)
#define _mm512_mask_i32gather_epi32(src, k, index, base, scale) \
    _mm512_mask_mov_epi32(src, k, _mm512_i32gather_epi32(index, base, scale))

/* Floats. To integers, what does not fit (NaN too) becomes the least value. */

#define _mm512_cvtepi32_ps pq_mm512_cvtepi32_ps
PQ_MAP1(__m512, f32, _mm512_cvtepi32_ps, __m512i, (float)x.s32[i])
#define _mm512_cvtps_epi32 pq_mm512_cvtps_epi32
PQ_MAP1(__m512i, s32, _mm512_cvtps_epi32, __m512, pq_f64_s32(rint((double)x.f32[i])))
#define _mm512_cvttps_epi32 pq_mm512_cvttps_epi32
PQ_MAP1(__m512i, s32, _mm512_cvttps_epi32, __m512, pq_f64_s32(trunc((double)x.f32[i])))
#define _mm512_cvtps_pd pq_mm512_cvtps_pd
PQ_MAP1(__m512d, f64, _mm512_cvtps_pd, __m256, (double)x.f32[i])
#define _mm512_cvtpd_ps pq_mm512_cvtpd_ps
PQ_MAP1(__m256, f32, _mm512_cvtpd_ps, __m512d, (float)x.f64[i])
#define _mm512_cvtepi32_pd pq_mm512_cvtepi32_pd
PQ_MAP1(__m512d, f64, _mm512_cvtepi32_pd, __m256i, (double)x.s32[i])
#define _mm512_cvtepi64_pd pq_mm512_cvtepi64_pd
PQ_MAP1(__m512d, f64, _mm512_cvtepi64_pd, __m512i, (double)x.s64[i])
#define _mm512_cvtpd_epi32 pq_mm512_cvtpd_epi32
PQ_MAP1(__m256i, s32, _mm512_cvtpd_epi32, __m512d, pq_f64_s32(rint(x.f64[i])))
#define _mm512_cvttpd_epi32 pq_mm512_cvttpd_epi32
PQ_MAP1(__m256i, s32, _mm512_cvttpd_epi32, __m512d, pq_f64_s32(trunc(x.f64[i])))
#define _mm512_cvtpd_epi64 pq_mm512_cvtpd_epi64
PQ_MAP1(__m512i, s64, _mm512_cvtpd_epi64, __m512d, pq_f64_s64(rint(x.f64[i])))
#define _mm512_cvttpd_epi64 pq_mm512_cvttpd_epi64
PQ_MAP1(__m512i, s64, _mm512_cvttpd_epi64, __m512d, pq_f64_s64(trunc(x.f64[i])))

/* SIMDe's own are wrong: abs keeps the sign of -0, roundscale does not see the rounding mode where
 * it is not to nearest, and without FMA the fused operations round twice. */
#undef _mm512_fmadd_ps
#define _mm512_fmadd_ps pq_mm512_fmadd_ps
PQ_MAP3(__m512, f32, _mm512_fmadd_ps, __m512, __m512, __m512, fmaf(x.f32[i], y.f32[i], z.f32[i]))
#undef _mm512_fnmadd_ps
#define _mm512_fnmadd_ps pq_mm512_fnmadd_ps
PQ_MAP3(__m512, f32, _mm512_fnmadd_ps, __m512, __m512, __m512, fmaf(-x.f32[i], y.f32[i], z.f32[i]))
#undef _mm512_fmsub_ps
#define _mm512_fmsub_ps pq_mm512_fmsub_ps
PQ_MAP3(__m512, f32, _mm512_fmsub_ps, __m512, __m512, __m512, fmaf(x.f32[i], y.f32[i], -z.f32[i]))
#undef _mm512_roundscale_ps
#define _mm512_roundscale_ps pq_mm512_roundscale_ps
PQ_MAP2(__m512, f32, _mm512_roundscale_ps, __m512, int, (float)pq_round(x.f32[i], y.s32[0]))
#undef _mm512_fmadd_pd
#define _mm512_fmadd_pd pq_mm512_fmadd_pd
PQ_MAP3(__m512d, f64, _mm512_fmadd_pd, __m512d, __m512d, __m512d, fma(x.f64[i], y.f64[i], z.f64[i]))
#undef _mm512_fnmadd_pd
#define _mm512_fnmadd_pd pq_mm512_fnmadd_pd
PQ_MAP3(__m512d, f64, _mm512_fnmadd_pd, __m512d, __m512d, __m512d,
        fma(-x.f64[i], y.f64[i], z.f64[i]))
#undef _mm512_fmsub_pd
#define _mm512_fmsub_pd pq_mm512_fmsub_pd
PQ_MAP3(__m512d, f64, _mm512_fmsub_pd, __m512d, __m512d, __m512d,
        fma(x.f64[i], y.f64[i], -z.f64[i]))
#undef _mm512_roundscale_pd
#define _mm512_roundscale_pd pq_mm512_roundscale_pd
PQ_MAP2(__m512d, f64, _mm512_roundscale_pd, __m512d, int, pq_round(x.f64[i], y.s32[0]))
#undef _mm512_abs_ps
#define _mm512_abs_ps pq_mm512_abs_ps
PQ_MAP1(__m512, f32, _mm512_abs_ps, __m512, fabsf(x.f32[i]))
#undef _mm512_abs_pd
#define _mm512_abs_pd pq_mm512_abs_pd
PQ_MAP1(__m512d, f64, _mm512_abs_pd, __m512d, fabs(x.f64[i]))

/* Stores that pass the caches by: an ordinary store has the same effect. */

#define _mm512_stream_si512(p, a) _mm512_store_si512(p, a)
#define _mm512_stream_ps(p, a) _mm512_store_ps(p, a)

#endif
