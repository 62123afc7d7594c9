/* What the AVX2 gemm kernels share: loads, and what follows the sums (bias, requantization, store).
 *
 * A tile's sums pass through memory between the register tile and the epilogue: 24 accesses for
 * some 10^4 instructions of a tile, and in return the epilogue is one function for all tiles.
 */
#ifndef PYQUANT_GEMM_GEMM_AVX2_H
#define PYQUANT_GEMM_GEMM_AVX2_H

#include <string.h>

#include "core/simd_avx2.h"
#include "core/unroll.h"
#include "gemm/gemm_s8s8_kernel.h"

#define PQ_GEMM_INLINE static inline __attribute__((always_inline))

enum { PQ_GEMM_AVX2_COLUMNS = 16 }; /* of a panel */

PQ_GEMM_INLINE __m256i pq_gemm_load(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

PQ_GEMM_INLINE void pq_gemm_store(void *p, __m256i v) {
    _mm256_storeu_si256((__m256i *)p, v);
}

/* 16 bytes to s16. */
PQ_GEMM_INLINE __m256i pq_gemm_widen(const int8_t *p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* The four bytes at p in every lane. */
PQ_GEMM_INLINE __m256i pq_gemm_broadcast(const void *p) {
    int32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return _mm256_set1_epi32(bytes);
}

/* clamp(rnu(acc) + z_y) of 8 columns from j on; see gemm_s8s8_kernel.h. */
PQ_GEMM_INLINE __m256i pq_gemm_requantize(const pq_gemm_weights *weights, size_t j, __m256i acc) {
    acc = _mm256_min_epi32(acc, pq_gemm_load(weights->high + j));
    acc = _mm256_max_epi32(acc, pq_gemm_load(weights->low + j));
    const __m256i m = pq_gemm_load(weights->multiplier + j);
    __m256i even = _mm256_mul_epi32(acc, m);
    __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(acc, 32), _mm256_srli_epi64(m, 32));
    even = _mm256_add_epi64(even, pq_gemm_load(weights->round + j));
    odd = _mm256_add_epi64(odd, pq_gemm_load(weights->round + j + 4));
    even = _mm256_srlv_epi64(even, pq_gemm_load(weights->shift + j));
    odd = _mm256_srlv_epi64(odd, pq_gemm_load(weights->shift + j + 4));
    const __m256i r = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    const __m256i y = _mm256_add_epi32(r, pq_gemm_load(weights->post + j));
    return _mm256_max_epi32(_mm256_min_epi32(y, _mm256_set1_epi32(weights->out.quant_max)),
                            _mm256_set1_epi32(weights->out.quant_min));
}

/* 16 values as y_type; the packs cannot saturate after the clamp. */
PQ_GEMM_INLINE void pq_gemm_store_16(void *y, pq_dtype type, __m256i y0, __m256i y1) {
    if (type == PQ_S32) {
        pq_gemm_store(y, y0);
        pq_gemm_store((int32_t *)y + 8, y1);
        return;
    }
    const __m256i s16 = _mm256_permute4x64_epi64(_mm256_packs_epi32(y0, y1), 0xD8);
    if (type == PQ_S16) {
        pq_gemm_store(y, s16);
        return;
    }
    const __m128i low = _mm256_castsi256_si128(s16), high = _mm256_extracti128_si256(s16, 1);
    _mm_storeu_si128((__m128i *)y, _mm_packs_epi16(low, high));
}

/* One tile of sums (rows of 16), `rows` x `columns` of it wanted, to row `row` of the
 * block and column j of y. */
static inline void pq_gemm_finish_tile(const pq_gemm_weights *weights, const pq_gemm_block *block,
                                       size_t row, size_t rows, size_t j, size_t columns,
                                       const int32_t *sums) {
    const pq_dtype type = weights->y_type;
    const size_t size = pq_dtype_size(type);
    for (size_t i = 0; i < rows; i++, sums += PQ_GEMM_AVX2_COLUMNS) {
        __m256i y0 = _mm256_add_epi32(pq_gemm_load(sums), pq_gemm_load(weights->bias + j));
        __m256i y1 = _mm256_add_epi32(pq_gemm_load(sums + 8), pq_gemm_load(weights->bias + j + 8));
        if (type != PQ_S32) {
            y0 = pq_gemm_requantize(weights, j, y0);
            y1 = pq_gemm_requantize(weights, j + 8, y1);
        }
        char *y = (char *)block->y + ((row + i) * block->ldy + j - block->column_begin) * size;
        if (columns == PQ_GEMM_AVX2_COLUMNS) {
            pq_gemm_store_16(y, type, y0, y1);
        } else {
            int32_t partial[PQ_GEMM_AVX2_COLUMNS];
            pq_gemm_store_16(partial, type, y0, y1);
            memcpy(y, partial, columns * size);
        }
    }
}

#endif
