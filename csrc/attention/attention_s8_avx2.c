/* Both products run on vpmaddwd over s16 pairs, at the machine's exact peak: q - z_q and v - z_v
 * are widened with their zero point taken off (|.| <= 255), so that no compensation is left; keys
 * lie as [k/16][d/2][16][2], values as [d/16][pairs of keys][16][2], and one register tile of 6
 * rows x 16 columns serves both. Six rows fill 12 of 16 registers; a step is 12 multiply-adds, 6
 * broadcasts.
 *
 * A block of rows owns a panel of scores, rows x k_len x 4 bytes (100,000 keys: 2.4 MB a thread):
 * the row maximum is exact, and the weights overwrite the scores they come from. A few queries by
 * themselves take another path (attention_direct_avx2.h). */
#include "attention/attention_direct_avx2.h"

enum {
    TILE_ROWS = 6,
    TILE_COLUMNS = 16,
    PAIR_WIDTH = 2 * TILE_COLUMNS, /* s16 of one step of a packed block: 64 bytes */
    BLOCK_TILES = PQ_ATTENTION_ROWS_MAX / TILE_ROWS /* that share a packed block while in L1 */
};

/* Derived sizes; strides in elements of the array they belong to. */
typedef struct shape {
    size_t key_blocks, d_pairs; /* packed keys */
    size_t d_blocks, key_pairs; /* packed values */
    size_t panel_stride;        /* s32 */
    size_t q_stride;            /* s16 */
    size_t rows;
} shape;

/* Four tiles while 24 rows of scores stay in L2 (2^16 scores are 256 KB), else one. A row over very
 * many keys is a few milliseconds of work by itself (2^26 keys x d): then fewer rows, so that a
 * block, which cannot be interrupted, stays short. */
static size_t block_rows(const pq_attention_args *args) {
    if (pq_is_direct(args)) {
        return 1;
    }
    const size_t products = args->k_len * args->head_dim;
    if (args->k_len * PQ_ATTENTION_ROWS_MAX <= (size_t)1 << 16) {
        return PQ_ATTENTION_ROWS_MAX;
    }
    const size_t rows = ((size_t)1 << 26) / (products + 1);
    return rows < 1 ? 1 : rows < TILE_ROWS ? rows : TILE_ROWS;
}

static shape shape_of(const pq_attention_args *args) {
    const size_t panel = pq_round_up(args->k_len, PQ_SOFTMAX_STEP);
    return (shape){
        .key_blocks = pq_round_up(args->k_len, TILE_COLUMNS) / TILE_COLUMNS,
        .d_pairs = pq_round_up(args->head_dim, 2) / 2,
        .d_blocks = pq_round_up(args->head_dim, TILE_COLUMNS) / TILE_COLUMNS,
        .key_pairs = pq_softmax_pairs(args->k_len),
        /* an odd number of cache lines, so that rows do not fall on one set */
        .panel_stride = panel + 16,
        .q_stride = pq_round_up(args->head_dim, 32) + 32,
        .rows = block_rows(args),
    };
}

static size_t value_offset(const shape *s) {
    return s->key_blocks * s->d_pairs * PAIR_WIDTH;
}

static size_t packed_size(const pq_attention_args *args) {
    const shape s = shape_of(args);
    return pq_is_direct(args)
               ? 0
               : (value_offset(&s) + s.d_blocks * s.key_pairs * PAIR_WIDTH) * sizeof(int16_t);
}

static size_t scratch_size(const pq_attention_args *args) {
    const shape s = shape_of(args);
    return pq_is_direct(args)
               ? pq_direct_scratch(args)
               : s.rows * (s.panel_stride * sizeof(int32_t) + s.q_stride * sizeof(int16_t));
}

/* 8 keys x 8 pairs of s8 -> 8 steps of 8 s16 pairs: a transpose of 16-bit units, then widened. */
static void pack_key_tile(const __m128i key[8], size_t pairs, int16_t *packed) {
    __m128i a[8], b[8], c[8];
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm_unpacklo_epi16(key[2 * i], key[2 * i + 1]);
        a[2 * i + 1] = _mm_unpackhi_epi16(key[2 * i], key[2 * i + 1]);
    }
    for (int i = 0; i < 8; i += 4) { /* keys i .. i + 3 */
        b[i] = _mm_unpacklo_epi32(a[i], a[i + 2]);
        b[i + 1] = _mm_unpackhi_epi32(a[i], a[i + 2]);
        b[i + 2] = _mm_unpacklo_epi32(a[i + 1], a[i + 3]);
        b[i + 3] = _mm_unpackhi_epi32(a[i + 1], a[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        c[2 * i] = _mm_unpacklo_epi64(b[i], b[i + 4]);
        c[2 * i + 1] = _mm_unpackhi_epi64(b[i], b[i + 4]);
    }
    for (size_t p = 0; p < pairs && p < 8; p++) {
        pq_store_256(packed + p * PAIR_WIDTH, _mm256_cvtepi8_epi16(c[p]));
    }
}

static void pack_keys(const pq_attention_args *args, const int8_t *k, const shape *s, size_t begin,
                      size_t end, int16_t *packed) {
    for (size_t j = begin; j < end; j += 8) {
        int16_t *const block = packed + j / TILE_COLUMNS * s->d_pairs * PAIR_WIDTH + j % 16 * 2;
        for (size_t c = 0; c < args->head_dim; c += 16) {
            __m128i key[8];
            for (size_t i = 0; i < 8; i++) {
                key[i] = _mm_setzero_si128();
                if (j + i < args->k_len) {
                    const int8_t *row = k + (ptrdiff_t)(j + i) * args->k_strides.token;
                    key[i] = pq_load_s8(row + c, args->head_dim - c);
                }
            }
            pack_key_tile(key, s->d_pairs - c / 2, block + c / 2 * PAIR_WIDTH);
        }
    }
}

/* Pairs are keys (i, i + 8) of each 16, the order of the weights. */
static void pack_values(const pq_attention_args *args, const int8_t *v, const shape *s,
                        size_t begin, size_t end, int16_t *packed) {
    const __m256i zero_point = _mm256_set1_epi16((int16_t)args->v_zero_point);
    const ptrdiff_t token = args->v_strides.token;
    for (size_t pair = pq_softmax_pairs(begin); pair < pq_softmax_pairs(end); pair++) {
        const size_t j = pair + pair / 8 * 8;
        const int8_t *const first = v + (ptrdiff_t)j * token;
        /* beyond the end any value will do: its weight is 0 */
        const int8_t *const second = j + 8 < args->k_len ? first + 8 * token : first;
        for (size_t block = 0; block < s->d_blocks; block++) {
            const size_t c = block * TILE_COLUMNS;
            const __m128i a = pq_load_s8(first + c, args->head_dim - c);
            const __m128i b = pq_load_s8(second + c, args->head_dim - c);
            int16_t *const to = packed + (block * s->key_pairs + pair) * PAIR_WIDTH;
            const __m256i low = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b));
            const __m256i high = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(a, b));
            pq_store_256(to, _mm256_sub_epi16(low, zero_point));
            pq_store_256(to + 16, _mm256_sub_epi16(high, zero_point));
        }
    }
}

static void pack(const pq_attention_args *args, size_t batch, size_t group, size_t kv_head,
                 size_t begin, size_t end, void *packed) {
    const shape s = shape_of(args);
    const int8_t *k = args->k + pq_token_offset(args->k_strides, batch, group, kv_head, 0);
    const int8_t *v = args->v + pq_token_offset(args->v_strides, batch, group, kv_head, 0);
    assert(begin % TILE_COLUMNS == 0);
    /* the last block is filled up with zero keys: their scores exist and are then excluded */
    pack_keys(args, k, &s, begin, pq_round_up(end, TILE_COLUMNS), packed);
    pack_values(args, v, &s, begin, end, (int16_t *)packed + value_offset(&s));
}

/* sums[i][c] = sum over pairs of a[i] (s16, rows lda apart) times a packed block: rows x 16, or its
 * first half. Sums go to memory in any case: with what follows them in one function, gcc 12 spills
 * the tile inside the loop. */
PQ_INLINE void multiply(const int rows, const int halves, const int16_t *a, size_t lda,
                        const int16_t *block, size_t pairs, int32_t *sums, size_t stride) {
    __m256i acc[TILE_ROWS][2];
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        acc[i][0] = acc[i][1] = _mm256_setzero_si256();
    }
    for (size_t p = 0; p < pairs; p++) {
        const __m256i low = pq_load_256(block + p * PAIR_WIDTH);
        const __m256i high = pq_load_256(block + p * PAIR_WIDTH + 16);
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            int32_t both;
            memcpy(&both, a + (size_t)i * lda + 2 * p, sizeof both);
            const __m256i pair = _mm256_set1_epi32(both);
            acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(pair, low));
            if (halves == 2) {
                acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(pair, high));
            }
        }
    }
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        pq_store_256(sums + (size_t)i * stride, acc[i][0]);
        if (halves == 2) {
            pq_store_256(sums + (size_t)i * stride + 8, acc[i][1]);
        }
    }
}

/* One body for each number of rows, so that the tile stays in registers. */
static __attribute__((noinline)) void multiply_tile(size_t rows, int halves, const int16_t *a,
                                                    size_t lda, const int16_t *block, size_t pairs,
                                                    int32_t *sums, size_t stride) {
#define CASE(n, h) \
    case 2 * (n) + (h)-1: multiply(n, h, a, lda, block, pairs, sums, stride); break;
    switch (2 * rows + (size_t)halves - 1) {
        CASE(1, 1)
        CASE(2, 1)
        CASE(3, 1)
        CASE(4, 1)
        CASE(5, 1)
        CASE(6, 1)
        CASE(1, 2)
        CASE(2, 2)
        CASE(3, 2)
        CASE(4, 2)
        CASE(5, 2)
        CASE(6, 2)
    default: assert(false);
    }
#undef CASE
}

static size_t tile_rows(size_t count, size_t tile) {
    return count - tile < TILE_ROWS ? count - tile : TILE_ROWS;
}

/* Scores of a block of rows with its first `keys` keys, and a little beyond. */
static void score_rows(const shape *s, size_t count, size_t keys, const int16_t *q,
                       const int16_t *packed_keys, int32_t *panel) {
    for (size_t j = 0; j < keys; j += TILE_COLUMNS) {
        const int halves = keys - j <= TILE_COLUMNS / 2 ? 1 : 2;
        for (size_t i = 0; i < count; i += TILE_ROWS) {
            multiply_tile(tile_rows(count, i), halves, q + i * s->q_stride, s->q_stride,
                          packed_keys + j * s->d_pairs * 2, s->d_pairs,
                          panel + i * s->panel_stride + j, s->panel_stride);
        }
    }
}

/* Weights times values, requantized. y is the first row of the block. */
static void output_rows(const pq_attention_args *args, const shape *s, size_t count, size_t keys,
                        const int16_t *weights, const int16_t *packed_values,
                        const pq_row_scale *scale, int8_t *y) {
    const size_t lda = 2 * s->panel_stride, d = args->head_dim;
    for (size_t c = 0; c < d; c += TILE_COLUMNS) {
        const int16_t *const block = packed_values + c / TILE_COLUMNS * s->key_pairs * PAIR_WIDTH;
        for (size_t i = 0; i < count; i += TILE_ROWS) {
            _Alignas(32) int32_t sums[TILE_ROWS * TILE_COLUMNS];
            const size_t rows = tile_rows(count, i);
            multiply_tile(rows, 2, weights + i * lda, lda, block, pq_softmax_pairs(keys), sums,
                          TILE_COLUMNS);
            for (size_t r = 0; r < rows; r++) {
                const int32_t *const sum = sums + r * TILE_COLUMNS;
                pq_write_16(args, pq_load_256(sum), pq_load_256(sum + 8), &scale[i + r],
                            y + (ptrdiff_t)(i + r) * args->y_strides.token + c, d - c);
            }
        }
    }
}

static void run(const pq_attention_args *args, const pq_attention_rows *rows, const void *packed,
                void *scratch) {
    if (pq_is_direct(args)) {
        pq_direct_row(args, rows, scratch);
        return;
    }
    const shape s = shape_of(args);
    const size_t count = rows->end - rows->begin;
    const size_t keys = pq_visible_keys(args, rows->end - 1); /* no row of the block sees more */
    int32_t *const panel = scratch;
    int16_t *const q = (int16_t *)(void *)(panel + s.rows * s.panel_stride);
    uint32_t l[PQ_ATTENTION_ROWS_MAX];
    pq_row_scale scale[PQ_ATTENTION_ROWS_MAX];
    assert(0 < count && count <= s.rows && s.rows <= PQ_ATTENTION_ROWS_MAX);

    for (size_t i = 0; i < count; i++) {
        pq_widen_query(args,
                       args->q + pq_token_offset(args->q_strides, rows->batch, rows->group,
                                                 rows->head, rows->begin + i),
                       q + i * s.q_stride);
    }
    score_rows(&s, count, keys, q, packed, panel);
    pq_weigh_rows(args, rows, keys, PQ_SOFTMAX_STEP, pq_softmax_method_avx2(args->softmax.method),
                  panel, s.panel_stride, l);
    for (size_t i = 0; i < count; i++) {
        scale[i] = pq_make_row_scale(args, l[i]);
    }
    output_rows(args, &s, count, keys, (const int16_t *)(const void *)panel,
                (const int16_t *)packed + value_offset(&s), scale,
                args->y + pq_token_offset(args->y_strides, rows->batch, rows->group, rows->head,
                                          rows->begin));
}

const struct pq_attention_s8_kernel pq_attention_s8_avx2 = {
    .rows = block_rows,
    .packed_size = packed_size,
    .scratch_size = scratch_size,
    .pack = pack,
    .run = run,
    .pack_step = TILE_COLUMNS,
    .macs_per_ms = 20 * 1000 * 1000,
};
