/* The definition, in plain loops. */
#include "gemm/gemm_ref.h"
#include "gemm/gemm_s8s4_kernel.h"

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

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    (void)workspace;
    for (size_t i = 0; i < block->rows; i++) {
        for (size_t j = block->column_begin; j < block->column_end; j++) {
            const int64_t acc =
                accumulate(weights, block->x + i * block->ldx, j) + weights->plain_bias[j];
            pq_gemm_ref_finish(weights, block, i, j, acc);
        }
    }
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
             .workspace = pq_gemm_ref_workspace,
             .run = run},
};
