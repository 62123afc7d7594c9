/* Both products run on vpmaddwd over s16 pairs, at the machine's exact peak: q - z_q and v - z_v
 * are widened with their zero point taken off (|.| <= 255), so that no compensation is left; keys
 * lie as [k/16][d/2][16][2], values as [d/16][k/2][16][2], and one register tile of 6 rows x 16
 * columns serves both. Six rows fill 12 of 16 registers; a step is 12 multiply-adds, 6 broadcasts.
 *
 * A block of rows owns a panel of scores, rows x k_len x 4 bytes (100,000 keys: 2.4 MB a thread):
 * the row maximum is exact, and the weights overwrite the scores they come from. */
#include "attention/attention_s8_kernel.h"
#include "attention/softmax_method.h"

#include <assert.h>
#include <string.h>

#include "core/simd_avx2.h"
#include "core/unroll.h"

#define INLINE inline __attribute__((always_inline))

enum {
    TILE_ROWS = 6,
    TILE_COLUMNS = 16,
    PAIR_WIDTH = 2 * TILE_COLUMNS, /* s16 of one step of a packed block: 64 bytes */
    BLOCK_TILES = 4                /* row tiles that share a packed block while it is in L1 */
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
    const size_t products = args->k_len * args->head_dim;
    if (args->k_len * TILE_ROWS * BLOCK_TILES <= (size_t)1 << 16) {
        return TILE_ROWS * BLOCK_TILES;
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
        .key_pairs = pq_round_up(args->k_len, 2) / 2,
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
    return (value_offset(&s) + s.d_blocks * s.key_pairs * PAIR_WIDTH) * sizeof(int16_t);
}

static size_t scratch_size(const pq_attention_args *args) {
    const shape s = shape_of(args);
    return s.rows * (s.panel_stride * sizeof(int32_t) + s.q_stride * sizeof(int16_t));
}

static INLINE void store(void *at, __m256i x) {
    _mm256_store_si256((__m256i *)at, x);
}
static INLINE __m256i load(const void *at) {
    return _mm256_load_si256((const __m256i *)at);
}
static INLINE __m128i load_half(const void *at) {
    return _mm_loadu_si128((const __m128i *)at);
}

/* Sixteen elements, or as many as there are and then zeros. */
static INLINE __m128i load_tail(const int8_t *at, size_t count) {
    if (count >= 16) {
        return load_half(at);
    }
    int8_t padded[16] = {0};
    memcpy(padded, at, count);
    return load_half(padded);
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
        store(packed + p * PAIR_WIDTH, _mm256_cvtepi8_epi16(c[p]));
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
                    key[i] = load_tail(row + c, args->head_dim - c);
                }
            }
            pack_key_tile(key, s->d_pairs - c / 2, block + c / 2 * PAIR_WIDTH);
        }
    }
}

static void pack_values(const pq_attention_args *args, const int8_t *v, const shape *s,
                        size_t begin, size_t end, int16_t *packed) {
    const __m256i zero_point = _mm256_set1_epi16((int16_t)args->v_zero_point);
    for (size_t j = begin; j < end && j < args->k_len; j += 2) {
        const int8_t *row = v + (ptrdiff_t)j * args->v_strides.token;
        const bool paired = j + 1 < args->k_len; /* the odd key out meets a weight of 0 */
        for (size_t block = 0; block < s->d_blocks; block++) {
            const size_t c = block * TILE_COLUMNS;
            const __m128i a = load_tail(row + c, args->head_dim - c);
            const __m128i b =
                paired ? load_tail(row + args->v_strides.token + (ptrdiff_t)c, args->head_dim - c)
                       : a;
            int16_t *const to = packed + (block * s->key_pairs + j / 2) * PAIR_WIDTH;
            const __m256i low = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b));
            const __m256i high = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(a, b));
            store(to, _mm256_sub_epi16(low, zero_point));
            store(to + 16, _mm256_sub_epi16(high, zero_point));
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

/* acc[i] = sum over pairs of a[i] (s16, rows lda apart) times a packed block: rows x 16. */
static INLINE void multiply(const int rows, const int16_t *a, size_t lda, const int16_t *block,
                            size_t pairs, __m256i acc[][2]) {
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        acc[i][0] = acc[i][1] = _mm256_setzero_si256();
    }
    for (size_t p = 0; p < pairs; p++) {
        const __m256i low = load(block + p * PAIR_WIDTH);
        const __m256i high = load(block + p * PAIR_WIDTH + 16);
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            int32_t both;
            memcpy(&both, a + (size_t)i * lda + 2 * p, sizeof both);
            const __m256i pair = _mm256_set1_epi32(both);
            acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(pair, low));
            acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(pair, high));
        }
    }
}

static INLINE void score_tile(const int rows, const int16_t *q, const shape *s,
                              const int16_t *block, int32_t *panel) {
    __m256i acc[TILE_ROWS][2];
    multiply(rows, q, s->q_stride, block, s->d_pairs, acc);
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        store(panel + (size_t)i * s->panel_stride, acc[i][0]);
        store(panel + (size_t)i * s->panel_stride + 8, acc[i][1]);
    }
}

/* Requantization of one row: ((x * m + 2^(s-1)) >> s) + z_y in 64-bit lanes. AVX2 has no
 * arithmetic shift there, so 2^63 makes the sum unsigned and 2^(63-s) comes off afterwards. */
typedef struct row_scale {
    int64_t before, after;
    int32_t multiplier, shift;
} row_scale;

static row_scale make_row_scale(const pq_attention_args *args, uint32_t l) {
    const pq_dyadic scale = pq_attention_normalizer(args->requant, l == 0 ? 1 : l);
    return (row_scale){
        .before = (int64_t)((UINT64_C(1) << 63) + (UINT64_C(1) << (scale.shift - 1))),
        .after = args->out.zero_point - (INT64_C(1) << (63 - scale.shift)),
        .multiplier = scale.multiplier,
        .shift = scale.shift,
    };
}

static INLINE __m256i requantize_even(__m256i x, const row_scale *r, pq_clamp out) {
    const __m256i low = _mm256_set1_epi64x(out.quant_min), high = _mm256_set1_epi64x(out.quant_max);
    __m256i y = _mm256_mul_epi32(x, _mm256_set1_epi32(r->multiplier));
    y = _mm256_add_epi64(y, _mm256_set1_epi64x(r->before));
    y = _mm256_srl_epi64(y, _mm_cvtsi32_si128(r->shift));
    y = _mm256_add_epi64(y, _mm256_set1_epi64x(r->after));
    y = _mm256_blendv_epi8(y, low, _mm256_cmpgt_epi64(low, y));
    return _mm256_blendv_epi8(y, high, _mm256_cmpgt_epi64(y, high));
}

/* Eight s32, each within int8. */
static INLINE __m256i requantize(__m256i x, const row_scale *r, pq_clamp out) {
    const __m256i even = requantize_even(x, r, out);
    const __m256i odd = requantize_even(_mm256_srli_epi64(x, 32), r, out);
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

static INLINE void output_tile(const int rows, const pq_attention_args *args, const int16_t *p,
                               const shape *s, const int16_t *block, size_t pairs,
                               const row_scale *scale, int8_t *y, size_t columns) {
    __m256i acc[TILE_ROWS][2];
    multiply(rows, p, 2 * s->panel_stride, block, pairs, acc);
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        const __m256i a = requantize(acc[i][0], &scale[i], args->out);
        const __m256i b = requantize(acc[i][1], &scale[i], args->out);
        const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
        const __m128i bytes =
            _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        int8_t *const to = y + i * args->y_strides.token;
        if (columns >= TILE_COLUMNS) {
            _mm_storeu_si128((__m128i *)(void *)to, bytes);
        } else {
            int8_t all[TILE_COLUMNS];
            _mm_storeu_si128((__m128i *)(void *)all, bytes);
            memcpy(to, all, columns);
        }
    }
}

/* One body for each number of rows, so that the tile stays in registers. */
#define FOR_ROWS(rows, CALL) \
    switch (rows) { \
    case 1: CALL(1); break; \
    case 2: CALL(2); break; \
    case 3: CALL(3); break; \
    case 4: CALL(4); break; \
    case 5: CALL(5); break; \
    default: CALL(6); break; \
    }

static void score_rows(int rows, const int16_t *q, const shape *s, const int16_t *block,
                       int32_t *panel) {
#define CALL(n) score_tile(n, q, s, block, panel)
    FOR_ROWS(rows, CALL)
#undef CALL
}

static void output_rows(int rows, const pq_attention_args *args, const int16_t *p, const shape *s,
                        const int16_t *block, size_t pairs, const row_scale *scale, int8_t *y,
                        size_t columns) {
#define CALL(n) output_tile(n, args, p, s, block, pairs, scale, y, columns)
    FOR_ROWS(rows, CALL)
#undef CALL
}

static void widen_query(const pq_attention_args *args, const int8_t *q, int16_t *wide) {
    const __m256i zero_point = _mm256_set1_epi16((int16_t)args->q_zero_point);
    for (size_t c = 0; c < args->head_dim; c += 16) {
        const __m128i x = load_tail(q + c, args->head_dim - c);
        /* an odd d leaves -z_q beyond its end, where the packed keys are zero */
        store(wide + c, _mm256_sub_epi16(_mm256_cvtepi8_epi16(x), zero_point));
    }
}

static void add_mask(const int32_t *mask, ptrdiff_t stride, size_t n, int32_t *row) {
    size_t j = 0;
    for (; stride == 1 && j + 8 <= n; j += 8) {
        const __m256i add = _mm256_loadu_si256((const __m256i *)(const void *)(mask + j));
        store(row + j, _mm256_add_epi32(load(row + j), add));
    }
    for (; j < n; j++) {
        row[j] = (int32_t)((uint32_t)row[j] + (uint32_t)mask[(ptrdiff_t)j * stride]);
    }
}

static void exclude(const uint8_t *keep, ptrdiff_t stride, size_t n, int32_t *row) {
    const __m256i excluded = _mm256_set1_epi32(PQ_SCORE_EXCLUDED);
    size_t j = 0;
    for (; stride == 1 && j + 8 <= n; j += 8) {
        const __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(keep + j));
        const __m256i zero =
            _mm256_cmpeq_epi32(_mm256_cvtepu8_epi32(bytes), _mm256_setzero_si256());
        store(row + j, _mm256_blendv_epi8(load(row + j), excluded, zero));
    }
    for (; j < n; j++) {
        if (keep[(ptrdiff_t)j * stride] == 0) {
            row[j] = PQ_SCORE_EXCLUDED;
        }
    }
}

static pq_softmax_panel_fn *softmax_method(pq_softmax_method method) {
    switch (method) {
    case PQ_SOFTMAX_TABLE16:
    case PQ_SOFTMAX_TABLE8: return pq_softmax_table_avx2;
    }
    assert(false);
    return NULL;
}

/* Masks and softmax of query i over a panel row of which `keys` scores exist. Returns L. */
static uint32_t weigh_row(const pq_attention_args *args, const pq_attention_rows *rows, size_t i,
                          size_t keys, int32_t *row) {
    const size_t visible = pq_visible_keys(args, i);
    const size_t n = pq_round_up(keys, PQ_SOFTMAX_STEP);
    if (args->mask_add != NULL) {
        add_mask(args->mask_add + pq_mask_offset(args->mask_strides, rows, i),
                 args->mask_strides[4], visible, row);
    }
    if (args->keep != NULL) {
        exclude(args->keep + pq_mask_offset(args->keep_strides, rows, i), args->keep_strides[4],
                visible, row);
    }
    for (size_t j = visible; j < n; j++) {
        row[j] = PQ_SCORE_EXCLUDED;
    }
    return softmax_method(args->softmax.method)(&args->softmax, n, args->keep != NULL ? 0 : visible,
                                                row);
}

static int tile_rows(size_t count, size_t tile) {
    return (int)(count - tile < TILE_ROWS ? count - tile : TILE_ROWS);
}

static void run(const pq_attention_args *args, const pq_attention_rows *rows, const void *packed,
                void *scratch) {
    const shape s = shape_of(args);
    const size_t count = rows->end - rows->begin;
    const size_t keys = pq_visible_keys(args, rows->end - 1); /* no row of the block sees more */
    const int16_t *const packed_keys = packed;
    int32_t *const panel = scratch;
    int16_t *const q = (int16_t *)(void *)(panel + s.rows * s.panel_stride);
    row_scale scale[TILE_ROWS * BLOCK_TILES];
    assert(0 < count && count <= s.rows && s.rows <= TILE_ROWS * BLOCK_TILES);

    for (size_t i = 0; i < count; i++) {
        widen_query(args,
                    args->q + pq_token_offset(args->q_strides, rows->batch, rows->group, rows->head,
                                              rows->begin + i),
                    q + i * s.q_stride);
    }
    for (size_t j = 0; j < keys; j += TILE_COLUMNS) {
        for (size_t i = 0; i < count; i += TILE_ROWS) {
            score_rows(tile_rows(count, i), q + i * s.q_stride, &s, packed_keys + j * s.d_pairs * 2,
                       panel + i * s.panel_stride + j);
        }
    }
    for (size_t i = 0; i < count; i++) {
        const uint32_t l = weigh_row(args, rows, rows->begin + i, keys, panel + i * s.panel_stride);
        scale[i] = make_row_scale(args, l);
    }
    int8_t *const y = args->y + pq_token_offset(args->y_strides, rows->batch, rows->group,
                                                rows->head, rows->begin);
    const int16_t *const weights = (const int16_t *)(const void *)panel;
    for (size_t c = 0; c < args->head_dim; c += TILE_COLUMNS) {
        const int16_t *block =
            packed_keys + value_offset(&s) + c / TILE_COLUMNS * s.key_pairs * PAIR_WIDTH;
        for (size_t i = 0; i < count; i += TILE_ROWS) {
            output_rows(tile_rows(count, i), args, weights + 2 * i * s.panel_stride, &s, block,
                        (keys + 1) / 2, scale + i, y + (ptrdiff_t)i * args->y_strides.token + c,
                        args->head_dim - c);
        }
    }
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
