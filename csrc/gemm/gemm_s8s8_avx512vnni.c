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
 *
 * Blocking: k is cut at 2048, so that a panel (128 KiB) and 96 rows of x (192 KiB) stay in L2
 * (512 KiB and more on every CPU with VNNI); L1 would hold k = 512 only, and the 64-byte loads of a
 * panel, one for six vpdpbusd, do not need it.
 */
#include <stdbool.h>
#include <string.h>

#include "core/simd_avx512.h"
#include "core/unroll.h"
#include "gemm/gemm_s8s8_kernel.h"

enum {
    ROWS = 6,
    COLUMNS = 64,
    LANES = 16,
    BLOCK_ROWS = 96,
    BLOCK_COLUMNS = 128,
    BLOCK_K = 2048,
    TILE = ROWS * COLUMNS
};

typedef struct scratch {
    int32_t sums[BLOCK_ROWS * BLOCK_COLUMNS];
} scratch;

#define INLINE static inline __attribute__((always_inline))

INLINE __m512i load(const void *p) {
    return _mm512_loadu_si512(p);
}

/* Four neighbours of a row in every lane, as u8 with the offset. */
INLINE __m512i broadcast_four(const int8_t *p, __m512i sign) {
    int32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return _mm512_xor_si512(_mm512_set1_epi32(bytes), sign);
}

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
            acc[i][c] = first ? _mm512_setzero_si512() : load(sums + i * COLUMNS + c * LANES);
        }
    }
    for (size_t p = 0; p < groups; p++) {
        const __m512i w0 = load(w), w1 = load(w + 64), w2 = load(w + 128), w3 = load(w + 192);
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            const __m512i v = broadcast_four(x + (size_t)i * ldx, sign);
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
static void tile_tail(size_t rows, const int8_t *x, size_t ldx, const int8_t *w,
                      size_t tail, int32_t *sums) {
    int8_t padded[ROWS * 4] = {0};
    for (size_t i = 0; i < rows; i++) {
        memcpy(padded + i * 4, x + i * ldx, tail);
    }
    tile_rows(rows, false, padded, 4, w, 1, sums);
}

/* clamp(rnu(acc) + z_y) of 16 columns from j on; see gemm_s8s8_kernel.h. */
INLINE __m512i requantize(const pq_gemm_weights *weights, size_t j, __m512i acc) {
    acc = _mm512_min_epi32(acc, load(weights->high + j));
    acc = _mm512_max_epi32(acc, load(weights->low + j));
    const __m512i m = load(weights->multiplier + j);
    __m512i even = _mm512_mul_epi32(acc, m);
    __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(acc, 32), _mm512_srli_epi64(m, 32));
    even = _mm512_add_epi64(even, load(weights->round + j));
    odd = _mm512_add_epi64(odd, load(weights->round + j + 8));
    even = _mm512_srlv_epi64(even, load(weights->shift + j));
    odd = _mm512_srlv_epi64(odd, load(weights->shift + j + 8));
    const __m512i r = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
    const __m512i y = _mm512_add_epi32(r, load(weights->post + j));
    return _mm512_max_epi32(_mm512_min_epi32(y, _mm512_set1_epi32(weights->out.quant_max)),
                            _mm512_set1_epi32(weights->out.quant_min));
}

/* 16 values as y_type; the conversions cannot saturate after the clamp. */
INLINE void store_16(void *y, pq_dtype type, __m512i v) {
    if (type == PQ_S32) {
        _mm512_storeu_si512(y, v);
    } else if (type == PQ_S16) {
        _mm256_storeu_si256((__m256i *)y, _mm512_cvtsepi32_epi16(v));
    } else {
        _mm_storeu_si128((__m128i *)y, _mm512_cvtsepi32_epi8(v));
    }
}

/* One tile of sums, `rows` x `columns` of it wanted, to y at (row, j). */
static void finish_tile(const pq_gemm_weights *weights, const pq_gemm_block *block, size_t row,
                        size_t rows, size_t j, size_t columns, const int32_t *sums) {
    const pq_dtype type = weights->y_type;
    const size_t size = pq_dtype_size(type);
    for (size_t i = 0; i < rows; i++) {
        char *y = (char *)block->y + ((row + i) * block->ldy + j) * size;
        for (size_t c = 0; c < columns; c += LANES) {
            __m512i v = _mm512_add_epi32(load(sums + i * COLUMNS + c), load(weights->bias + j + c));
            if (type != PQ_S32) {
                v = requantize(weights, j + c, v);
            }
            if (columns - c >= LANES) {
                store_16(y + c * size, type, v);
            } else {
                int32_t partial[LANES];
                store_16(partial, type, v);
                memcpy(y + c * size, partial, (columns - c) * size);
            }
        }
    }
}

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

/* One panel of 64 columns against all rows of the block, k in [begin, end). */
static void run_panel(const pq_gemm_weights *weights, const pq_gemm_block *block, size_t j,
                      size_t k_begin, size_t k_end, scratch *s) {
    const bool first = k_begin == 0, last = k_end == weights->k;
    const int8_t *w = weights->panels + j / COLUMNS * weights->panel_size + k_begin * COLUMNS;
    /* Sums of a tile that is finished at once stay in one place, in L1. */
    int32_t *sums = first && last ? s->sums : s->sums + (j - block->column_begin) * BLOCK_ROWS;
    const size_t groups = (k_end - k_begin) / 4, tail = (k_end - k_begin) % 4;
    for (size_t row = block->row_begin; row < block->row_end; row += ROWS) {
        const size_t rows = min_size(ROWS, block->row_end - row);
        const int8_t *x = block->x == NULL ? NULL : block->x + row * block->ldx + k_begin;
        tile_rows(rows, first, x, block->ldx, w, groups, sums);
        if (tail > 0) {
            tile_tail(rows, x + groups * 4, block->ldx, w + groups * 4 * COLUMNS, tail, sums);
        }
        if (last) {
            finish_tile(weights, block, row, rows, j, min_size(COLUMNS, block->column_end - j),
                        sums);
        }
        sums += first && last ? 0 : TILE;
    }
}

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    size_t k_begin = 0;
    do { /* once for k = 0 too: y is then the bias */
        const size_t k_end = min_size(k_begin + BLOCK_K, weights->k);
        for (size_t j = block->column_begin; j < block->column_end; j += COLUMNS) {
            run_panel(weights, block, j, k_begin, k_end, workspace);
        }
        k_begin = k_end;
    } while (k_begin < weights->k);
}

const struct pq_gemm_s8s8_kernel pq_gemm_s8s8_avx512vnni = {
    .row_tile = ROWS,
    .column_tile = COLUMNS,
    .k_group = 4,
    .lanes = LANES,
    .x_offset = 128,
    .block_rows = BLOCK_ROWS,
    .block_columns = BLOCK_COLUMNS,
    .block_macs = (size_t)1 << 27, /* 3 ms at 50 GMAC/s, a fifth of what such CPUs do */
    .workspace = sizeof(scratch),
    .run = run,
};
