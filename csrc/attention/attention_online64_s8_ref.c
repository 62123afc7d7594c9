#include "attention/attention_online64_s8_kernel.h"
#include "softmax/softmax_method.h"

#include "pyquant/rnu.h"

enum { BLOCK = PQ_ATTENTION_ONLINE_BLOCK };

/* A row so far; `o` lies in scratch. */
typedef struct sums {
    int32_t highest, *o;
    uint32_t l;
} sums;

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

static const int8_t *token_of(const int8_t *data, pq_strides strides, const pq_attention_args *args,
                              const pq_attention_rows *rows, size_t j) {
    const size_t kv_head = rows->head / (args->heads / args->kv_heads);
    return data + pq_token_offset(strides, rows->batch, rows->group, kv_head, j);
}

/* Scores and kept keys of a block's `n` keys from `first`, for query i. */
static void block_scores(const pq_attention_args *args, const pq_attention_rows *rows, size_t i,
                         size_t first, size_t n, int32_t *score, bool *keep) {
    const int8_t *q =
        args->q + pq_token_offset(args->q_strides, rows->batch, rows->group, rows->head, i);
    const size_t visible = pq_visible_keys(args, i);
    for (size_t j = 0; j < n; j++) {
        const int8_t *k = token_of(args->k, args->k_strides, args, rows, first + j);
        const ptrdiff_t key = (ptrdiff_t)(first + j);
        int32_t sum = 0;
        for (size_t c = 0; c < args->head_dim; c++) {
            sum += (q[c] - args->q_zero_point) * k[c];
        }
        if (args->mask_add != NULL) { /* unsigned: only a promise of the caller bounds mask_add */
            const ptrdiff_t at = pq_mask_offset(args->mask_strides, rows, i);
            sum = (int32_t)((uint32_t)sum +
                            (uint32_t)args->mask_add[at + key * args->mask_strides[4]]);
        }
        score[j] = sum;
        keep[j] = first + j < visible;
        if (args->keep != NULL) {
            const ptrdiff_t at = pq_mask_offset(args->keep_strides, rows, i);
            keep[j] = keep[j] && args->keep[at + key * args->keep_strides[4]] != 0;
        }
    }
}

/* Before the first key there is nothing to rescale, whatever the distance from INT32_MIN is. */
static void move_maximum(const pq_attention_args *args, int32_t highest, sums *row) {
    const uint32_t delta = (uint32_t)highest - (uint32_t)row->highest;
    const pq_dyadic factor = pq_online_factor(&args->softmax, delta);
    row->highest = highest;
    row->l = (uint32_t)pq_rnu(row->l, factor.multiplier, factor.shift);
    for (size_t c = 0; c < args->head_dim; c++) {
        row->o[c] = (int32_t)pq_rnu(row->o[c], factor.multiplier, factor.shift);
    }
}

static void add_block(const pq_attention_args *args, const pq_attention_rows *rows, size_t i,
                      size_t first, sums *row) {
    const size_t n = least(BLOCK, args->k_len - first);
    int32_t score[BLOCK], highest = row->highest;
    bool keep[BLOCK];
    block_scores(args, rows, i, first, n, score, keep);
    for (size_t j = 0; j < n; j++) {
        highest = keep[j] && score[j] > highest ? score[j] : highest;
    }
    move_maximum(args, highest, row);
    for (size_t j = 0; j < n; j++) {
        if (!keep[j]) {
            continue;
        }
        const int8_t *v = token_of(args->v, args->v_strides, args, rows, first + j);
        const uint32_t delta = (uint32_t)highest - (uint32_t)score[j];
        const int32_t p = pq_softmax_table_weight(&args->softmax, delta);
        row->l += (uint32_t)p;
        for (size_t c = 0; c < args->head_dim; c++) {
            row->o[c] += p * (v[c] - args->v_zero_point);
        }
    }
}

static void run(const pq_attention_args *args, const pq_attention_rows *rows, void *scratch) {
    for (size_t i = rows->begin; i < rows->end; i++) {
        sums row = {.highest = INT32_MIN, .o = scratch, .l = 0};
        for (size_t c = 0; c < args->head_dim; c++) {
            row.o[c] = 0;
        }
        for (size_t first = 0; first < args->k_len; first += BLOCK) {
            add_block(args, rows, i, first, &row);
        }
        const pq_dyadic scale = pq_softmax_normalizer(args->requant, row.l == 0 ? 1 : row.l);
        int8_t *y =
            args->y + pq_token_offset(args->y_strides, rows->batch, rows->group, rows->head, i);
        for (size_t c = 0; c < args->head_dim; c++) {
            y[c] = (int8_t)pq_requantize(row.o[c], scale.multiplier, scale.shift, args->out);
        }
    }
}

static size_t one_row(const pq_attention_args *args) {
    (void)args;
    return 1;
}

static size_t scratch_size(const pq_attention_args *args) {
    return pq_round_up(sizeof(int32_t) * args->head_dim, 64);
}

const struct pq_attention_online64_s8_kernel pq_attention_online64_s8_ref = {
    .rows = one_row,
    .scratch_size = scratch_size,
    .run = run,
    .macs_per_ms = 500 * 1000,
};
