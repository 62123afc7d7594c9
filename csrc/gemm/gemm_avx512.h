/* What the AVX-512 gemm kernels share: loads, and what follows the sums (bias, requantization,
 * store). Masks and conversions of AVX-512 F, BW, VL and DQ only. */
#ifndef PYQUANT_GEMM_GEMM_AVX512_H
#define PYQUANT_GEMM_GEMM_AVX512_H

#include <string.h>

#include "core/simd_avx512.h"
#include "core/unroll.h"
#include "gemm/gemm_s8s8_kernel.h"

#define PQ_GEMM_INLINE static inline __attribute__((always_inline))

enum { PQ_GEMM_AVX512_LANES = 16 };

PQ_GEMM_INLINE __m512i pq_gemm_load(const void *p) {
    return _mm512_loadu_si512(p);
}

/* The four bytes at p in every lane. */
PQ_GEMM_INLINE __m512i pq_gemm_broadcast(const void *p) {
    int32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return _mm512_set1_epi32(bytes);
}

/* clamp(rnu(acc) + z_y) of 16 columns from j on; see gemm_s8s8_kernel.h. */
PQ_GEMM_INLINE __m512i pq_gemm_requantize(const pq_gemm_weights *weights, size_t j, __m512i acc) {
    acc = _mm512_min_epi32(acc, pq_gemm_load(weights->high + j));
    acc = _mm512_max_epi32(acc, pq_gemm_load(weights->low + j));
    const __m512i m = pq_gemm_load(weights->multiplier + j);
    __m512i even = _mm512_mul_epi32(acc, m);
    __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(acc, 32), _mm512_srli_epi64(m, 32));
    even = _mm512_add_epi64(even, pq_gemm_load(weights->round + j));
    odd = _mm512_add_epi64(odd, pq_gemm_load(weights->round + j + 8));
    even = _mm512_srlv_epi64(even, pq_gemm_load(weights->shift + j));
    odd = _mm512_srlv_epi64(odd, pq_gemm_load(weights->shift + j + 8));
    const __m512i r = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
    const __m512i y = _mm512_add_epi32(r, pq_gemm_load(weights->post + j));
    return _mm512_max_epi32(_mm512_min_epi32(y, _mm512_set1_epi32(weights->out.quant_max)),
                            _mm512_set1_epi32(weights->out.quant_min));
}

/* 16 values as y_type; the conversions cannot saturate after the clamp. */
PQ_GEMM_INLINE void pq_gemm_store_16(void *y, pq_dtype type, __m512i v) {
    if (type == PQ_S32) {
        _mm512_storeu_si512(y, v);
    } else if (type == PQ_S16) {
        _mm256_storeu_si256((__m256i *)y, _mm512_cvtsepi32_epi16(v));
    } else {
        _mm_storeu_si128((__m128i *)y, _mm512_cvtsepi32_epi8(v));
    }
}

/* One tile of sums (rows of tile_columns), `rows` x `columns` of it wanted, to row `row` of the
 * block and column j of y. */
PQ_GEMM_INLINE void pq_gemm_finish_tile(const pq_gemm_weights *weights, const pq_gemm_block *block,
                                        size_t row, size_t rows, size_t j, size_t columns,
                                        size_t tile_columns, const int32_t *sums) {
    const pq_dtype type = weights->y_type;
    const size_t size = pq_dtype_size(type);
    for (size_t i = 0; i < rows; i++) {
        char *y = (char *)block->y + ((row + i) * block->ldy + j - block->column_begin) * size;
        for (size_t c = 0; c < columns; c += PQ_GEMM_AVX512_LANES) {
            __m512i v = _mm512_add_epi32(pq_gemm_load(sums + i * tile_columns + c),
                                         pq_gemm_load(weights->bias + j + c));
            if (type != PQ_S32) {
                v = pq_gemm_requantize(weights, j + c, v);
            }
            if (columns - c >= PQ_GEMM_AVX512_LANES) {
                pq_gemm_store_16(y + c * size, type, v);
            } else {
                int32_t partial[PQ_GEMM_AVX512_LANES];
                pq_gemm_store_16(partial, type, v);
                memcpy(y + c * size, partial, (columns - c) * size);
            }
        }
    }
}

#endif
