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
 * Up to four rows read the packed panel and unpack in registers: memory is then the limit, half a
 * byte a weight. One row takes four panels at once, two rows two: several streams of reads, which
 * the memory serves faster than one, and enough sums to hide the latency of the chain.
 */
#include <stdbool.h>

#include "gemm/gemm_avx2.h"
#include "gemm/gemm_s8s4_kernel.h"

enum {
    ROWS = 6,
    COLUMNS = PQ_GEMM_AVX2_COLUMNS,
    TILE = ROWS * COLUMNS,
    NARROW_ROWS = 4,
    PANELS = 4, /* at most, of one row */
    PACKED = 32 /* bytes of four k of a panel; unpacked twice that */
};

#define INLINE PQ_GEMM_INLINE

/* Four k at a time whose sums stay in s16, all in one group. */
typedef struct chain {
    uint32_t quads, group;
} chain;

/* The pieces of the workspace. */
typedef struct scratch {
    int8_t *x;        /* rows of this cut of k, zeros behind */
    int32_t *offsets; /* per row and chain: -8 * sum(x) of k % 4 < 2 and >= 2, two s16 */
    uint8_t *w;       /* a panel, unpacked */
    chain *chains;
    int32_t *sums; /* tile by tile, panel by panel */
    size_t x_stride, offset_stride, panel_sums;
    size_t chain_count;
} scratch;

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

/* The chains of k in [begin, end); begin is a multiple of four. */
static size_t make_chains(const pq_gemm_s8s4_groups *groups, size_t begin, size_t end, chain *out) {
    const size_t group_quads = groups->size / 4, end_quad = (end + 3) / 4;
    size_t count = 0;
    for (size_t quad = begin / 4; quad < end_quad; count++) {
        const size_t group = quad / group_quads, inside = quad % group_quads;
        const size_t to_chain = groups->chain - inside % groups->chain;
        const size_t most = min_size(to_chain, group_quads - inside);
        const size_t quads = min_size(most, end_quad - quad);
        out[count] = (chain){(uint32_t)quads, (uint32_t)group};
        quad += quads;
    }
    return count;
}

/* -8 * sum(x) over a chain, the two lanes of a column in the two halves. */
static int32_t offset_of(const int8_t *x, size_t quads) {
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

/* Rows of x with k in [begin, end), and their offsets. Nothing behind a row is read. */
static void take_rows(const pq_gemm_block *block, size_t begin, size_t end, const scratch *s) {
    const size_t k = end - begin;
    for (size_t i = 0; i < block->rows; i++) {
        int8_t *row = s->x + i * s->x_stride;
        memcpy(row, block->x + i * block->ldx + begin, k);
        memset(row + k, 0, 4);
        for (size_t c = 0; c < s->chain_count; c++) {
            s->offsets[i * s->offset_stride + c] = offset_of(row, s->chains[c].quads);
            row += 4 * (size_t)s->chains[c].quads;
        }
    }
}

INLINE __m256i low_halves(__m256i v) {
    return _mm256_and_si256(v, _mm256_set1_epi8(15));
}

INLINE __m256i high_halves(__m256i v) {
    return low_halves(_mm256_srli_epi16(v, 4));
}

static void unpack_panel(const uint8_t *w, size_t quads, uint8_t *out) {
    for (size_t q = 0; q < quads; q++, w += PACKED, out += 2 * PACKED) {
        const __m256i v = pq_gemm_load(w);
        pq_gemm_store(out, low_halves(v));
        pq_gemm_store(out + PACKED, high_halves(v));
    }
}

/* Eight factors, each twice for the two lanes of a column. */
INLINE __m256i factor_pairs(const uint8_t *factors) {
    const __m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)factors));
    return _mm256_or_si256(v, _mm256_slli_epi32(v, 16));
}

/* What a tile of some rows and panels works on; strides in elements. */
typedef struct operands {
    const int8_t *x;
    size_t x_stride;
    const int32_t *offsets;
    size_t offset_stride;
    const uint8_t *w;
    size_t w_stride; /* between panels */
    const uint8_t *factors;
    size_t factor_stride; /* between panels */
    const chain *chains;
    size_t chain_count;
    int32_t *sums;
    size_t sum_stride; /* between panels */
} operands;

/* sums += x * w. Rows and panels are constants where this is inlined, so that the accumulators are
 * registers; `packed` weights are unpacked here. */
INLINE void tile(int rows, int panels, bool packed, const operands *o) {
    const int8_t *x = o->x;
    const uint8_t *w = o->w;
    __m256i acc[ROWS][2 * PANELS];
    for (size_t c = 0; c < o->chain_count; c++) {
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            const __m256i offset = pq_gemm_broadcast(o->offsets + (size_t)i * o->offset_stride + c);
            PQ_UNROLL
            for (int v = 0; v < 2 * panels; v++) {
                acc[i][v] = offset;
            }
        }
        for (uint32_t quads = o->chains[c].quads; quads > 0; quads--, x += 4) {
            PQ_UNROLL
            for (int p = 0; p < panels; p++) {
                const uint8_t *from = w + (size_t)p * o->w_stride;
                const __m256i v = pq_gemm_load(from);
                const __m256i w0 = packed ? low_halves(v) : v;
                const __m256i w1 = packed ? high_halves(v) : pq_gemm_load(from + PACKED);
                PQ_UNROLL
                for (int i = 0; i < rows; i++) {
                    const __m256i four = pq_gemm_broadcast(x + (size_t)i * o->x_stride);
                    acc[i][2 * p] = _mm256_add_epi16(acc[i][2 * p], _mm256_maddubs_epi16(w0, four));
                    acc[i][2 * p + 1] =
                        _mm256_add_epi16(acc[i][2 * p + 1], _mm256_maddubs_epi16(w1, four));
                }
            }
            w += packed ? PACKED : 2 * PACKED;
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

static void tile_unpacked(size_t rows, const operands *o) {
    switch (rows) {
    case 1: tile(1, 1, false, o); break;
    case 2: tile(2, 1, false, o); break;
    case 3: tile(3, 1, false, o); break;
    case 4: tile(4, 1, false, o); break;
    case 5: tile(5, 1, false, o); break;
    default: tile(6, 1, false, o); break;
    }
}

static void tile_packed(size_t rows, size_t panels, const operands *o) {
    switch (rows) {
    case 1: panels == 4 ? tile(1, 4, true, o) : tile(1, 1, true, o); break;
    case 2: panels == 2 ? tile(2, 2, true, o) : tile(2, 1, true, o); break;
    case 3: tile(3, 1, true, o); break;
    default: tile(4, 1, true, o); break;
    }
}

/* `panels` panels from column j on against all rows of the block, k in [begin, end). */
static void run_panels(const pq_gemm_weights *weights, const pq_gemm_block *block, size_t j,
                       size_t panels, size_t begin, size_t end, const scratch *s) {
    const pq_gemm_s8s4_groups *groups = weights->extra;
    const bool first = begin == 0, last = end == weights->k, packed = block->rows <= NARROW_ROWS;
    const uint8_t *w =
        (const uint8_t *)weights->panels + j / COLUMNS * weights->panel_size + begin / 4 * PACKED;
    const size_t factor_stride = groups->count * COLUMNS;
    operands o = {
        .x_stride = s->x_stride,
        .offset_stride = s->offset_stride,
        .w = packed ? w : s->w,
        .w_stride = weights->panel_size,
        .factors = groups->multiplier + j / COLUMNS * factor_stride,
        .factor_stride = factor_stride,
        .chains = s->chains,
        .chain_count = s->chain_count,
        .sums = s->sums + (first && last ? 0 : (j - block->column_begin) / COLUMNS * s->panel_sums),
        .sum_stride = s->panel_sums,
    };
    if (!packed) {
        unpack_panel(w, (end - begin + 3) / 4, s->w);
    }
    for (size_t i = 0; i < block->rows; i += ROWS) {
        const size_t rows = min_size(ROWS, block->rows - i);
        o.x = s->x + i * s->x_stride;
        o.offsets = s->offsets + i * s->offset_stride;
        for (size_t p = 0; first && p < panels; p++) {
            memset(o.sums + p * s->panel_sums, 0, TILE * sizeof *o.sums);
        }
        if (packed) {
            tile_packed(rows, panels, &o);
        } else {
            tile_unpacked(rows, &o);
        }
        for (size_t p = 0; last && p < panels; p++) {
            const size_t column = j + p * COLUMNS;
            pq_gemm_finish_tile(weights, block, i, rows, column,
                                min_size(COLUMNS, block->column_end - column),
                                o.sums + p * s->panel_sums);
        }
        /* Sums of a tile that is finished at once stay in one place, in L1. */
        o.sums += first && last ? 0 : TILE;
    }
}

/* Panels that `rows` rows take at once. */
static size_t panels_of(size_t rows) {
    return rows == 1 ? 4 : rows == 2 ? 2 : 1;
}

/* An odd number of cache lines (blocking.k is a multiple of 64), with room for three zeros, so that
 * rows spread over cache sets. */
static size_t x_stride(size_t k) {
    return ((k / 64 + 1) | 1) * 64;
}

/* A chain may be as short as four k. */
static size_t offset_stride(size_t k) {
    return k / 4;
}

static size_t workspace_size(const pq_gemm_blocking *b) {
    const size_t sums = b->sums > PANELS * TILE ? b->sums : PANELS * TILE;
    const size_t offsets = (b->rows * offset_stride(b->k) * sizeof(int32_t) + 63) / 64 * 64;
    return b->rows * x_stride(b->k) + offsets + b->k * COLUMNS +
           (b->k / 4 * sizeof(chain) + 63) / 64 * 64 + sums * sizeof(int32_t);
}

static scratch lay_out(const pq_gemm_blocking *b, void *workspace) {
    scratch s = {.x = workspace,
                 .x_stride = x_stride(b->k),
                 .offset_stride = offset_stride(b->k),
                 .panel_sums = b->sums == 0 ? TILE : b->rows * COLUMNS};
    s.w = (uint8_t *)(s.x + b->rows * s.x_stride);
    char *next = (char *)(s.w + b->k * COLUMNS);
    s.sums = (int32_t *)(void *)next;
    next += (b->sums > PANELS * TILE ? b->sums : PANELS * TILE) * sizeof(int32_t);
    s.chains = (chain *)(void *)next;
    next += (b->k / 4 * sizeof(chain) + 63) / 64 * 64;
    s.offsets = (int32_t *)(void *)next;
    return s;
}

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    scratch s = lay_out(&weights->blocking, workspace);
    size_t begin = 0;
    do { /* once for k = 0 too: y is then the bias */
        const size_t end = min_size(begin + weights->blocking.k, weights->k);
        s.chain_count = make_chains(weights->extra, begin, end, s.chains);
        if (end > begin) {
            take_rows(block, begin, end, &s);
        }
        size_t j = block->column_begin;
        while (j < block->column_end) {
            const size_t left = (block->column_end - j + COLUMNS - 1) / COLUMNS;
            const size_t panels = panels_of(block->rows) <= left ? panels_of(block->rows) : 1;
            run_panels(weights, block, j, panels, begin, end, &s);
            j += panels * COLUMNS;
        }
        begin = end;
    } while (begin < weights->k);
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
