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
    PQ_ONLINE_STRIDE = PQ_ONLINE_BLOCK + 16 /* s32 of a row of scores: odd cache lines */
};

/* Scores of a panel: of PQ_ATTENTION_ROWS_MAX rows with one block, or of one row with as many. */
enum { PQ_ONLINE_PANEL = PQ_ATTENTION_ROWS_MAX * PQ_ONLINE_STRIDE };

enum {
    PQ_ONLINE_GROUP = PQ_ATTENTION_ROWS_MAX, /* rows between two looks at a block: four tiles */
    PQ_ONLINE_ROWS = 192 /* of a block: packing 64 keys costs what some 5 rows cost, 3 % */
};

/* The sums of a block of rows, o_stride apart; maxima and L. */
typedef struct pq_online_sums {
    int32_t *o, *most;
    uint32_t *l;
    size_t o_stride;
} pq_online_sums;

/* Rows that scratch is made for: as many as half the second-level cache holds beside the packed
 * keys and values of a block, `row` and `block` bytes each. */
static inline size_t pq_online_scratch_rows(const pq_attention_args *args, size_t row,
                                            size_t block) {
    const size_t half = pq_cpu_caches().l2 / 2, fit = half > block ? (half - block) / row : 0;
    const size_t rows = pq_min_size(pq_max_size(fit, PQ_ONLINE_GROUP), PQ_ONLINE_ROWS);
    return pq_min_size(rows, args->q_len);
}

/* Fewer where keys are so many that a block of rows would take long (2^27 products of d with keys
 * are 13 ms on Zen 1), but more than are worth packing for. */
static inline size_t pq_online_block_rows(const pq_attention_args *args, size_t scratch_rows) {
    const size_t rows = ((size_t)1 << 27) / (args->k_len * args->head_dim + 1);
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

/* Keys of the block at `first` that query i sees, of `keys` there. */
static inline size_t pq_visible_of_block(const pq_attention_args *args, size_t i, size_t first,
                                         size_t keys) {
    const size_t end = pq_visible_keys(args, i);
    return end > first ? pq_min_size(end - first, keys) : 0;
}

/* Masks and softmax of the scores of `keys` keys from `first` (a panel as wide as that rounded up
 * to `step`) with `count` rows from `begin` of the block; leaves weights, and rescales what was. */
static inline void pq_online_weigh(const pq_attention_args *args, const pq_attention_rows *rows,
                                   pq_softmax_raise_fn *raise, pq_softmax_below_fn *below,
                                   size_t step, const pq_online_sums *so_far, size_t begin,
                                   size_t count, size_t first, size_t keys, int32_t *scores) {
    size_t plain[PQ_ONLINE_GROUP];
    uint32_t sums[PQ_ONLINE_GROUP];
    int32_t before[PQ_ONLINE_GROUP], *const most = so_far->most + begin;
    const pq_softmax_panel panel = {.rows = count,
                                    .n = pq_round_up(keys, step),
                                    .stride = PQ_ONLINE_STRIDE,
                                    .scores = scores,
                                    .plain = plain,
                                    .sums = sums};
    for (size_t i = 0; i < count; i++) {
        const size_t query = rows->begin + begin + i;
        const size_t visible = pq_visible_of_block(args, query, first, keys);
        pq_mask_scores(args, rows, query, first, visible, panel.n, scores + i * PQ_ONLINE_STRIDE);
        plain[i] = args->keep != NULL ? 0 : visible;
        before[i] = most[i];
    }
    raise(&panel, most);
    below(&args->softmax, &panel, most);
    for (size_t i = 0; i < count; i++) {
        uint32_t *const l = so_far->l + begin + i;
        pq_move_maximum(args, before[i], most[i], l, so_far->o + (begin + i) * so_far->o_stride);
        *l += sums[i];
    }
}

/* O += P (v - z_v) of one block. */
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

/* Scores, masks and softmax of up to PQ_ATTENTION_ROWS_MAX blocks of one query, a row of the panel
 * each; the maximum of a block is that of all before it too. Leaves weights. */
static inline void pq_direct_weigh(const pq_attention_args *args, const pq_attention_rows *rows,
                                   const int16_t *q, const int8_t *k, size_t first, size_t keys,
                                   int32_t before, const pq_softmax_panel *panel, size_t *plain,
                                   int32_t *most) {
    for (size_t b = 0; b < panel->rows; b++) {
        int32_t *const row = panel->scores + b * panel->stride;
        const size_t at = first + b * PQ_ONLINE_BLOCK;
        const size_t n = pq_min_size(first + keys - at, PQ_ONLINE_BLOCK);
        for (size_t j = 0; j < n; j += 8) {
            const int8_t *key[8]; /* beyond the end the last key, whose scores are excluded */
            for (size_t i = 0; i < 8; i++) {
                key[i] = k + (ptrdiff_t)(at + pq_min_size(j + i, n - 1)) * args->k_strides.token;
            }
            pq_store_256(row + j, pq_direct_scores_8(q, key, args->head_dim));
        }
        pq_mask_scores(args, rows, rows->begin, at, n, panel->n, row);
        plain[b] = args->keep != NULL ? 0 : n;
        most[b] = INT32_MIN;
    }
    pq_softmax_raise_avx2(panel, most);
    for (size_t b = 0; b < panel->rows; b++) {
        const int32_t least = b == 0 ? before : most[b - 1];
        most[b] = most[b] > least ? most[b] : least;
    }
    pq_softmax_table_below_avx2(&args->softmax, panel, most);
}

/* One query, rows->begin; q is widened, o is zero. Returns L. */
static inline uint32_t pq_online_direct_row(const pq_attention_args *args,
                                            const pq_attention_rows *rows, const int16_t *q,
                                            int32_t *scores, int32_t *o) {
    const size_t visible = pq_visible_keys(args, rows->begin);
    const size_t kv_head = rows->head / (args->heads / args->kv_heads);
    const int8_t *const k =
        args->k + pq_token_offset(args->k_strides, rows->batch, rows->group, kv_head, 0);
    const int8_t *const v =
        args->v + pq_token_offset(args->v_strides, rows->batch, rows->group, kv_head, 0);
    size_t plain[PQ_ATTENTION_ROWS_MAX];
    int32_t most[PQ_ATTENTION_ROWS_MAX], before = INT32_MIN;
    uint32_t sums[PQ_ATTENTION_ROWS_MAX], l = 0;
    for (size_t first = 0; first < visible; first += PQ_ATTENTION_ROWS_MAX * PQ_ONLINE_BLOCK) {
        const size_t keys =
            pq_min_size(visible - first, (size_t)PQ_ATTENTION_ROWS_MAX * PQ_ONLINE_BLOCK);
        const pq_softmax_panel panel = {.rows = pq_ceil_div(keys, PQ_ONLINE_BLOCK),
                                        .n = PQ_ONLINE_BLOCK,
                                        .stride = PQ_ONLINE_STRIDE,
                                        .scores = scores,
                                        .plain = plain,
                                        .sums = sums};
        pq_direct_weigh(args, rows, q, k, first, keys, before, &panel, plain, most);
        for (size_t b = 0; b < panel.rows; b++) {
            const size_t at = first + b * PQ_ONLINE_BLOCK;
            const size_t n = pq_min_size(first + keys - at, PQ_ONLINE_BLOCK);
            pq_move_maximum(args, before, most[b], &l, o);
            pq_direct_add(args, v + (ptrdiff_t)at * args->v_strides.token, n,
                          (const int16_t *)(const void *)(scores + b * PQ_ONLINE_STRIDE), sums[b],
                          o);
            l += sums[b];
            before = most[b];
        }
    }
    return l;
}

#endif
