/* gemm_s8s4 on AVX2: vpmaddubsw and vpaddw, widened late.
 *
 * vpmaddubsw does 32 products, twice those of vpmaddwd, and with weights of four bits it is exact:
 * the unsigned operand is w + 8, and |15 * -128| * 2 fits s16. So do the sums, for a while. They
 * begin at -8 * sum(x), computed once a row for all columns, so that in the end a lane holds
 * sum(x * w) itself; what it wraps around in between is harmless. Each step adds two products of at
 * most 128 * |w|: with |w| <= 7, 18 steps make 32,256, with -8, 15 make 30,720. Packing proves
 * longer chains from the weights (gemm_s8s4_pack.c). (The other way round, x + 128 unsigned, two
 * products are 255 * 14, and nine steps are the end.)
 *
 * A chain ends with vpmaddwd by the factors of its group (ones without groups), which adds the two
 * lanes of a column; its result goes to the s32 sums in L1. Three instructions for each 32 or more.
 *
 * Tile: 6 rows x 16 columns, 12 accumulators + 2 weights + 1 broadcast + 1 product = 16 registers.
 * Per four k 12 multiplications meet 2 loads and 6 broadcasts. There, unpacking of weights would
 * need a 17th register: a panel is unpacked into L1 once for all row tiles of a block.
 *
 * Up to four rows read the packed panel and unpack in registers.
 */
#include <stdbool.h>

#include "gemm/gemm_avx2.h"
#include "gemm/gemm_s8s4_chains.h"

enum {
    ROWS = PQ_S8S4_ROWS,
    COLUMNS = PQ_GEMM_AVX2_COLUMNS,
    PANELS = PQ_S8S4_PANELS,
    PACKED_ROWS = 4,
    QUAD_BYTES = 2 * COLUMNS,
    AHEAD = 1024 /* bytes; 512 to 4096 gain too */
};

#define INLINE PQ_GEMM_INLINE

/* Of k % 4 < 2 and of the rest, two s16, as the two lanes of a column. */
static int32_t offset(const int8_t *x, size_t quads) {
    const __m256i eight = _mm256_set1_epi8(8);
    __m256i wide = _mm256_setzero_si256();
    for (; quads >= 8; quads -= 8, x += 32) {
        wide = _mm256_add_epi16(wide, _mm256_maddubs_epi16(eight, pq_gemm_load(x)));
    }
    __m128i sum = _mm_add_epi16(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    sum = _mm_add_epi16(sum, _mm_srli_si128(sum, 8));
    sum = _mm_add_epi16(sum, _mm_srli_si128(sum, 4));
    for (; quads > 0; quads--, x += 4) {
        int32_t four;
        memcpy(&four, x, sizeof four);
        const __m128i v = _mm_cvtsi32_si128(four);
        sum = _mm_add_epi16(sum, _mm_maddubs_epi16(_mm256_castsi256_si128(eight), v));
    }
    return _mm_cvtsi128_si32(_mm_sub_epi16(_mm_setzero_si128(), sum));
}

INLINE __m256i low_halves(__m256i v) {
    return _mm256_and_si256(v, _mm256_set1_epi8(15));
}

INLINE __m256i high_halves(__m256i v) {
    return low_halves(_mm256_srli_epi16(v, 4));
}

static void unpack(const uint8_t *w, size_t quads, uint8_t *out) {
    for (size_t q = 0; q < quads; q++, w += QUAD_BYTES, out += 2 * QUAD_BYTES) {
        const __m256i v = pq_gemm_load(w);
        pq_gemm_store(out, low_halves(v));
        pq_gemm_store(out + QUAD_BYTES, high_halves(v));
    }
}

/* Eight factors, each twice for the two lanes of a column. */
INLINE __m256i factor_pairs(const uint8_t *factors) {
    const __m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)factors));
    return _mm256_or_si256(v, _mm256_slli_epi32(v, 16));
}

/* Some steps ahead, also past the end: as an integer, since no pointer may point there. The panels
 * of one row are streams that the processor follows by itself, but not across pages (7 %). */
INLINE void prefetch(const uint8_t *w) {
    _mm_prefetch((const char *)((uintptr_t)w + AHEAD), _MM_HINT_T0);
}

/* Rows and panels are constants where this is inlined, so that the accumulators are registers. */
INLINE void sum_tile(int rows, int panels, bool packed, const pq_s8s4_operands *o) {
    const int8_t *x = o->x;
    const uint8_t *w = o->w;
    __m256i acc[ROWS][2 * PANELS];
    for (size_t c = 0; c < o->chain_count; c++) {
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            const __m256i begin = pq_gemm_broadcast(o->offsets + (size_t)i * o->offset_stride + c);
            PQ_UNROLL
            for (int v = 0; v < 2 * panels; v++) {
                acc[i][v] = begin;
            }
        }
        for (uint32_t quads = o->chains[c].quads; quads > 0; quads--, x += 4) {
            PQ_UNROLL
            for (int p = 0; p < panels; p++) {
                const uint8_t *from = w + (size_t)p * o->w_stride;
                const __m256i v = pq_gemm_load(from);
                if (rows == 1 && packed) { /* memory is the limit */
                    prefetch(from);
                }
                const __m256i w0 = packed ? low_halves(v) : v;
                const __m256i w1 = packed ? high_halves(v) : pq_gemm_load(from + QUAD_BYTES);
                PQ_UNROLL
                for (int i = 0; i < rows; i++) {
                    const __m256i four = pq_gemm_broadcast(x + (size_t)i * o->x_stride);
                    __m256i *sum = acc[i] + 2 * p;
                    sum[0] = _mm256_add_epi16(sum[0], _mm256_maddubs_epi16(w0, four));
                    sum[1] = _mm256_add_epi16(sum[1], _mm256_maddubs_epi16(w1, four));
                }
            }
            w += packed ? QUAD_BYTES : 2 * QUAD_BYTES;
        }
        PQ_UNROLL
        for (int v = 0; v < 2 * panels; v++) {
            const uint8_t *factors = o->factors + (size_t)(v / 2) * o->factor_stride +
                                     (size_t)o->chains[c].group * COLUMNS + v % 2 * 8;
            const __m256i factor = factor_pairs(factors);
            int32_t *sums = o->sums + (size_t)(v / 2) * o->sum_stride + v % 2 * 8;
            PQ_UNROLL
            for (int i = 0; i < rows; i++, sums += COLUMNS) {
                const __m256i wide = _mm256_madd_epi16(acc[i][v], factor);
                pq_gemm_store(sums, _mm256_add_epi32(pq_gemm_load(sums), wide));
            }
        }
    }
}

static void tile_unpacked(size_t rows, const pq_s8s4_operands *o) {
    switch (rows) {
    case 1: sum_tile(1, 1, false, o); break;
    case 2: sum_tile(2, 1, false, o); break;
    case 3: sum_tile(3, 1, false, o); break;
    case 4: sum_tile(4, 1, false, o); break;
    case 5: sum_tile(5, 1, false, o); break;
    default: sum_tile(6, 1, false, o); break;
    }
}

static void tile_packed(size_t rows, size_t panels, const pq_s8s4_operands *o) {
    switch (rows) {
    case 1: panels == 4 ? sum_tile(1, 4, true, o) : sum_tile(1, 1, true, o); break;
    case 2: panels == 2 ? sum_tile(2, 2, true, o) : sum_tile(2, 1, true, o); break;
    case 3: sum_tile(3, 1, true, o); break;
    default: sum_tile(4, 1, true, o); break;
    }
}

/* Without groups the factors are ones: vpmaddwd has to add the two lanes of a column anyway. */
static void tile(size_t rows, size_t panels, bool packed, bool scaled, const pq_s8s4_operands *o) {
    (void)scaled;
    if (packed) {
        tile_packed(rows, panels, o);
    } else {
        tile_unpacked(rows, o);
    }
}

static const pq_s8s4_form form = {
    .columns = COLUMNS,
    .quad_bytes = QUAD_BYTES,
    .s16 = true,
    .packed_rows = PACKED_ROWS,
    .offset = offset,
    .unpack = unpack,
    .tile = tile,
    .finish = pq_gemm_finish_tile,
};

static size_t workspace_size(const pq_gemm_blocking *b) {
    return pq_s8s4_lay_out(&form, b, NULL).size;
}

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    pq_s8s4_run(&form, weights, block, workspace);
}

const struct pq_gemm_s8s4_kernel pq_gemm_s8s4_avx2 = {
    .gemm = {.row_tile = ROWS,
             .column_tile = COLUMNS,
             .k_group = 4,
             .lanes = 8,
             .x_offset = 0,
             .x_bytes = 1,
             .w_bytes = 1,
             .block_macs = (size_t)1 << 27, /* 30 GMAC/s on the slowest CPU met: 4 ms */
             .workspace = workspace_size,
             .run = run},
};
