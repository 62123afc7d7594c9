/* The definition, in plain loops. */
#include "gemm/gemm_s8s4_kernel.h"
#include "pyquant/rnu.h"

static int64_t accumulate(const pq_gemm_weights *weights, const int8_t *x, size_t j) {
    const pq_gemm_s8s4_groups *groups = weights->extra;
    const uint8_t *w = (const uint8_t *)weights->panels + j * weights->panel_size;
    int64_t acc = 0;
    for (size_t p = 0; p < weights->k; p++) {
        const int64_t factor = groups->multiplier[j * groups->count + p / groups->size];
        acc += factor * (x[p] - weights->x_zero_point) * pq_s4_get(w, p);
    }
    return acc;
}

static void store(void *y, size_t index, pq_dtype type, int32_t value) {
    if (type == PQ_S8) {
        ((int8_t *)y)[index] = (int8_t)value;
    } else if (type == PQ_S16) {
        ((int16_t *)y)[index] = (int16_t)value;
    } else {
        ((int32_t *)y)[index] = value;
    }
}

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    (void)workspace;
    for (size_t i = 0; i < block->rows; i++) {
        for (size_t j = block->column_begin; j < block->column_end; j++) {
            const int64_t acc =
                accumulate(weights, block->x + i * block->ldx, j) + weights->plain_bias[j];
            const int32_t value = weights->y_type == PQ_S32
                                      ? (int32_t)acc
                                      : pq_requantize(acc, weights->plain_multiplier[j],
                                                      weights->plain_shift[j], weights->out);
            store(block->y, i * block->ldy + j - block->column_begin, weights->y_type, value);
        }
    }
}

static size_t workspace_size(const pq_gemm_blocking *blocking) {
    (void)blocking;
    return 0;
}

/* A tile of one column: the panels are w itself. */
const struct pq_gemm_s8s4_kernel pq_gemm_s8s4_ref = {
    .gemm = {.row_tile = 1,
             .column_tile = 1,
             .k_group = 1,
             .lanes = 1,
             .x_offset = 0,
             .x_bytes = 1,
             .w_bytes = 1,
             .block_macs = (size_t)1 << 20, /* 0.2 GMAC/s and more: under 6 ms */
             .workspace = workspace_size,
             .run = run},
};
