/* One query at a time over keys and values as they lie in memory: when a text is generated there
 * is one query, and to pack its keys would cost more than to multiply them. vpmaddwd on s16,
 * widened as they are read; a call reads each key and each value once for each query. */
#ifndef PYQUANT_ATTENTION_ATTENTION_DIRECT_AVX2_H
#define PYQUANT_ATTENTION_ATTENTION_DIRECT_AVX2_H

#include "attention/attention_avx2.h"

/* Packing one key and value costs about as much as the products of this many queries with them
 * (measured on Zen 1 at d = 64: equal between 5 and 6 queries). */
enum { PQ_DIRECT_ROWS = 5 };

/* Whether the queries of a unit are too few to pack its keys. */
static inline bool pq_is_direct(const pq_attention_args *args) {
    return args->q_len <= PQ_DIRECT_ROWS &&
           args->heads / args->kv_heads <= PQ_DIRECT_ROWS / args->q_len;
}

/* s32 of one row of scores; an odd number of cache lines. */
static inline size_t pq_direct_panel(const pq_attention_args *args) {
    return pq_round_up(args->k_len, PQ_SOFTMAX_STEP) + 16;
}

/* A row of scores and the query as s16. */
static inline size_t pq_direct_scratch(const pq_attention_args *args) {
    return pq_direct_panel(args) * sizeof(int32_t) +
           pq_round_up(args->head_dim, 32) * sizeof(int16_t);
}

/* The sums of the lanes of each of eight vectors. */
PQ_INLINE __m256i pq_sum_lanes_8(__m256i a[8]) {
    PQ_UNROLL
    for (int i = 0; i < 4; i++) { /* lanes of i and i + 4 interleaved */
        a[i] = _mm256_add_epi32(_mm256_unpacklo_epi32(a[i], a[i + 4]),
                                _mm256_unpackhi_epi32(a[i], a[i + 4]));
    }
    PQ_UNROLL
    for (int i = 0; i < 2; i++) { /* i, i + 2, i + 4, i + 6 */
        a[i] = _mm256_add_epi32(_mm256_unpacklo_epi32(a[i], a[i + 2]),
                                _mm256_unpackhi_epi32(a[i], a[i + 2]));
    }
    /* lane by lane 0 2 4 6 and 1 3 5 7, still as two halves each */
    const __m256i low = _mm256_unpacklo_epi32(a[0], a[1]), high = _mm256_unpackhi_epi32(a[0], a[1]);
    return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20),
                            _mm256_permute2x128_si256(low, high, 0x31));
}

/* Scores of eight keys with one query; the keys' rows lie `stride` apart. */
PQ_INLINE __m256i pq_direct_scores_8(const int16_t *q, const int8_t *const key[8], size_t d) {
    __m256i sum[8];
    PQ_UNROLL
    for (int i = 0; i < 8; i++) {
        sum[i] = _mm256_setzero_si256();
    }
    size_t c = 0;
    for (; c + 16 <= d; c += 16) {
        const __m256i query = pq_load_256(q + c);
        PQ_UNROLL
        for (int i = 0; i < 8; i++) {
            const __m256i k =
                _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(key[i] + c)));
            sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(query, k));
        }
    }
    if (c < d) {
        const __m256i query = pq_load_256(q + c);
        PQ_UNROLL
        for (int i = 0; i < 8; i++) {
            const __m256i k = _mm256_cvtepi8_epi16(pq_load_s8(key[i] + c, d - c));
            sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(query, k));
        }
    }
    return pq_sum_lanes_8(sum);
}

/* O of 16 * blocks columns from c on, not yet less z_v * sum P. Pairs of keys are (i, i + 8) of each
 * 16, the order of the weights (pq_softmax_table_avx2); a pair's second key may be beyond the end,
 * where its weight is 0. `columns` are left in the row. */
PQ_INLINE void pq_direct_output(const int blocks, const int8_t *v, ptrdiff_t token, size_t keys,
                                const int16_t *weights, size_t columns, __m256i sum[][2]) {
    PQ_UNROLL
    for (int b = 0; b < blocks; b++) {
        sum[b][0] = sum[b][1] = _mm256_setzero_si256();
    }
    for (size_t j = 0; j < keys; j += 16) {
        for (size_t i = j; i < j + 8 && i < keys; i++) {
            int32_t both;
            memcpy(&both, weights + 2 * i - j, sizeof both);
            const __m256i pair = _mm256_set1_epi32(both);
            const int8_t *const first = v + (ptrdiff_t)i * token;
            const int8_t *const second = i + 8 < keys ? first + 8 * token : first;
            PQ_UNROLL
            for (int b = 0; b < blocks; b++) {
                const size_t left = blocks > 1 ? 16 : columns;
                const __m128i x = pq_load_s8(first + 16 * b, left);
                const __m128i y = pq_load_s8(second + 16 * b, left);
                const __m256i low = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(x, y));
                const __m256i high = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(x, y));
                sum[b][0] = _mm256_add_epi32(sum[b][0], _mm256_madd_epi16(pair, low));
                sum[b][1] = _mm256_add_epi32(sum[b][1], _mm256_madd_epi16(pair, high));
            }
        }
    }
}

PQ_INLINE void pq_direct_columns(const int blocks, const pq_attention_args *args, const int8_t *v,
                                 size_t keys, const int16_t *weights, __m256i offset,
                                 const pq_row_scale *scale, size_t columns, int8_t *y) {
    __m256i sum[4][2];
    pq_direct_output(blocks, v, args->v_strides.token, keys, weights, columns, sum);
    PQ_UNROLL
    for (int b = 0; b < blocks; b++) {
        pq_write_16(args, _mm256_sub_epi32(sum[b][0], offset), _mm256_sub_epi32(sum[b][1], offset),
                    scale, y + 16 * b, blocks > 1 ? 16 : columns);
    }
}

static inline void pq_direct_row(const pq_attention_args *args, const pq_attention_rows *rows,
                                 void *scratch) {
    const size_t keys = pq_visible_keys(args, rows->begin), d = args->head_dim;
    const size_t kv_head = rows->head / (args->heads / args->kv_heads);
    int32_t *const row = scratch;
    int16_t *const q = (int16_t *)(void *)(row + pq_direct_panel(args));
    const int8_t *const k =
        args->k + pq_token_offset(args->k_strides, rows->batch, rows->group, kv_head, 0);
    const int8_t *const v =
        args->v + pq_token_offset(args->v_strides, rows->batch, rows->group, kv_head, 0);
    pq_widen_query(args,
                   args->q + pq_token_offset(args->q_strides, rows->batch, rows->group, rows->head,
                                             rows->begin),
                   q);
    for (size_t j = 0; j < keys; j += 8) {
        const int8_t *key[8]; /* beyond the end the last key, whose scores there are excluded */
        for (size_t i = 0; i < 8; i++) {
            const size_t token = j + i < keys ? j + i : keys - 1;
            key[i] = k + (ptrdiff_t)token * args->k_strides.token;
        }
        pq_store_256(row + j, pq_direct_scores_8(q, key, d));
    }
    uint32_t sum, divisor;
    pq_weigh_rows(args, rows, keys, PQ_SOFTMAX_STEP, pq_softmax_method_avx2(args->softmax.method),
                  row, 0, &sum, &divisor);
    const pq_row_scale scale = pq_make_row_scale(args, divisor);
    /* |O - z_v * sum P| < 2^31 (attention.h): the difference may wrap on the way */
    const __m256i offset = _mm256_set1_epi32((int32_t)((uint32_t)args->v_zero_point * sum));
    const int16_t *const weights = (const int16_t *)(const void *)row;
    int8_t *const y = args->y + pq_token_offset(args->y_strides, rows->batch, rows->group,
                                                rows->head, rows->begin);
    size_t c = 0;
    for (; c + 64 <= d; c += 64) {
        pq_direct_columns(4, args, v + c, keys, weights, offset, &scale, 64, y + c);
    }
    for (; c < d; c += 16) {
        pq_direct_columns(1, args, v + c, keys, weights, offset, &scale, d - c, y + c);
    }
}

#endif
