/* gemm_s8s8 on the AArch64 dot product: s8 x s8, four products a lane, summed modulo 2^32 in the
 * register tile of core/neon_dot.h. Nothing saturates and no operand needs an offset.
 *
 * x is read in place, row by row, 16 bytes at a time; only the last k % 16 of a row are copied, so
 * that nothing behind it is read. Panels are padded to four k.
 */
#include <stdbool.h>
#include <string.h>

#include "core/neon_dot.h"
#include "gemm/gemm_neon.h"

enum { ROWS = PQ_DOT_ROWS, COLUMNS = PQ_DOT_COLUMNS, STEP = PQ_DOT_STEP, TILE = ROWS * COLUMNS };

_Static_assert((int)COLUMNS == (int)PQ_GEMM_NEON_COLUMNS, "the epilogue reads rows of a tile");

static void multiply(size_t rows, const pq_dot_tile *tile) {
    pq_dot_rows(rows, false, tile);
}

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

/* sums = (first ? 0 : sums) + x * w over k. */
static void run_tile(size_t rows, bool first, const int8_t *x, size_t ldx, const int8_t *w,
                     size_t k, int32_t *sums) {
    const size_t steps = k / STEP, tail = k % STEP;
    int8_t padded[ROWS * STEP];
    if (tail > 0) {
        memset(padded, 0, sizeof padded);
        for (size_t i = 0; i < rows; i++) {
            memcpy(padded + i * STEP, x + i * ldx + steps * STEP, tail);
        }
    }
    const pq_dot_tile tile = {.a = x,
                              .lda = ldx,
                              .a_step = STEP,
                              .steps = steps,
                              .a_tail = padded,
                              .tail_groups = (tail + 3) / 4,
                              .w = w,
                              .from = first ? pq_dot_zeros : sums,
                              .from_stride = first ? 0 : COLUMNS,
                              .to = sums,
                              .to_stride = COLUMNS};
    multiply(rows, &tile);
}

/* One panel of 16 columns against all rows of the block, k in [begin, end). */
static void run_panel(const pq_gemm_weights *weights, const pq_gemm_block *block, size_t j,
                      size_t k_begin, size_t k_end, int32_t *sums) {
    const bool first = k_begin == 0, last = k_end == weights->k;
    const int8_t *w = weights->panels + j / COLUMNS * weights->panel_size + k_begin * COLUMNS;
    for (size_t row = 0; row < block->rows; row += ROWS) {
        const size_t rows = min_size(ROWS, block->rows - row);
        const int8_t *x = block->x == NULL ? NULL : block->x + row * block->ldx + k_begin;
        run_tile(rows, first, x, block->ldx, w, k_end - k_begin, sums);
        if (last) {
            pq_gemm_finish_tile(weights, block, row, rows, j,
                                min_size(COLUMNS, block->column_end - j), sums);
        }
        /* Sums of a tile that is finished at once stay in one place, in L1. */
        sums += first && last ? 0 : TILE;
    }
}

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    const pq_gemm_blocking *b = &weights->blocking;
    size_t k_begin = 0;
    do { /* once for k = 0 too: y is then the bias */
        const size_t k_end = min_size(k_begin + b->k, weights->k);
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
    .lanes = 1,
    .x_offset = 0,
    .x_bytes = 1,
    .w_bytes = 1,
    .panel_level = 1,
    .block_macs = (size_t)1 << 25, /* 4 ms at 8 multiply-adds a cycle and 1 GHz */
    .workspace = workspace_size,
    .run = run,
};
