/* The way through a block for kernels that read x in place: cut by cut of k, panel by panel, in row
 * tiles. Sums pass through the workspace between the tile and the epilogue. */
#ifndef PYQUANT_GEMM_GEMM_WALK_H
#define PYQUANT_GEMM_GEMM_WALK_H

#include <stdbool.h>

#include "gemm/gemm_s8s8_kernel.h"

typedef struct pq_gemm_walk {
    size_t row_tile, column_tile;
    /* sums = (begin == 0 ? 0 : sums) + x * w over k in [begin, end) of the panel from column j on.
     * x: rows from k = begin on, ldx elements apart; NULL only where k = 0. */
    void (*tile)(const pq_gemm_weights *weights, size_t j, size_t rows, const int8_t *x, size_t ldx,
                 size_t begin, size_t end, int32_t *sums);
    void (*finish)(const pq_gemm_weights *weights, const pq_gemm_block *block, size_t row,
                   size_t rows, size_t j, size_t columns, const int32_t *sums);
} pq_gemm_walk;

static inline void pq_gemm_walk_panel(const pq_gemm_walk *how, const pq_gemm_weights *weights,
                                      const pq_gemm_block *block, size_t j, size_t begin,
                                      size_t end, int32_t *sums) {
    const bool first = begin == 0, last = end == weights->k;
    for (size_t row = 0; row < block->rows; row += how->row_tile) {
        const size_t rows = pq_min_size(how->row_tile, block->rows - row);
        const int8_t *x = block->x == NULL ? NULL : block->x + row * block->ldx + begin;
        how->tile(weights, j, rows, x, block->ldx, begin, end, sums);
        if (last) {
            how->finish(weights, block, row, rows, j,
                        pq_min_size(how->column_tile, block->column_end - j), sums);
        }
        /* Sums of a tile that is finished at once stay in one place, in L1. */
        sums += first && last ? 0 : how->row_tile * how->column_tile;
    }
}

static inline void pq_gemm_walk_run(const pq_gemm_walk *how, const pq_gemm_weights *weights,
                                    const pq_gemm_block *block, void *workspace) {
    const pq_gemm_blocking *b = &weights->blocking;
    size_t begin = 0;
    do { /* once for k = 0 too: y is then the bias */
        const size_t end = pq_min_size(begin + b->k, weights->k);
        int32_t *sums = workspace;
        for (size_t j = block->column_begin; j < block->column_end; j += how->column_tile) {
            pq_gemm_walk_panel(how, weights, block, j, begin, end, sums);
            sums += b->sums == 0 ? 0 : b->rows * how->column_tile;
        }
        begin = end;
    } while (begin < weights->k);
}

static inline size_t pq_gemm_walk_workspace(const pq_gemm_walk *how, const pq_gemm_blocking *b) {
    const size_t tile = how->row_tile * how->column_tile;
    return pq_max_size(b->sums, tile) * sizeof(int32_t);
}

#endif
