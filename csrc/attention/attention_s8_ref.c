#include "attention/attention_s8_kernel.h"
#include "softmax/softmax_method.h"

#include <string.h>

#include "pyquant/rnu.h"

/* One row's scores (s32), outputs before normalisation (s32), weights (u16), kept keys (u8). */
size_t pq_attention_s8_ref_scratch(const pq_attention_args *args) {
    return pq_round_up(7 * args->k_len + 4 * args->head_dim, 64);
}

/* Unsigned, because nothing but a promise of the caller bounds mask_add. */
static int32_t wrapping_add(int32_t a, int32_t b) {
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

/* score[j] and keep[j] of query i. Returns sum_d (q - z_q), which the true scores need. */
static int32_t row_scores(const pq_attention_args *args, const pq_attention_rows *rows, size_t i,
                          int32_t *score, uint8_t *keep) {
    const size_t kv_head = rows->head / (args->heads / args->kv_heads);
    const int8_t *q =
        args->q + pq_token_offset(args->q_strides, rows->batch, rows->group, rows->head, i);
    const size_t visible = pq_visible_keys(args, i);
    for (size_t j = 0; j < args->k_len; j++) {
        const int8_t *k =
            args->k + pq_token_offset(args->k_strides, rows->batch, rows->group, kv_head, j);
        int32_t sum = 0;
        for (size_t c = 0; c < args->head_dim; c++) {
            sum += (q[c] - args->q_zero_point) * k[c];
        }
        if (args->mask_add != NULL) {
            const ptrdiff_t at = pq_mask_offset(args->mask_strides, rows, i);
            sum = wrapping_add(sum, args->mask_add[at + (ptrdiff_t)j * args->mask_strides[4]]);
        }
        score[j] = sum;
        keep[j] = j < visible;
        if (args->keep != NULL) {
            const ptrdiff_t at = pq_mask_offset(args->keep_strides, rows, i);
            keep[j] = keep[j] && args->keep[at + (ptrdiff_t)j * args->keep_strides[4]] != 0;
        }
    }
    int32_t q_sum = 0;
    for (size_t c = 0; c < args->head_dim; c++) {
        q_sum += q[c] - args->q_zero_point;
    }
    return q_sum;
}

/* o[c] = sum_j P[j] * v[j][c], then normalised and requantized. */
static void row_output(const pq_attention_args *args, const pq_attention_rows *rows, size_t i,
                       const uint16_t *p, pq_softmax_sums sums, int32_t *o) {
    const size_t kv_head = rows->head / (args->heads / args->kv_heads);
    for (size_t c = 0; c < args->head_dim; c++) {
        o[c] = 0;
    }
    for (size_t j = 0; j < args->k_len; j++) {
        const int8_t *v =
            args->v + pq_token_offset(args->v_strides, rows->batch, rows->group, kv_head, j);
        for (size_t c = 0; c < args->head_dim; c++) {
            o[c] += p[j] * v[c];
        }
    }
    const pq_dyadic scale = pq_softmax_normalizer(args->requant, sums.divisor);
    int8_t *y = args->y + pq_token_offset(args->y_strides, rows->batch, rows->group, rows->head, i);
    for (size_t c = 0; c < args->head_dim; c++) {
        const int64_t value = o[c] - (int64_t)args->v_zero_point * sums.weights;
        y[c] = (int8_t)pq_requantize(value, scale.multiplier, scale.shift, args->out);
    }
}

static void write_trace(const pq_attention_args *args, const pq_attention_rows *rows, size_t i,
                        const int32_t *score, int32_t q_sum, const uint16_t *p, uint32_t divisor,
                        const pq_attention_trace *trace) {
    const size_t head = (rows->batch * args->groups + rows->group) * args->heads + rows->head;
    const size_t row = head * args->q_len + i;
    if (trace->score != NULL) {
        /* |sum (q - z_q) (k - z_k)| + 2^24 <= 255^2 * 32767 + 2^24 < 2^31: it fits */
        const int32_t offset = (int32_t)(0U - (uint32_t)args->k_zero_point * (uint32_t)q_sum);
        for (size_t j = 0; j < args->k_len; j++) {
            trace->score[row * args->k_len + j] = wrapping_add(score[j], offset);
        }
    }
    if (trace->p != NULL && args->k_len != 0) {
        memcpy(trace->p + row * args->k_len, p, args->k_len * sizeof *p);
    }
    if (trace->l != NULL) {
        trace->l[row] = divisor;
    }
}

void pq_attention_s8_ref_rows(const pq_attention_args *args, const pq_attention_rows *rows,
                              void *scratch, const pq_attention_trace *trace) {
    pq_softmax_ref_fn *const softmax = pq_softmax_ref_of(args->softmax.method);
    int32_t *score = scratch;
    int32_t *o = score + args->k_len;
    uint16_t *p = (uint16_t *)(void *)(o + args->head_dim);
    uint8_t *keep = (uint8_t *)(p + args->k_len);
    for (size_t i = rows->begin; i < rows->end; i++) {
        const int32_t q_sum = row_scores(args, rows, i, score, keep);
        const pq_softmax_sums sums = softmax(&args->softmax, args->k_len, score, keep, p);
        row_output(args, rows, i, p, sums, o);
        if (trace != NULL) {
            write_trace(args, rows, i, score, q_sum, p, sums.divisor, trace);
        }
    }
}

static size_t one_row(const pq_attention_args *args) {
    (void)args;
    return 1;
}

static size_t nothing_packed(const pq_attention_args *args) {
    (void)args;
    return 0;
}

static void run(const pq_attention_args *args, const pq_attention_rows *rows, const void *packed,
                void *scratch) {
    (void)packed;
    pq_attention_s8_ref_rows(args, rows, scratch, NULL);
}

const struct pq_attention_s8_kernel pq_attention_s8_ref = {
    .rows = one_row,
    .packed_size = nothing_packed,
    .scratch_size = pq_attention_s8_ref_scratch,
    .pack = NULL,
    .run = run,
    .pack_step = 1,
    .macs_per_ms = 500 * 1000,
};
