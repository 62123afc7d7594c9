/* gemm_s8s8 on the AArch64 dot product: s8 x s8, four products a lane, summed modulo 2^32 in the
 * register tile of core/neon_dot.h. Nothing saturates and no operand needs an offset. */
#include <stdbool.h>

#include "gemm/gemm_neon.h"

enum { ROWS = PQ_DOT_ROWS, COLUMNS = PQ_DOT_COLUMNS, TILE = PQ_GEMM_NEON_TILE };

static __attribute__((noinline)) void multiply(size_t rows, const pq_dot_tile *tile) {
    pq_dot_rows(rows, PQ_DOT_S8, tile);
}

/* One panel of 16 columns against all rows of the block, k in [begin, end). */
static void run_panel(const pq_gemm_weights *weights, const pq_gemm_block *block, size_t j,
                      size_t k_begin, size_t k_end, int32_t *sums) {
    const bool first = k_begin == 0, last = k_end == weights->k;
    const int8_t *w = weights->panels + j / COLUMNS * weights->panel_size + k_begin * COLUMNS;
    for (size_t row = 0; row < block->rows; row += ROWS) {
        const size_t rows = pq_min_size(ROWS, block->rows - row);
        const int8_t *x = block->x == NULL ? NULL : block->x + row * block->ldx + k_begin;
        pq_gemm_sum_tile(multiply, rows, x, block->ldx, w, k_end - k_begin,
                         first ? pq_dot_zeros : sums, first ? 0 : COLUMNS, sums);
        if (last) {
            pq_gemm_finish_tile(weights, block, row, rows, j,
                                pq_min_size(COLUMNS, block->column_end - j), sums);
        }
        /* Sums of a tile that is finished at once stay in one place, in L1. */
        sums += first && last ? 0 : TILE;
    }
}

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    const pq_gemm_blocking *b = &weights->blocking;
    size_t k_begin = 0;
    do { /* once for k = 0 too: y is then the bias */
        const size_t k_end = pq_min_size(k_begin + b->k, weights->k);
        int32_t *sums = workspace;
        for (size_t j = block->column_begin; j < block->column_end; j += COLUMNS) {
            run_panel(weights, block, j, k_begin, k_end, sums);
            sums += b->sums == 0 ? 0 : b->rows * COLUMNS;
        }
        k_begin = k_end;
    } while (k_begin < weights->k);
}

static size_t workspace_size(const pq_gemm_blocking *b) {
    return (b->sums > TILE ? b->sums : TILE) * sizeof(int32_t);
}

const struct pq_gemm_s8s8_kernel pq_gemm_s8s8_neondot = {
    .row_tile = ROWS,
    .column_tile = COLUMNS,
    .k_group = 4,
    .lanes = PQ_GEMM_NEON_LANES,
    .x_offset = 0,
    .x_bytes = 1,
    .w_bytes = 1,
    .block_macs = (size_t)1 << 25, /* 4 ms at 8 multiply-adds a cycle and 1 GHz */
    .workspace = workspace_size,
    .run = run,
};
