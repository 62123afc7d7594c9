/* gemm_s8s8 on AVX-512 without VNNI (Skylake-X): vpmaddwd on operands
 * widened to s16, as on AVX2 (gemm_s8s8_avx2.c).
 *
 * Tile: 6 rows x 64 columns, 24 accumulators + 4 weights + 1 broadcast + 1 product = 30 of 32
 * registers. Per two k it loads 4 vectors and 6 broadcasts for 24 vpmaddwd.
 *
 * No chains (gemm_chains.h): these cores multiply on two ports, where a chain of two saves one
 * instruction in eight; and the proof would have to hold for the 128 lanes of 64 columns.
 */
#include "gemm/gemm_avx512.h"
#include "gemm/gemm_widened.h"

enum { ROWS = 6, LANES = PQ_GEMM_AVX512_LANES, VECTORS = 4, COLUMNS = VECTORS * LANES };

#define INLINE PQ_GEMM_INLINE

INLINE __m512i widen_32(const int8_t *from) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)from));
}

static void widen(const int8_t *from, size_t count, int16_t *to) {
    size_t i = 0;
    for (; i + 32 <= count; i += 32) {
        _mm512_storeu_si512(to + i, widen_32(from + i));
    }
    for (; i < count; i++) {
        to[i] = from[i];
    }
}

/* sums = (first ? 0 : sums) + x * w over `pairs` of k. `w` is s8 if narrow, else s16. */
INLINE void tile(int rows, bool narrow, bool first, const int16_t *x, size_t stride, const void *w,
                 size_t pairs, int32_t *sums) {
    __m512i acc[ROWS][VECTORS];
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        PQ_UNROLL
        for (int c = 0; c < VECTORS; c++) {
            acc[i][c] =
                first ? _mm512_setzero_si512() : pq_gemm_load(sums + i * COLUMNS + c * LANES);
        }
    }
    const int8_t *w8 = w;
    const int16_t *w16 = w;
    for (size_t p = 0; p < pairs; p++) {
        __m512i v[VECTORS];
        PQ_UNROLL
        for (int c = 0; c < VECTORS; c++) {
            v[c] = narrow ? widen_32(w8 + c * 32) : pq_gemm_load(w16 + c * 32);
        }
        w8 += 2 * COLUMNS;
        w16 += 2 * COLUMNS;
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            const __m512i pair = pq_gemm_broadcast(x + (size_t)i * stride);
            PQ_UNROLL
            for (int c = 0; c < VECTORS; c++) {
                acc[i][c] = _mm512_add_epi32(acc[i][c], _mm512_madd_epi16(pair, v[c]));
            }
        }
        x += 2;
    }
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        PQ_UNROLL
        for (int c = 0; c < VECTORS; c++) {
            _mm512_storeu_si512(sums + i * COLUMNS + c * LANES, acc[i][c]);
        }
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

static void finish(const pq_gemm_weights *weights, const pq_gemm_block *block, size_t row,
                   size_t rows, size_t j, size_t columns, const int32_t *sums) {
    pq_gemm_finish_tile(weights, block, row, rows, j, columns, COLUMNS, sums);
}

static const pq_gemm_widened how = {.row_tile = ROWS,
                                    .column_tile = COLUMNS,
                                    .widen = widen,
                                    .tile = tile_wide,
                                    .tile_narrow = tile_narrow,
                                    .finish = finish};

static size_t workspace_size(const pq_gemm_blocking *blocking) {
    return pq_gemm_widened_workspace(&how, blocking);
}

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    pq_gemm_widened_run(&how, weights, block, workspace);
}

const struct pq_gemm_s8s8_kernel pq_gemm_s8s8_avx512 = {
    .row_tile = ROWS,
    .column_tile = COLUMNS,
    .k_group = 2,
    .lanes = LANES,
    .x_offset = 0,
    .x_bytes = 2,
    .w_bytes = 2,
    .block_macs = (size_t)1 << 26, /* the bound of AVX2, which such CPUs pass */
    .workspace = workspace_size,
    .run = run,
};
