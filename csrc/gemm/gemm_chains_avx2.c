/* Weights in chains on AVX2: vpxor, vpmaddubsw and vpaddw, then one vpmaddwd (gemm_chains.h).
 *
 * On Zen 1 the multiplier is the limit, and next to it the four vector instructions that start in a
 * cycle, of which every 256-bit one is two. Hence x ^ m by vpxor, which takes the weights from
 * memory and runs anywhere, and not vpsignb, which does neither and shares the multiplier's port
 * (1.09 against 1.25 times the speed of vpmaddwd); and hence |x| and m from the workspace, not made
 * in the tile.
 *
 * Tile: 4 rows x 16 columns, 8 accumulators, ones, and for a row at a time 2 broadcasts, 2 sums in
 * s16 and 2 products. 6 rows spill (1.18), 3 are as fast.
 */
#include <stdbool.h>

#include "gemm/gemm_avx2.h"
#include "gemm/gemm_chains.h"

enum { ROWS = 4, COLUMNS = PQ_GEMM_CHAIN_COLUMNS, TILE = ROWS * COLUMNS };

/* With fewer rows memory is the limit, and it serves several streams of reads faster than one: so
 * panels are read side by side, as many as registers allow. */
enum { MOST_PANELS = 4, AHEAD = 512 /* bytes that are asked for in advance, in each */ };

#define INLINE PQ_GEMM_INLINE

/* The magnitudes of rows, `half` bytes behind each the masks m, and what a row's products lack. */
typedef struct rows_of_x {
    int8_t *bytes;
    size_t half;
    int32_t *negatives;
} rows_of_x;

/* The sum of eight sums of bytes, below 2^31 for any k that fits the check of accumulators. */
INLINE int32_t sum_u64x4(__m256i v) {
    const __m128i two = _mm_add_epi64(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return _mm_cvtsi128_si32(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
}

/* One row of k values, then magnitudes of zero to a multiple of four; returns the sum of |x| of
 * negative x. Nothing behind the row is read. */
static int32_t split_row(const int8_t *x, size_t k, int8_t *size, int8_t *mask) {
    const __m256i zero = _mm256_setzero_si256();
    __m256i sums = zero;
    size_t p = 0;
    for (; p + 32 <= k; p += 32) {
        const __m256i v = pq_gemm_load(x + p), m = _mm256_cmpgt_epi8(zero, v);
        const __m256i magnitude = _mm256_abs_epi8(v);
        pq_gemm_store(size + p, magnitude);
        pq_gemm_store(mask + p, m);
        sums = _mm256_add_epi64(sums, _mm256_sad_epu8(_mm256_and_si256(magnitude, m), zero));
    }
    int32_t sum = sum_u64x4(sums);
    for (; p < k; p++) {
        size[p] = (int8_t)(uint8_t)(x[p] < 0 ? -x[p] : x[p]);
        mask[p] = x[p] < 0 ? -1 : 0;
        sum -= x[p] < 0 ? x[p] : 0;
    }
    for (; p % 4 != 0; p++) {
        size[p] = mask[p] = 0;
    }
    return sum;
}

static void split_rows(const int8_t *x, size_t ldx, size_t rows, size_t k, const rows_of_x *out) {
    for (size_t i = 0; i < rows; i++) {
        int8_t *size = out->bytes + i * 2 * out->half;
        out->negatives[i] = k == 0 ? 0 : split_row(x + i * ldx, k, size, size + out->half);
    }
}

/* Where a panel is being read, and where its sums go. */
typedef struct walk {
    const pq_gemm_chain_cut *cut;
    const uint16_t *order;
    const int8_t *w;
    int32_t *sums;
} walk;

/* The compiler no longer knows what a pointer holds, so that it cannot move loads up across this,
 * the second also not before two sums are done. It would load the weights, which are an operand of
 * vpxor for each row anew, ahead of the rows, and run out of registers for the sums. */
#define FORGET(pointer) __asm__("" : "+r"(pointer))
#define FORGET_AFTER(pointer, sums) __asm__("" : "+r"(pointer) : "x"((sums)[0]), "x"((sums)[1]))

/* sums += x * w over the next `count` chains of one length in each of `panels` panels. The first
 * three are constants where this is inlined, so that the sums are registers. */
INLINE void add_chains(int rows, int panels, int length, uint32_t count, const int8_t *x,
                       size_t half, walk *walks) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i acc[MOST_PANELS][ROWS][2];
    const uint16_t *orders[MOST_PANELS];
    const int8_t *groups[MOST_PANELS];
    PQ_UNROLL
    for (int p = 0; p < panels; p++) {
        orders[p] = walks[p].order;
        groups[p] = walks[p].w;
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            acc[p][i][0] = pq_gemm_load(walks[p].sums + i * COLUMNS);
            acc[p][i][1] = pq_gemm_load(walks[p].sums + i * COLUMNS + 8);
        }
    }
    for (uint32_t c = 0; c < count; c++) {
        PQ_UNROLL
        for (int p = 0; p < panels; p++) {
            const uint16_t *order = orders[p];
            const int8_t *w = groups[p];
            orders[p] += length;
            groups[p] += length * PQ_GEMM_CHAIN_GROUP;
            if (p > 0 && rows == 1) {
                FORGET_AFTER(x, acc[p - 1][0]);
            }
            const int8_t *size_at[PQ_GEMM_CHAIN_LONGEST];
            PQ_UNROLL
            for (int l = 0; l < length; l++) {
                size_at[l] = x + 4 * (size_t)order[l];
                if (panels > 1) {
                    _mm_prefetch((const char *)w + l * PQ_GEMM_CHAIN_GROUP + AHEAD, _MM_HINT_T0);
                }
            }
            PQ_UNROLL
            for (int i = 0; i < rows; i++) {
                const size_t row = (size_t)i * 2 * half;
                if (i > 0) {
                    FORGET(w);
                }
                __m256i s0 = _mm256_setzero_si256(), s1 = s0;
                PQ_UNROLL
                for (int l = 0; l < length; l++) {
                    const int8_t *group = w + l * PQ_GEMM_CHAIN_GROUP;
                    const __m256i size = pq_gemm_broadcast(size_at[l] + row);
                    const __m256i m = pq_gemm_broadcast(size_at[l] + row + half);
                    const __m256i p0 =
                        _mm256_maddubs_epi16(size, _mm256_xor_si256(m, pq_gemm_load(group)));
                    const __m256i p1 =
                        _mm256_maddubs_epi16(size, _mm256_xor_si256(m, pq_gemm_load(group + 32)));
                    s0 = l == 0 ? p0 : _mm256_add_epi16(s0, p0);
                    s1 = l == 0 ? p1 : _mm256_add_epi16(s1, p1);
                }
                acc[p][i][0] = _mm256_add_epi32(acc[p][i][0], _mm256_madd_epi16(s0, ones));
                acc[p][i][1] = _mm256_add_epi32(acc[p][i][1], _mm256_madd_epi16(s1, ones));
            }
        }
    }
    PQ_UNROLL
    for (int p = 0; p < panels; p++) {
        walks[p].order = orders[p];
        walks[p].w = groups[p];
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            pq_gemm_store(walks[p].sums + i * COLUMNS, acc[p][i][0]);
            pq_gemm_store(walks[p].sums + i * COLUMNS + 8, acc[p][i][1]);
        }
    }
}

/* A function for each loop: among the loops of one function compilers share registers out badly. */
#define ADD_CHAINS(rows, panels, length) \
    static __attribute__((noinline)) void add_##rows##_##panels##_##length( \
        uint32_t count, const int8_t *x, size_t half, walk *walks) { \
        add_chains(rows, panels, length, count, x, half, walks); \
    }
#define ADD_LENGTHS(rows, panels) \
    ADD_CHAINS(rows, panels, 1) ADD_CHAINS(rows, panels, 2) ADD_CHAINS(rows, panels, 3)
#define LENGTHS(rows, panels) \
    { add_##rows##_##panels##_1, add_##rows##_##panels##_2, add_##rows##_##panels##_3 }

ADD_LENGTHS(1, 1)
ADD_LENGTHS(2, 1)
ADD_LENGTHS(3, 1)
ADD_LENGTHS(4, 1)
ADD_LENGTHS(1, 4)
ADD_LENGTHS(2, 2)

typedef void (*add_function)(uint32_t count, const int8_t *x, size_t half, walk *walks);

static const add_function one_panel[ROWS][PQ_GEMM_CHAIN_LONGEST] = {LENGTHS(1, 1), LENGTHS(2, 1),
                                                                    LENGTHS(3, 1), LENGTHS(4, 1)};
static const add_function side_by_side[2][PQ_GEMM_CHAIN_LONGEST] = {LENGTHS(1, 4), LENGTHS(2, 2)};

/* As many panels as are read side by side: their sums must stay in registers. */
static size_t panels_at_once(size_t rows) {
    return rows == 1 ? 4 : rows == 2 ? 2 : 1;
}

static uint32_t count_of(const pq_gemm_chain_cut *cut, int length) {
    return length == 3 ? cut->threes : length == 2 ? cut->twos : cut->ones;
}

/* sums = (first ? 0 : sums) + x * w over the chains of a cut; `negatives` of the same rows. */
static void tile(size_t rows, size_t panels, bool first, const int8_t *x, size_t half,
                 const int32_t *negatives, const walk *begin) {
    walk walks[MOST_PANELS];
    for (size_t p = 0; p < panels; p++) {
        walks[p] = begin[p];
        for (size_t i = 0; i < rows; i++) {
            int32_t *sums = walks[p].sums + i * COLUMNS;
            const __m256i zero = _mm256_setzero_si256(), lacking = _mm256_set1_epi32(negatives[i]);
            pq_gemm_store(sums, _mm256_add_epi32(lacking, first ? zero : pq_gemm_load(sums)));
            pq_gemm_store(sums + 8,
                          _mm256_add_epi32(lacking, first ? zero : pq_gemm_load(sums + 8)));
        }
    }
    for (int length = PQ_GEMM_CHAIN_LONGEST; length > 0; length--) {
        uint32_t common = 0;
        if (panels > 1) { /* as many as every panel has */
            common = count_of(walks[0].cut, length);
            for (size_t p = 1; p < panels; p++) {
                const uint32_t count = count_of(walks[p].cut, length);
                common = count < common ? count : common;
            }
            side_by_side[rows - 1][length - 1](common, x, half, walks);
        }
        for (size_t p = 0; p < panels; p++) {
            const uint32_t left = count_of(walks[p].cut, length) - common;
            if (left > 0) {
                one_panel[rows - 1][length - 1](left, x, half, &walks[p]);
            }
        }
    }
}

/* `panels` panels from column j on against all rows of the block, cut `c` of k. */
static void run_panels(const pq_gemm_weights *weights, const pq_gemm_block *block, size_t j,
                       size_t panels, size_t c, bool last, const rows_of_x *x, int32_t *sums) {
    const pq_gemm_blocking *b = &weights->blocking;
    walk walks[MOST_PANELS];
    for (size_t p = 0; p < panels; p++) {
        const pq_gemm_chain_cut *cut = pq_gemm_chains_cut(weights, j / COLUMNS + p, c);
        walks[p] = (walk){.cut = cut,
                          .order = pq_gemm_chains_order(weights, j / COLUMNS + p, cut),
                          .w = pq_gemm_chains_groups(weights, j / COLUMNS + p, cut),
                          .sums = sums + p * (b->sums == 0 ? TILE : b->rows * COLUMNS)};
    }
    for (size_t i = 0; i < block->rows; i += ROWS) {
        const size_t rows = pq_min_size(ROWS, block->rows - i);
        tile(rows, panels, c == 0, x->bytes + i * 2 * x->half, x->half, x->negatives + i, walks);
        for (size_t p = 0; p < panels; p++) {
            const size_t column = j + p * COLUMNS;
            if (last) {
                pq_gemm_finish_tile(weights, block, i, rows, column,
                                    pq_min_size(COLUMNS, block->column_end - column),
                                    walks[p].sums);
            }
            /* Sums of a tile that is finished at once stay in one place, in L1. */
            walks[p].sums += b->sums == 0 ? 0 : TILE;
        }
    }
}

/* Between a row and its masks: rows are an odd number of cache lines apart (blocking.k is a
 * multiple of 64), so that they spread over cache sets. */
static size_t half_stride(size_t k) {
    return k + 32;
}

static size_t negatives_size(const pq_gemm_blocking *b) {
    return (b->rows * sizeof(int32_t) + 63) / 64 * 64;
}

static size_t workspace_size(const pq_gemm_blocking *b) {
    const size_t sums = b->sums > MOST_PANELS * TILE ? b->sums : MOST_PANELS * TILE;
    return b->rows * 2 * half_stride(b->k) + negatives_size(b) + sums * sizeof(int32_t);
}

static void run(const pq_gemm_weights *weights, const pq_gemm_block *block, void *workspace) {
    const pq_gemm_blocking *b = &weights->blocking;
    const size_t half = half_stride(b->k);
    char *const behind_rows = (char *)workspace + b->rows * 2 * half;
    const rows_of_x x = {
        .bytes = workspace, .half = half, .negatives = (int32_t *)(void *)behind_rows};
    int32_t *const all = (int32_t *)(void *)(behind_rows + negatives_size(b));
    /* One for k = 0 too: y is then the bias. */
    const size_t cuts = weights->k == 0 ? 1 : (weights->k - 1) / b->k + 1;
    for (size_t c = 0; c < cuts; c++) {
        const size_t begin = c * b->k;
        split_rows(weights->k == 0 ? NULL : block->x + begin, block->ldx, block->rows,
                   pq_min_size(b->k, weights->k - begin), &x);
        int32_t *sums = all;
        size_t j = block->column_begin;
        while (j < block->column_end) {
            const size_t left = (block->column_end - j + COLUMNS - 1) / COLUMNS;
            const size_t most = panels_at_once(block->rows), panels = left < most ? 1 : most;
            run_panels(weights, block, j, panels, c, c + 1 == cuts, &x, sums);
            sums += b->sums == 0 ? 0 : panels * b->rows * COLUMNS;
            j += panels * COLUMNS;
        }
    }
}

const struct pq_gemm_chains_kernel pq_gemm_chains_avx2 = {
    .gemm = {.row_tile = ROWS,
             .column_tile = COLUMNS,
             .k_group = 4,
             .lanes = 8,
             .x_offset = 0,
             .x_bytes = 2, /* a magnitude and a mask */
             .w_bytes = 1,
             .block_macs = (size_t)1 << 26, /* 16 GMAC/s on the slowest CPU met: 4 ms */
             .workspace = workspace_size,
             .run = run},
};
