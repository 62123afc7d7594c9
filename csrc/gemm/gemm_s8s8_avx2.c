/* gemm_s8s8 on AVX2: exact, by vpmaddwd on operands widened to s16.
 *
 * vpmaddubsw would do twice the products an instruction, but it saturates: 255 * (w0 + w1) passes
 * 32767 for ordinary weights. vpmaddwd of s8 values cannot: |sum| <= 2 * 2^14.
 *
 * Tile: 6 rows x 16 columns, 12 accumulators + 2 weights + 1 broadcast + 1 product = 16 registers.
 * Per two k it loads 2 vectors and 6 broadcasts for 12 vpmaddwd, so that the multiplier is the
 * limit, not the load ports. (4 x 24 would load 7 vectors instead of 8, but needs 17 registers.)
 */
#include "gemm/gemm_avx2.h"
#include "gemm/gemm_chains.h"
#include "gemm/gemm_widened.h"

enum { ROWS = 6, COLUMNS = PQ_GEMM_AVX2_COLUMNS };

#define INLINE PQ_GEMM_INLINE

static void widen(const int8_t *from, size_t count, int16_t *to) {
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        pq_gemm_store(to + i, pq_gemm_widen(from + i));
    }
    for (; i < count; i++) {
        to[i] = from[i];
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

static const pq_gemm_widened how = {.row_tile = ROWS,
                                    .column_tile = COLUMNS,
                                    .widen = widen,
                                    .tile = tile_wide,
                                    .tile_narrow = tile_narrow,
                                    .finish = pq_gemm_finish_tile};

static size_t workspace_size(const pq_gemm_blocking *blocking) {
    return pq_gemm_widened_workspace(&how, blocking);
}

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    pq_gemm_widened_run(&how, weights, block, workspace);
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
