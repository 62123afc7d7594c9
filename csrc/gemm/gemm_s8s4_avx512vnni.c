/* gemm_s8s4 on AVX-512 VNNI: vpdpbusd, four u8 x s8 products a lane, summed in s32 (exact).
 *
 * w + 8 is the unsigned operand, x the signed one, and the sums begin at -8 * sum(x), computed once
 * a row for all columns (gemm_s8s4_kernel.h). Weights are unpacked in registers: a load, two ANDs
 * and a shift give 32 columns times four k, which the rows of the tile share.
 *
 * Without groups the sums run through all of k. With groups they begin anew in each, and its end
 * costs a multiplication, a load, an addition and a store for each accumulator.
 *
 * Tile: 6 rows x 64 columns, 24 accumulators + 4 weights + 1 broadcast + the mask = 30 of 32
 * registers. Per four k: 2 loads, 6 broadcasts and 6 instructions of unpacking for 24 vpdpbusd.
 */
#include <stdbool.h>

#include "gemm/gemm_avx512.h"
#include "gemm/gemm_s8s4_chains.h"

enum {
    ROWS = PQ_S8S4_ROWS,
    COLUMNS = 64,
    LANES = PQ_GEMM_AVX512_LANES,
    VECTORS = COLUMNS / LANES,
    QUAD_BYTES = 2 * COLUMNS
};

#define INLINE PQ_GEMM_INLINE

static int32_t offset(const int8_t *x, size_t quads) {
    const __m512i eight = _mm512_set1_epi8(8);
    __m512i sum = _mm512_setzero_si512();
    for (; quads >= 16; quads -= 16, x += 64) {
        sum = _mm512_dpbusd_epi32(sum, eight, pq_gemm_load(x));
    }
    const __mmask64 rest = (UINT64_C(1) << 4 * quads) - 1;
    sum = _mm512_dpbusd_epi32(sum, eight, _mm512_maskz_loadu_epi8(rest, x));
    return -_mm512_reduce_add_epi32(sum);
}

/* Four k of a panel. */
INLINE void unpack(const uint8_t *from, __m512i *w) {
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i a = pq_gemm_load(from), b = pq_gemm_load(from + QUAD_BYTES / 2);
    w[0] = _mm512_and_si512(a, low);
    w[1] = _mm512_and_si512(_mm512_srli_epi16(a, 4), low);
    w[2] = _mm512_and_si512(b, low);
    w[3] = _mm512_and_si512(_mm512_srli_epi16(b, 4), low);
}

/* Piece t of the tile is row t % rows of panel t / rows. The pieces are one loop, since clang 14
 * leaves sums in memory where a loop of one panel, or of one row, remains around them. Rows and
 * panels are constants where this is inlined, so that the accumulators are registers. */
INLINE void sum_tile(int rows, int panels, bool scaled, const pq_s8s4_operands *o) {
    const int pieces = rows * panels;
    const int8_t *x = o->x;
    const uint8_t *w = o->w;
    __m512i acc[ROWS][VECTORS];
    for (size_t c = 0; c < o->chain_count; c++) {
        PQ_UNROLL
        for (int t = 0; t < pieces; t++) {
            const size_t i = (size_t)(t % rows);
            const __m512i begin = _mm512_set1_epi32(o->offsets[i * o->offset_stride + c]);
            PQ_UNROLL
            for (int v = 0; v < VECTORS; v++) {
                acc[t][v] = begin;
            }
        }
        for (uint32_t quads = o->chains[c].quads; quads > 0; quads--, x += 4, w += QUAD_BYTES) {
            __m512i weights[VECTORS];
            PQ_UNROLL
            for (int t = 0; t < pieces; t++) {
                const size_t i = (size_t)(t % rows), p = (size_t)(t / rows);
                if (i == 0) {
                    unpack(w + p * o->w_stride, weights);
                }
                const __m512i four = pq_gemm_broadcast(x + i * o->x_stride);
                PQ_UNROLL
                for (int v = 0; v < VECTORS; v++) {
                    acc[t][v] = _mm512_dpbusd_epi32(acc[t][v], weights[v], four);
                }
            }
        }
        if (scaled) { /* else the factors are ones */
            const uint8_t *factors = o->factors + (size_t)o->chains[c].group * COLUMNS;
            PQ_UNROLL
            for (int t = 0; t < pieces; t++) {
                const uint8_t *from = factors + (size_t)(t / rows) * o->factor_stride;
                PQ_UNROLL
                for (int v = 0; v < VECTORS; v++) {
                    const __m128i bytes = _mm_loadu_si128((const void *)(from + v * LANES));
                    acc[t][v] = _mm512_mullo_epi32(acc[t][v], _mm512_cvtepu8_epi32(bytes));
                }
            }
        }
        PQ_UNROLL
        for (int t = 0; t < pieces; t++) {
            int32_t *sums = o->sums + (size_t)(t / rows) * o->sum_stride + t % rows * COLUMNS;
            PQ_UNROLL
            for (int v = 0; v < VECTORS; v++) {
                const __m512i sum = _mm512_add_epi32(pq_gemm_load(sums + v * LANES), acc[t][v]);
                _mm512_storeu_si512(sums + v * LANES, sum);
            }
        }
    }
}

static void tile(size_t rows, size_t panels, bool packed, bool scaled, const pq_s8s4_operands *o) {
    (void)packed; /* it always is */
    switch (rows) {
    case 1: panels == 4 ? sum_tile(1, 4, scaled, o) : sum_tile(1, 1, scaled, o); break;
    case 2: panels == 2 ? sum_tile(2, 2, scaled, o) : sum_tile(2, 1, scaled, o); break;
    case 3: sum_tile(3, 1, scaled, o); break;
    case 4: sum_tile(4, 1, scaled, o); break;
    case 5: sum_tile(5, 1, scaled, o); break;
    default: sum_tile(6, 1, scaled, o); break;
    }
}

static void finish(const pq_gemm_weights *weights, const pq_gemm_block *block, size_t row,
                   size_t rows, size_t j, size_t columns, const int32_t *sums) {
    pq_gemm_finish_tile(weights, block, row, rows, j, columns, COLUMNS, sums);
}

static const pq_s8s4_form form = {
    .columns = COLUMNS,
    .quad_bytes = QUAD_BYTES,
    .packed_rows = SIZE_MAX,
    .offset = offset,
    .tile = tile,
    .finish = finish,
};

static size_t workspace_size(const pq_gemm_blocking *b) {
    return pq_s8s4_lay_out(&form, b, NULL).size;
}

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    pq_s8s4_run(&form, weights, block, workspace);
}

const struct pq_gemm_s8s4_kernel pq_gemm_s8s4_avx512vnni = {
    .gemm = {.row_tile = ROWS,
             .column_tile = COLUMNS,
             .k_group = 4,
             .lanes = LANES,
             .x_offset = 0,
             .x_bytes = 1,
             .w_bytes = 1,
             .block_macs = (size_t)1 << 27, /* 3 ms at 50 GMAC/s, a fifth of what such CPUs do */
             .workspace = workspace_size,
             .run = run},
};
