/* gemm_s8s8 on AVX-512 VNNI: vpdpbusd, four u8 x s8 products a lane, summed in s32 (exact: the
 * instruction without the final s saturates nowhere).
 *
 * x is the unsigned operand: x XOR 0x80 = x + 128 as u8, and packing takes 128 * sum(w) off the
 * bias. The XOR costs one instruction for four vpdpbusd.
 *
 * Tile: 6 rows x 64 columns, 24 accumulators + 4 weights + 1 broadcast + the sign = 30 of 32
 * registers. Per four k: 4 weight loads and 6 broadcasts for 24 vpdpbusd. x is read in
 * place, row by row, four bytes at a time. (gcc 12 spills the tile unless built with -fno-tree-pre:
 * csrc/flags.mk.)
 */
#include <stdbool.h>
#include <string.h>

#include "gemm/gemm_avx512.h"
#include "gemm/gemm_walk.h"

enum { ROWS = 6, COLUMNS = 64, LANES = PQ_GEMM_AVX512_LANES };

#define INLINE PQ_GEMM_INLINE

/* sums = (first ? 0 : sums) + (x + 128) * w over `groups` of four k; `rows` is a constant where
 * this is inlined, so that the accumulators are registers. */
INLINE void tile(int rows, bool first, const int8_t *x, size_t ldx, const int8_t *w, size_t groups,
                 int32_t *sums) {
    const __m512i sign = _mm512_set1_epi32((int)0x80808080u);
    __m512i acc[ROWS][4];
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        PQ_UNROLL
        for (int c = 0; c < 4; c++) {
            acc[i][c] =
                first ? _mm512_setzero_si512() : pq_gemm_load(sums + i * COLUMNS + c * LANES);
        }
    }
    for (size_t p = 0; p < groups; p++) {
        const __m512i w0 = pq_gemm_load(w), w1 = pq_gemm_load(w + 64), w2 = pq_gemm_load(w + 128),
                      w3 = pq_gemm_load(w + 192);
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            const __m512i v = _mm512_xor_si512(pq_gemm_broadcast(x + (size_t)i * ldx), sign);
            acc[i][0] = _mm512_dpbusd_epi32(acc[i][0], v, w0);
            acc[i][1] = _mm512_dpbusd_epi32(acc[i][1], v, w1);
            acc[i][2] = _mm512_dpbusd_epi32(acc[i][2], v, w2);
            acc[i][3] = _mm512_dpbusd_epi32(acc[i][3], v, w3);
        }
        x += 4;
        w += 4 * COLUMNS;
    }
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        PQ_UNROLL
        for (int c = 0; c < 4; c++) {
            _mm512_storeu_si512(sums + i * COLUMNS + c * LANES, acc[i][c]);
        }
    }
}

static void tile_rows(size_t rows, bool first, const int8_t *x, size_t ldx, const int8_t *w,
                      size_t groups, int32_t *sums) {
    switch (rows) {
    case 1: tile(1, first, x, ldx, w, groups, sums); break;
    case 2: tile(2, first, x, ldx, w, groups, sums); break;
    case 3: tile(3, first, x, ldx, w, groups, sums); break;
    case 4: tile(4, first, x, ldx, w, groups, sums); break;
    case 5: tile(5, first, x, ldx, w, groups, sums); break;
    default: tile(6, first, x, ldx, w, groups, sums); break;
    }
}

/* The last k % 4: copied out, so that nothing behind a row of x is read; their missing partners
 * meet zero weights. */
static void tile_tail(size_t rows, const int8_t *x, size_t ldx, const int8_t *w, size_t tail,
                      int32_t *sums) {
    int8_t padded[ROWS * 4] = {0};
    for (size_t i = 0; i < rows; i++) {
        memcpy(padded + i * 4, x + i * ldx, tail);
    }
    tile_rows(rows, false, padded, 4, w, 1, sums);
}

static void tile_k(const pq_gemm_weights *weights, size_t j, size_t rows, const int8_t *x,
                   size_t ldx, size_t begin, size_t end, int32_t *sums) {
    const int8_t *w = weights->panels + j / COLUMNS * weights->panel_size + begin * COLUMNS;
    const size_t groups = (end - begin) / 4, tail = (end - begin) % 4;
    tile_rows(rows, begin == 0, x, ldx, w, groups, sums);
    if (tail > 0) {
        tile_tail(rows, x + groups * 4, ldx, w + groups * 4 * COLUMNS, tail, sums);
    }
}

static void finish(const pq_gemm_weights *weights, const pq_gemm_block *block, size_t row,
                   size_t rows, size_t j, size_t columns, const int32_t *sums) {
    pq_gemm_finish_tile(weights, block, row, rows, j, columns, COLUMNS, sums);
}

static const pq_gemm_walk walk = {
    .row_tile = ROWS, .column_tile = COLUMNS, .tile = tile_k, .finish = finish};

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    pq_gemm_walk_run(&walk, weights, block, workspace);
}

static size_t workspace_size(const pq_gemm_blocking *b) {
    return pq_gemm_walk_workspace(&walk, b);
}

const struct pq_gemm_s8s8_kernel pq_gemm_s8s8_avx512vnni = {
    .row_tile = ROWS,
    .column_tile = COLUMNS,
    .k_group = 4,
    .lanes = LANES,
    .x_offset = 128,
    .x_bytes = 1,
    .w_bytes = 1,
    .block_macs = (size_t)1 << 27, /* 3 ms at 50 GMAC/s, a fifth of what such CPUs do */
    .workspace = workspace_size,
    .run = run,
};
