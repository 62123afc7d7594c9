/* The definition, in plain loops. */
#include "gemm/gemm_ref.h"

static int64_t accumulate(const int8_t *x, const int8_t *w, size_t k, int32_t x_zero_point) {
    int64_t acc = 0;
    for (size_t p = 0; p < k; p++) {
        acc += (int64_t)((x[p] - x_zero_point) * w[p]);
    }
    return acc;
}

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    (void)workspace;
    for (size_t i = 0; i < block->rows; i++) {
        for (size_t j = block->column_begin; j < block->column_end; j++) {
            const int64_t acc =
                accumulate(block->x + i * block->ldx, weights->panels + j * weights->panel_size,
                           weights->k, weights->x_zero_point) +
                weights->plain_bias[j];
            pq_gemm_ref_finish(weights, block, i, j, acc);
        }
    }
}

/* A tile of one column and one k: the panels are w itself. */
const struct pq_gemm_s8s8_kernel pq_gemm_s8s8_ref = {
    .row_tile = 1,
    .column_tile = 1,
    .k_group = 1,
    .lanes = 1,
    .x_offset = 0,
    .x_bytes = 1,
    .w_bytes = 1,
    .block_macs = (size_t)1 << 20, /* 0.3 GMAC/s and more: under 4 ms */
    .workspace = pq_gemm_ref_workspace,
    .run = run,
};
