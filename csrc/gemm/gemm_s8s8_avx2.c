/* gemm_s8s8 on AVX2: exact, by vpmaddwd on operands widened to s16.
 *
 * vpmaddubsw would do twice the products an instruction, but it saturates: 255 * (w0 + w1) passes
 * 32767 for ordinary weights. vpmaddwd of s8 values cannot: |sum| <= 2 * 2^14.
 *
 * Tile: 6 rows x 16 columns, 12 accumulators + 2 weights + 1 broadcast + 1 product = 16 registers.
 * Per two k it loads 2 vectors and 6 broadcasts for 12 vpmaddwd, so that the multiplier is the
 * limit, not the load ports. (4 x 24 would load 7 vectors instead of 8, but needs 17 registers.)
 *
 * Both operands are widened into the workspace, not in the tile: there, vpmovsxbw would compete
 * with vpaddd for ports (2 in 26). Weights are kept as s8 (half the memory), a panel is widened
 * once for all row tiles of a block: 1/16 of the loads for 16 tiles. A block of one row tile reads
 * the s8 panel directly.
 */
#include <stdbool.h>

#include "gemm/gemm_avx2.h"
#include "gemm/gemm_chains.h"

enum { ROWS = 6, COLUMNS = PQ_GEMM_AVX2_COLUMNS, TILE = ROWS * COLUMNS };

/* The pieces of the workspace. */
typedef struct scratch {
    int16_t *x, *w;    /* rows, and a panel, widened */
    int32_t *sums;     /* tile by tile, panel by panel */
    size_t stride;     /* between widened rows, in elements */
    size_t panel_sums; /* of the sums */
} scratch;

#define INLINE PQ_GEMM_INLINE

/* k values of each row; one more zero where k is odd. Nothing behind a row is read. */
static void widen_rows(const int8_t *x, size_t ldx, size_t rows, size_t k, size_t stride,
                       int16_t *out) {
    for (size_t i = 0; i < rows; i++, x += ldx, out += stride) {
        size_t p = 0;
        for (; p + 16 <= k; p += 16) {
            pq_gemm_store(out + p, pq_gemm_widen(x + p));
        }
        for (; p < k; p++) {
            out[p] = x[p];
        }
        out[p] = 0;
    }
}

static void widen_panel(const int8_t *w, size_t pairs, int16_t *out) {
    for (size_t i = 0; i < pairs * 2 * COLUMNS; i += 16) {
        pq_gemm_store(out + i, pq_gemm_widen(w + i));
    }
}

/* sums = (first ? 0 : sums) + x * w over `pairs` of k. `w` is s8 if narrow, else s16. */
INLINE void tile(int rows, bool narrow, bool first, const int16_t *x, size_t stride, const void *w,
                 size_t pairs, int32_t *sums) {
    __m256i acc[ROWS][2];
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        acc[i][0] = first ? _mm256_setzero_si256() : pq_gemm_load(sums + i * COLUMNS);
        acc[i][1] = first ? _mm256_setzero_si256() : pq_gemm_load(sums + i * COLUMNS + 8);
    }
    const int8_t *w8 = w;
    const int16_t *w16 = w;
    for (size_t p = 0; p < pairs; p++) {
        const __m256i w0 = narrow ? pq_gemm_widen(w8) : pq_gemm_load(w16);
        const __m256i w1 = narrow ? pq_gemm_widen(w8 + 16) : pq_gemm_load(w16 + 16);
        w8 += 2 * COLUMNS;
        w16 += 2 * COLUMNS;
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            const __m256i pair = pq_gemm_broadcast(x + (size_t)i * stride);
            acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(pair, w0));
            acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(pair, w1));
        }
        x += 2;
    }
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        pq_gemm_store(sums + i * COLUMNS, acc[i][0]);
        pq_gemm_store(sums + i * COLUMNS + 8, acc[i][1]);
    }
}

/* `rows` becomes a constant, so that the accumulators are registers. */
INLINE void tile_rows(size_t rows, bool narrow, bool first, const int16_t *x, size_t stride,
                      const void *w, size_t pairs, int32_t *sums) {
    switch (rows) {
    case 1: tile(1, narrow, first, x, stride, w, pairs, sums); break;
    case 2: tile(2, narrow, first, x, stride, w, pairs, sums); break;
    case 3: tile(3, narrow, first, x, stride, w, pairs, sums); break;
    case 4: tile(4, narrow, first, x, stride, w, pairs, sums); break;
    case 5: tile(5, narrow, first, x, stride, w, pairs, sums); break;
    default: tile(6, narrow, first, x, stride, w, pairs, sums); break;
    }
}

/* `first` stays a variable outside the loop over k: half the code, and no cost. */
static void tile_wide(size_t rows, bool first, const int16_t *x, size_t stride, const int16_t *w,
                      size_t pairs, int32_t *sums) {
    tile_rows(rows, false, first, x, stride, w, pairs, sums);
}

static void tile_narrow(size_t rows, bool first, const int16_t *x, size_t stride, const int8_t *w,
                        size_t pairs, int32_t *sums) {
    tile_rows(rows, true, first, x, stride, w, pairs, sums);
}

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

/* One panel of 16 columns against all rows of the block, k in [begin, end). */
static void run_panel(const pq_gemm_weights *weights, const pq_gemm_block *block, size_t j,
                      size_t k_begin, size_t k_end, const scratch *s) {
    const size_t pairs = (k_end - k_begin + 1) / 2;
    const bool first = k_begin == 0, last = k_end == weights->k;
    const int8_t *w = weights->panels + j / COLUMNS * weights->panel_size + k_begin * COLUMNS;
    const bool narrow = block->rows <= ROWS;
    if (!narrow) {
        widen_panel(w, pairs, s->w);
    }
    int32_t *sums = s->sums + (j - block->column_begin) / COLUMNS * s->panel_sums;
    for (size_t i = 0; i < block->rows; i += ROWS) {
        const size_t tile_height = min_size(ROWS, block->rows - i);
        const int16_t *x = s->x + i * s->stride;
        if (narrow) {
            tile_narrow(tile_height, first, x, s->stride, w, pairs, sums);
        } else {
            tile_wide(tile_height, first, x, s->stride, s->w, pairs, sums);
        }
        if (last) {
            pq_gemm_finish_tile(weights, block, i, tile_height, j,
                                min_size(COLUMNS, block->column_end - j), sums);
        }
        /* Sums of a tile that is finished at once stay in one place, in L1. */
        sums += first && last ? 0 : TILE;
    }
}

/* An odd number of cache lines (blocking.k is an even one), so that rows spread over cache sets. */
static size_t row_stride(size_t k) {
    return k + 32;
}

static size_t workspace_size(const pq_gemm_blocking *b) {
    const size_t sums = b->sums > TILE ? b->sums : TILE;
    return b->k * COLUMNS * 2 + b->rows * row_stride(b->k) * 2 + sums * 4;
}

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    const pq_gemm_blocking *b = &weights->blocking;
    const size_t stride = row_stride(b->k);
    int16_t *w = workspace;
    int16_t *x = w + b->k * COLUMNS;
    const scratch s = {.x = x,
                       .w = w,
                       .sums = (int32_t *)(void *)(x + b->rows * stride),
                       .stride = stride,
                       .panel_sums = b->sums == 0 ? 0 : b->rows * COLUMNS};
    size_t k_begin = 0;
    do { /* once for k = 0 too: y is then the bias */
        const size_t k_end = min_size(k_begin + b->k, weights->k);
        if (k_end > k_begin) {
            widen_rows(block->x + k_begin, block->ldx, block->rows, k_end - k_begin, stride, x);
        }
        for (size_t j = block->column_begin; j < block->column_end; j += COLUMNS) {
            run_panel(weights, block, j, k_begin, k_end, &s);
        }
        k_begin = k_end;
    } while (k_begin < weights->k);
}

const struct pq_gemm_s8s8_kernel pq_gemm_s8s8_avx2 = {
    .chains = &pq_gemm_chains_avx2,
    .row_tile = ROWS,
    .column_tile = COLUMNS,
    .k_group = 2,
    .lanes = 8,
    .x_offset = 0,
    .x_bytes = 2,
    .w_bytes = 2,
    .block_macs = (size_t)1 << 26, /* 16 GMAC/s on the slowest CPU met: 4 ms */
    .workspace = workspace_size,
    .run = run,
};
