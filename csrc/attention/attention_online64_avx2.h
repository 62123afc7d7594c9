/* What the wide x86 variants of the online form share: how many rows a block has, masks, softmax
 * and rescaling of a group of rows, and a few queries over keys and values as they lie in memory
 * (attention_direct_avx2.h says why). */
#ifndef PYQUANT_ATTENTION_ATTENTION_ONLINE64_AVX2_H
#define PYQUANT_ATTENTION_ATTENTION_ONLINE64_AVX2_H

#include "attention/attention_direct_avx2.h"
#include "attention/attention_online64_s8_kernel.h"
#include "pyquant/cpu.h"
#include "pyquant/rnu.h"

enum {
    PQ_ONLINE_BLOCK = PQ_ATTENTION_ONLINE_BLOCK,
    PQ_ONLINE_GROUP = PQ_ATTENTION_ROWS_MAX, /* rows between two looks at packed keys: four tiles */
    PQ_ONLINE_ROWS = 192, /* of a block: packing keys costs what some 5 rows cost, 3 % */
    /* Four blocks at once: the longer the run of keys that leave a row's maximum, the less often
     * are its sums loaded and its softmax set up (2 to 6 % on Zen 1; eight give no more). */
    PQ_ONLINE_BLOCKS = 4,
    PQ_ONLINE_SPAN = PQ_ONLINE_BLOCKS * PQ_ONLINE_BLOCK,
    PQ_ONLINE_STRIDE = PQ_ONLINE_SPAN + 16, /* s32 of a row of scores: odd cache lines */
    PQ_ONLINE_PANEL = PQ_ONLINE_GROUP * PQ_ONLINE_STRIDE,
    PQ_ONLINE_DIRECT = 32 * PQ_ONLINE_BLOCK /* keys at once of a single row: they fit the panel */
};

/* Some rows over some blocks: maxima before the first block and after each, and sums of weights
 * (softmax_method.h). */
typedef struct pq_online_span {
    size_t rows, keys, blocks;
    int32_t most[(PQ_ONLINE_BLOCKS + 1) * PQ_ONLINE_GROUP];
    uint32_t sums[PQ_ONLINE_BLOCKS * PQ_ONLINE_GROUP];
} pq_online_span;

/* The sums of a block of rows, o_stride apart; maxima and L. */
typedef struct pq_online_sums {
    int32_t *o, *most;
    uint32_t *l;
    size_t o_stride;
} pq_online_sums;

/* Rows that scratch is made for: as many as half the second-level cache holds, `row` bytes each,
 * beside `packed` bytes of keys and values. */
static inline size_t pq_online_scratch_rows(const pq_attention_args *args, size_t row,
                                            size_t packed) {
    const size_t half = pq_cpu_caches().l2 / 2, fit = half > packed ? (half - packed) / row : 0;
    const size_t rows = pq_min_size(pq_max_size(fit, PQ_ONLINE_GROUP), PQ_ONLINE_ROWS);
    return pq_min_size(rows, args->q_len);
}

/* Fewer where keys are so many that a block of rows would take long (2^26 products of d with keys
 * are 7 ms on Zen 1), but more than are worth packing for. */
static inline size_t pq_online_block_rows(const pq_attention_args *args, size_t scratch_rows) {
    const size_t rows = ((size_t)1 << 26) / (args->k_len * args->head_dim + 1);
    return pq_min_size(pq_max_size(rows, PQ_ONLINE_GROUP), scratch_rows);
}

static inline void pq_online_begin(const pq_online_sums *sums, size_t count) {
    for (size_t i = 0; i < count; i++) {
        sums->most[i] = INT32_MIN;
        sums->l[i] = 0;
    }
    memset(sums->o, 0, count * sums->o_stride * sizeof *sums->o);
}

/* rnu of a row of O. Its low 32 bits are those of the 64-bit sum shifted logically: shift <= 29. */
static inline void pq_rescale_row(pq_dyadic factor, size_t d, int32_t *o) {
    const __m256i m = _mm256_set1_epi32(factor.multiplier);
    const __m256i half = _mm256_set1_epi64x(1LL << (factor.shift - 1));
    const __m128i down = _mm_cvtsi32_si128(factor.shift);
    const __m128i up = _mm_cvtsi32_si128(32 - factor.shift);
    for (size_t c = 0; c < d; c += 8) {
        const __m256i x = pq_load_256(o + c);
        const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(x, m), half);
        const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32), m), half);
        pq_store_256(o + c, _mm256_blend_epi32(_mm256_srl_epi64(even, down),
                                               _mm256_sll_epi64(odd, up), 0xaa));
    }
}

/* Before a row's first key there is nothing to rescale; where its maximum stays, the factor is 1.
 */
static inline void pq_move_maximum(const pq_attention_args *args, int32_t before, int32_t now,
                                   uint32_t *l, int32_t *o) {
    if (now != before && before != INT32_MIN) {
        const pq_dyadic factor = pq_online_factor(&args->softmax, (uint32_t)now - (uint32_t)before);
        *l = (uint32_t)pq_rnu(*l, factor.multiplier, factor.shift);
        pq_rescale_row(factor, args->head_dim, o);
    }
}

/* Keys from `first` on that query i sees, of `keys` there. */
static inline size_t pq_visible_from(const pq_attention_args *args, size_t i, size_t first,
                                     size_t keys) {
    const size_t end = pq_visible_keys(args, i);
    return end > first ? pq_min_size(end - first, keys) : 0;
}

/* Masks and softmax of the scores of span->keys keys from `first` with span->rows rows from query
 * `begin` on, whose maxima are most; the panel is as wide as the keys rounded up to `step`. Leaves
 * weights. */
static inline void pq_online_weigh(const pq_attention_args *args, const pq_attention_rows *rows,
                                   size_t begin, size_t first, pq_softmax_raise_fn *raise,
                                   pq_softmax_below_fn *below, size_t step, int32_t *scores,
                                   int32_t *most, pq_online_span *span) {
    size_t plain[PQ_ONLINE_GROUP];
    const pq_softmax_panel panel = {.rows = span->rows,
                                    .n = pq_round_up(span->keys, step),
                                    .stride = PQ_ONLINE_STRIDE,
                                    .scores = scores,
                                    .plain = plain,
                                    .sums = span->sums};
    span->blocks = pq_ceil_div(span->keys, PQ_ONLINE_BLOCK);
    assert((span->blocks + 1) * span->rows <= sizeof span->most / sizeof *span->most);
    for (size_t i = 0; i < span->rows; i++) {
        const size_t visible = pq_visible_from(args, begin + i, first, span->keys);
        pq_mask_scores(args, rows, begin + i, first, visible, panel.n,
                       scores + i * PQ_ONLINE_STRIDE);
        plain[i] = args->keep != NULL ? 0 : visible;
    }
    memcpy(span->most, most, span->rows * sizeof *most);
    raise(&panel, span->most);
    below(&args->softmax, &panel, span->most);
    memcpy(most, span->most + span->blocks * span->rows, span->rows * sizeof *most);
}

/* Takes rows i .. i + n - 1 of a span, whose sums are given, into block b, and returns the end of
 * the blocks to which they can go on together: none of those moves a maximum. */
static inline size_t pq_online_enter(const pq_attention_args *args, const pq_online_span *span,
                                     size_t i, size_t n, size_t b, uint32_t *l, int32_t *o,
                                     size_t o_stride) {
    const size_t rows = span->rows;
    for (size_t r = 0; r < n; r++) {
        const int32_t *const most = span->most + b * rows + i + r;
        pq_move_maximum(args, most[0], most[rows], l + r, o + r * o_stride);
        l[r] += span->sums[b * rows + i + r];
    }
    for (size_t end = b + 1; end < span->blocks; end++) {
        const int32_t *const most = span->most + end * rows + i;
        if (memcmp(most, most + rows, n * sizeof *most) != 0) {
            return end;
        }
        for (size_t r = 0; r < n; r++) {
            l[r] += span->sums[end * rows + i + r];
        }
    }
    return span->blocks;
}

/* O += P (v - z_v) of some keys, l the sum of P. */
static inline void pq_direct_add(const pq_attention_args *args, const int8_t *v, size_t keys,
                                 const int16_t *weights, uint32_t l, int32_t *o) {
    /* of the whole difference |.| < 2^31 (attention.h): it may wrap on the way */
    const __m256i offset = _mm256_set1_epi32((int32_t)((uint32_t)args->v_zero_point * l));
    const ptrdiff_t token = args->v_strides.token;
    const size_t d = args->head_dim;
    for (size_t c = 0; c < d;) {
        __m256i sum[4][2];
        const size_t blocks = d - c >= 64 ? 4 : 1;
        if (blocks == 4) {
            pq_direct_output(4, v + c, token, keys, weights, 64, sum);
        } else {
            pq_direct_output(1, v + c, token, keys, weights, d - c, sum);
        }
        for (size_t b = 0; b < blocks; b++, c += 16) {
            for (size_t half = 0; half < 2; half++) {
                int32_t *const at = o + c + 8 * half;
                const __m256i add = _mm256_sub_epi32(sum[b][half], offset);
                pq_store_256(at, _mm256_add_epi32(pq_load_256(at), add));
            }
        }
    }
}

/* One query, rows->begin; q is widened, o is zero. Returns L. */
static inline uint32_t pq_online_direct_row(const pq_attention_args *args,
                                            const pq_attention_rows *rows, const int16_t *q,
                                            int32_t *scores, int32_t *o) {
    const size_t visible = pq_visible_keys(args, rows->begin);
    const size_t kv_head = rows->head / (args->heads / args->kv_heads);
    int32_t most = INT32_MIN;
    uint32_t l = 0;
    for (size_t first = 0; first < visible; first += PQ_ONLINE_DIRECT) {
        const int8_t *const k =
            args->k + pq_token_offset(args->k_strides, rows->batch, rows->group, kv_head, first);
        const int8_t *const v =
            args->v + pq_token_offset(args->v_strides, rows->batch, rows->group, kv_head, first);
        pq_online_span span = {.rows = 1, .keys = pq_min_size(visible - first, PQ_ONLINE_DIRECT)};
        for (size_t j = 0; j < span.keys; j += 8) {
            const int8_t *key[8]; /* beyond the end the last key, whose scores are excluded */
            for (size_t i = 0; i < 8; i++) {
                const size_t token = pq_min_size(j + i, span.keys - 1);
                key[i] = k + (ptrdiff_t)token * args->k_strides.token;
            }
            pq_store_256(scores + j, pq_direct_scores_8(q, key, args->head_dim));
        }
        pq_online_weigh(args, rows, rows->begin, first, pq_softmax_raise_avx2,
                        pq_softmax_table_below_avx2, PQ_SOFTMAX_STEP, scores, &most, &span);
        for (size_t b = 0, end; b < span.blocks; b = end) {
            end = pq_online_enter(args, &span, 0, 1, b, &l, o, 0);
            const size_t at = b * PQ_ONLINE_BLOCK;
            const size_t keys = pq_min_size(end * PQ_ONLINE_BLOCK, span.keys) - at;
            /* of a row by itself, all weights up to the next move are summed in one place */
            pq_direct_add(args, v + (ptrdiff_t)at * args->v_strides.token, keys,
                          (const int16_t *)(const void *)scores + at, span.sums[b], o);
        }
    }
    return l;
}

#endif
