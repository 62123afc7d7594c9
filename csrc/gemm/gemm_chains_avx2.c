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

/* Up to this many rows memory is the limit, and a panel is fetched ahead. */
enum { STREAMED_ROWS = 3, AHEAD = 1024 };

#define INLINE PQ_GEMM_INLINE

/* The magnitudes of rows, `half` bytes behind each the masks m, and what a row's products lack. */
typedef struct rows_of_x {
    int8_t *bytes;
    size_t half;
    int32_t *negatives;
} rows_of_x;

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

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

/* One chain of `length` groups for `rows` rows; both are constants where this is inlined. */
INLINE void add_chain(int rows, int length, bool streamed, const int8_t *x, size_t half,
                      const uint32_t *order, const int8_t *w, __m256i acc[ROWS][2]) {
    const __m256i ones = _mm256_set1_epi16(1);
    if (streamed) {
        PQ_UNROLL
        for (int l = 0; l < length; l++) {
            _mm_prefetch((const char *)w + AHEAD + l * PQ_GEMM_CHAIN_GROUP, _MM_HINT_T0);
        }
    }
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        const int8_t *row = x + (size_t)i * 2 * half;
        __m256i s0 = _mm256_setzero_si256(), s1 = s0;
        PQ_UNROLL
        for (int l = 0; l < length; l++) {
            const int8_t *group = w + l * PQ_GEMM_CHAIN_GROUP;
            const __m256i size = pq_gemm_broadcast(row + order[l]);
            const __m256i m = pq_gemm_broadcast(row + half + order[l]);
            const __m256i p0 = _mm256_maddubs_epi16(size, _mm256_xor_si256(m, pq_gemm_load(group)));
            const __m256i p1 =
                _mm256_maddubs_epi16(size, _mm256_xor_si256(m, pq_gemm_load(group + 32)));
            s0 = l == 0 ? p0 : _mm256_add_epi16(s0, p0);
            s1 = l == 0 ? p1 : _mm256_add_epi16(s1, p1);
        }
        acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(s0, ones));
        acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(s1, ones));
    }
}

/* sums = (first ? 0 : sums) + x * w over the chains of a cut; `negatives` of the same rows. */
INLINE void tile(int rows, bool streamed, bool first, const int8_t *x, size_t half,
                 const int32_t *negatives, const pq_gemm_chain_cut *cut, const uint32_t *order,
                 const int8_t *w, int32_t *sums) {
    __m256i acc[ROWS][2];
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        acc[i][0] = acc[i][1] = _mm256_set1_epi32(negatives[i]);
        if (!first) {
            acc[i][0] = _mm256_add_epi32(acc[i][0], pq_gemm_load(sums + i * COLUMNS));
            acc[i][1] = _mm256_add_epi32(acc[i][1], pq_gemm_load(sums + i * COLUMNS + 8));
        }
    }
    for (uint32_t c = 0; c < cut->threes; c++, order += 3, w += 3 * PQ_GEMM_CHAIN_GROUP) {
        add_chain(rows, 3, streamed, x, half, order, w, acc);
    }
    for (uint32_t c = 0; c < cut->twos; c++, order += 2, w += 2 * PQ_GEMM_CHAIN_GROUP) {
        add_chain(rows, 2, streamed, x, half, order, w, acc);
    }
    for (uint32_t c = 0; c < cut->ones; c++, order += 1, w += PQ_GEMM_CHAIN_GROUP) {
        add_chain(rows, 1, streamed, x, half, order, w, acc);
    }
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        pq_gemm_store(sums + i * COLUMNS, acc[i][0]);
        pq_gemm_store(sums + i * COLUMNS + 8, acc[i][1]);
    }
}

/* `rows` becomes a constant, so that the accumulators are registers. */
static void tile_rows(size_t rows, bool first, const int8_t *x, size_t half,
                      const int32_t *negatives, const pq_gemm_chain_cut *cut, const uint32_t *order,
                      const int8_t *w, int32_t *sums) {
    _Static_assert(ROWS == 4 && STREAMED_ROWS == 3, "the cases below");
    switch (rows) {
    case 1: tile(1, true, first, x, half, negatives, cut, order, w, sums); break;
    case 2: tile(2, true, first, x, half, negatives, cut, order, w, sums); break;
    case 3: tile(3, true, first, x, half, negatives, cut, order, w, sums); break;
    default: tile(4, false, first, x, half, negatives, cut, order, w, sums); break;
    }
}

/* One panel of 16 columns against all rows of the block, cut `c` of k. */
static void run_panel(const pq_gemm_weights *weights, const pq_gemm_block *block, size_t j,
                      size_t c, bool last, const rows_of_x *x, int32_t *sums) {
    const size_t panel = j / COLUMNS;
    const pq_gemm_chain_cut *cut = pq_gemm_chains_cut(weights, panel, c);
    const uint32_t *order = pq_gemm_chains_order(weights, panel, cut);
    const int8_t *w = pq_gemm_chains_groups(weights, panel, cut);
    for (size_t i = 0; i < block->rows; i += ROWS) {
        const size_t rows = min_size(ROWS, block->rows - i);
        tile_rows(rows, c == 0, x->bytes + i * 2 * x->half, x->half, x->negatives + i, cut, order,
                  w, sums);
        if (last) {
            pq_gemm_finish_tile(weights, block, i, rows, j,
                                min_size(COLUMNS, block->column_end - j), sums);
        }
        /* Sums of a tile that is finished at once stay in one place, in L1. */
        sums += weights->blocking.sums == 0 ? 0 : TILE;
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
    const size_t sums = (b->sums > TILE ? b->sums : TILE) * sizeof(int32_t);
    return b->rows * 2 * half_stride(b->k) + negatives_size(b) + sums;
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
                   min_size(b->k, weights->k - begin), &x);
        int32_t *sums = all;
        for (size_t j = block->column_begin; j < block->column_end; j += COLUMNS) {
            run_panel(weights, block, j, c, c + 1 == cuts, &x, sums);
            sums += b->sums == 0 ? 0 : b->rows * COLUMNS;
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
