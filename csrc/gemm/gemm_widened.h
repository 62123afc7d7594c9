/* A block of a product by vpmaddwd on operands widened to s16, whatever the width of the vectors.
 *
 * Both operands are widened into the workspace, not in the tile: there, the widening instructions
 * would compete with the additions for ports. Weights are kept as s8 (half the memory), a panel is
 * widened once for all row tiles of a block. A block of one row tile reads the s8 panel directly.
 */
#ifndef PYQUANT_GEMM_GEMM_WIDENED_H
#define PYQUANT_GEMM_GEMM_WIDENED_H

#include <stdbool.h>

#include "gemm/gemm_s8s8_kernel.h"

/* What depends on the vectors. A tile adds `pairs` of k to sums (first: begins them). */
typedef struct pq_gemm_widened {
    size_t row_tile, column_tile;
    void (*widen)(const int8_t *from, size_t count, int16_t *to);
    void (*tile)(size_t rows, bool first, const int16_t *x, size_t stride, const int16_t *w,
                 size_t pairs, int32_t *sums);
    void (*tile_narrow)(size_t rows, bool first, const int16_t *x, size_t stride, const int8_t *w,
                        size_t pairs, int32_t *sums);
    void (*finish)(const pq_gemm_weights *weights, const pq_gemm_block *block, size_t row,
                   size_t rows, size_t j, size_t columns, const int32_t *sums);
} pq_gemm_widened;

/* The pieces of the workspace. */
typedef struct pq_gemm_widened_scratch {
    int16_t *x, *w;    /* rows, and a panel, widened */
    int32_t *sums;     /* tile by tile, panel by panel */
    size_t stride;     /* between widened rows, in elements */
    size_t panel_sums; /* of the sums */
} pq_gemm_widened_scratch;

/* One panel against all rows of the block, k in [begin, end). */
static inline void pq_gemm_widened_panel(const pq_gemm_widened *how, const pq_gemm_weights *weights,
                                         const pq_gemm_block *block, size_t j, size_t k_begin,
                                         size_t k_end, const pq_gemm_widened_scratch *s) {
    const size_t columns = how->column_tile, pairs = (k_end - k_begin + 1) / 2;
    const bool first = k_begin == 0, last = k_end == weights->k;
    const int8_t *w = weights->panels + j / columns * weights->panel_size + k_begin * columns;
    const bool narrow = block->rows <= how->row_tile;
    if (!narrow) {
        how->widen(w, pairs * 2 * columns, s->w);
    }
    int32_t *sums = s->sums + (j - block->column_begin) / columns * s->panel_sums;
    for (size_t i = 0; i < block->rows; i += how->row_tile) {
        const size_t rows = pq_min_size(how->row_tile, block->rows - i);
        const int16_t *x = s->x + i * s->stride;
        if (narrow) {
            how->tile_narrow(rows, first, x, s->stride, w, pairs, sums);
        } else {
            how->tile(rows, first, x, s->stride, s->w, pairs, sums);
        }
        if (last) {
            how->finish(weights, block, i, rows, j, pq_min_size(columns, block->column_end - j),
                        sums);
        }
        /* Sums of a tile that is finished at once stay in one place, in L1. */
        sums += first && last ? 0 : how->row_tile * columns;
    }
}

/* An odd number of cache lines (blocking.k is an even one), so that rows spread over cache sets. */
static inline size_t pq_gemm_widened_stride(size_t k) {
    return k + 32;
}

static inline size_t pq_gemm_widened_workspace(const pq_gemm_widened *how,
                                               const pq_gemm_blocking *b) {
    const size_t tile = how->row_tile * how->column_tile, sums = b->sums > tile ? b->sums : tile;
    return b->k * how->column_tile * sizeof(int16_t) +
           b->rows * pq_gemm_widened_stride(b->k) * sizeof(int16_t) + sums * sizeof(int32_t);
}

/* k values of each row; one more zero where k is odd. Nothing behind a row is read. */
static inline void pq_gemm_widened_rows(const pq_gemm_widened *how, const pq_gemm_block *block,
                                        size_t k_begin, size_t k_end,
                                        const pq_gemm_widened_scratch *s) {
    for (size_t i = 0; i < block->rows; i++) {
        int16_t *to = s->x + i * s->stride;
        how->widen(block->x + i * block->ldx + k_begin, k_end - k_begin, to);
        to[k_end - k_begin] = 0;
    }
}

static inline void pq_gemm_widened_run(const pq_gemm_widened *how, const pq_gemm_weights *weights,
                                       const pq_gemm_block *block, void *workspace) {
    const pq_gemm_blocking *b = &weights->blocking;
    const size_t stride = pq_gemm_widened_stride(b->k);
    int16_t *w = workspace;
    int16_t *x = w + b->k * how->column_tile;
    const pq_gemm_widened_scratch s = {
        .x = x,
        .w = w,
        .sums = (int32_t *)(void *)(x + b->rows * stride),
        .stride = stride,
        .panel_sums = b->sums == 0 ? 0 : b->rows * how->column_tile,
    };
    size_t k_begin = 0;
    do { /* once for k = 0 too: y is then the bias */
        const size_t k_end = pq_min_size(k_begin + b->k, weights->k);
        if (k_end > k_begin) {
            pq_gemm_widened_rows(how, block, k_begin, k_end, &s);
        }
        for (size_t j = block->column_begin; j < block->column_end; j += how->column_tile) {
            pq_gemm_widened_panel(how, weights, block, j, k_begin, k_end, &s);
        }
        k_begin = k_end;
    } while (k_begin < weights->k);
}

#endif
