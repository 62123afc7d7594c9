/* gemm_s8s8 on the AArch64 dot product: s8 x s8, four products a lane, summed modulo 2^32 in the
 * register tile of core/neon_dot.h. Nothing saturates and no operand needs an offset. */
#include <stdbool.h>

#include "gemm/gemm_neon.h"
#include "gemm/gemm_walk.h"

enum { ROWS = PQ_DOT_ROWS, COLUMNS = PQ_DOT_COLUMNS };

static __attribute__((noinline)) void multiply(size_t rows, const pq_dot_tile *tile) {
    pq_dot_rows(rows, PQ_DOT_S8, tile);
}

static void tile(const pq_gemm_weights *weights, size_t j, size_t rows, const int8_t *x, size_t ldx,
                 size_t begin, size_t end, int32_t *sums) {
    const int8_t *w = weights->panels + j / COLUMNS * weights->panel_size + begin * COLUMNS;
    pq_gemm_sum_tile(multiply, rows, x, ldx, w, end - begin, begin == 0 ? pq_dot_zeros : sums,
                     begin == 0 ? 0 : COLUMNS, sums);
}

static const pq_gemm_walk walk = {
    .row_tile = ROWS, .column_tile = COLUMNS, .tile = tile, .finish = pq_gemm_finish_tile};

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    pq_gemm_walk_run(&walk, weights, block, workspace);
}

static size_t workspace_size(const pq_gemm_blocking *b) {
    return pq_gemm_walk_workspace(&walk, b);
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
