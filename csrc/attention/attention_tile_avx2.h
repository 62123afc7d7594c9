/* What both AVX2 kernels of attention multiply with: keys and values packed as s16 pairs, and one
 * register tile of 6 rows x 16 columns for scores and for weights times values. vpmaddwd runs at
 * the machine's exact peak: q - z_q and v - z_v are widened with their zero point taken off
 * (|.| <= 255), so that no compensation is left. Six rows fill 12 of 16 registers; a step is 12
 * multiply-adds, 6 broadcasts.
 *
 *   keys    [k/16][d/2][16][2]      values  [d/16][pairs of keys][16][2]
 */
#ifndef PYQUANT_ATTENTION_ATTENTION_TILE_AVX2_H
#define PYQUANT_ATTENTION_ATTENTION_TILE_AVX2_H

#include "attention/attention_avx2.h"

enum {
    PQ_TILE_ROWS = 6,
    PQ_TILE_COLUMNS = 16,
    PQ_PAIR_WIDTH = 2 * PQ_TILE_COLUMNS /* s16 of one step of a packed block: 64 bytes */
};

/* 8 keys x 8 pairs of s8 -> 8 steps of 8 s16 pairs: a transpose of 16-bit units, then widened. */
static inline void pq_pack_key_tile(const __m128i key[8], size_t pairs, int16_t *packed) {
    __m128i a[8], b[8], c[8];
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm_unpacklo_epi16(key[2 * i], key[2 * i + 1]);
        a[2 * i + 1] = _mm_unpackhi_epi16(key[2 * i], key[2 * i + 1]);
    }
    for (int i = 0; i < 8; i += 4) { /* keys i .. i + 3 */
        b[i] = _mm_unpacklo_epi32(a[i], a[i + 2]);
        b[i + 1] = _mm_unpackhi_epi32(a[i], a[i + 2]);
        b[i + 2] = _mm_unpacklo_epi32(a[i + 1], a[i + 3]);
        b[i + 3] = _mm_unpackhi_epi32(a[i + 1], a[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        c[2 * i] = _mm_unpacklo_epi64(b[i], b[i + 4]);
        c[2 * i + 1] = _mm_unpackhi_epi64(b[i], b[i + 4]);
    }
    for (size_t p = 0; p < pairs && p < 8; p++) {
        pq_store_256(packed + p * PQ_PAIR_WIDTH, _mm256_cvtepi8_epi16(c[p]));
    }
}

/* n keys of d elements, rows `token` apart. The last block of 16 is filled up with zero keys: their
 * scores exist and are then excluded. */
static inline void pq_pack_keys_avx2(const int8_t *k, ptrdiff_t token, size_t n, size_t d,
                                     int16_t *packed) {
    const size_t d_pairs = pq_ceil_div(d, 2);
    for (size_t j = 0; j < pq_round_up(n, PQ_TILE_COLUMNS); j += 8) {
        int16_t *const block =
            packed + j / PQ_TILE_COLUMNS * d_pairs * PQ_PAIR_WIDTH + j % PQ_TILE_COLUMNS * 2;
        for (size_t c = 0; c < d; c += 16) {
            __m128i key[8];
            for (size_t i = 0; i < 8; i++) {
                key[i] = j + i < n ? pq_load_s8(k + (ptrdiff_t)(j + i) * token + c, d - c)
                                   : _mm_setzero_si128();
            }
            pq_pack_key_tile(key, d_pairs - c / 2, block + c / 2 * PQ_PAIR_WIDTH);
        }
    }
}

/* The same of values, less their zero point, with `block_pairs` pairs of keys from one 16 columns
 * to the next. Pairs are keys (i, i + 8) of each 16, the order of the weights. */
static inline void pq_pack_values_avx2(const int8_t *v, ptrdiff_t token, size_t n, size_t d,
                                       int32_t v_zero_point, size_t block_pairs, int16_t *packed) {
    const __m256i zero_point = _mm256_set1_epi16((int16_t)v_zero_point);
    for (size_t pair = 0; pair < pq_softmax_pairs(n); pair++) {
        const size_t j = pair + pair / 8 * 8;
        const int8_t *const first = v + (ptrdiff_t)j * token;
        /* beyond the end any value will do: its weight is 0 */
        const int8_t *const second = j + 8 < n ? first + 8 * token : first;
        for (size_t c = 0; c < d; c += PQ_TILE_COLUMNS) {
            const __m128i a = pq_load_s8(first + c, d - c);
            const __m128i b = pq_load_s8(second + c, d - c);
            int16_t *const to = packed + (c / PQ_TILE_COLUMNS * block_pairs + pair) * PQ_PAIR_WIDTH;
            const __m256i low = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b));
            const __m256i high = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(a, b));
            pq_store_256(to, _mm256_sub_epi16(low, zero_point));
            pq_store_256(to + 16, _mm256_sub_epi16(high, zero_point));
        }
    }
}

/* sums[i][c] (+)= sum over pairs of a[i] (s16, rows lda apart) times a packed block: rows x 16, or
 * its first half. Sums go to memory in any case: with what follows them in one function, gcc 12
 * spills the tile inside the loop. */
PQ_INLINE void pq_multiply_avx2(const bool add, const int rows, const int halves, const int16_t *a,
                                size_t lda, const int16_t *block, size_t pairs, int32_t *sums,
                                size_t stride) {
    __m256i acc[PQ_TILE_ROWS][2];
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        acc[i][0] = add ? pq_load_256(sums + (size_t)i * stride) : _mm256_setzero_si256();
        acc[i][1] = add ? pq_load_256(sums + (size_t)i * stride + 8) : _mm256_setzero_si256();
    }
    for (size_t p = 0; p < pairs; p++) {
        const __m256i low = pq_load_256(block + p * PQ_PAIR_WIDTH);
        const __m256i high = pq_load_256(block + p * PQ_PAIR_WIDTH + 16);
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            int32_t both;
            memcpy(&both, a + (size_t)i * lda + 2 * p, sizeof both);
            const __m256i pair = _mm256_set1_epi32(both);
            acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(pair, low));
            if (halves == 2) {
                acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(pair, high));
            }
        }
    }
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        pq_store_256(sums + (size_t)i * stride, acc[i][0]);
        if (halves == 2) {
            pq_store_256(sums + (size_t)i * stride + 8, acc[i][1]);
        }
    }
}

/* One body for each number of rows, so that the tile stays in registers. */
static __attribute__((noinline)) void pq_multiply_tile_avx2(size_t rows, int halves,
                                                            const int16_t *a, size_t lda,
                                                            const int16_t *block, size_t pairs,
                                                            int32_t *sums, size_t stride) {
#define PQ_CASE(n, h) \
    case 2 * (n) + (h)-1: pq_multiply_avx2(false, n, h, a, lda, block, pairs, sums, stride); break;
    switch (2 * rows + (size_t)halves - 1) {
        PQ_CASE(1, 1)
        PQ_CASE(2, 1)
        PQ_CASE(3, 1)
        PQ_CASE(4, 1)
        PQ_CASE(5, 1)
        PQ_CASE(6, 1)
        PQ_CASE(1, 2)
        PQ_CASE(2, 2)
        PQ_CASE(3, 2)
        PQ_CASE(4, 2)
        PQ_CASE(5, 2)
        PQ_CASE(6, 2)
    default: assert(false);
    }
#undef PQ_CASE
}

#endif
