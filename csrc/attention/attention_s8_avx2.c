/* The exact form on the pairs and the tile of attention_tile_avx2.h: keys and values of a head are
 * packed once for all of its queries.
 *
 * A block of rows owns a panel of scores, rows x k_len x 4 bytes (100,000 keys: 2.4 MB a thread):
 * the row maximum is exact, and the weights overwrite the scores they come from. A few queries by
 * themselves take another path (attention_direct_avx2.h). */
#include "attention/attention_direct_avx2.h"
#include "attention/attention_tile_avx2.h"

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
    return rows < 1 ? 1 : rows < PQ_TILE_ROWS ? rows : PQ_TILE_ROWS;
}

static shape shape_of(const pq_attention_args *args) {
    const size_t panel = pq_round_up(args->k_len, PQ_SOFTMAX_STEP);
    return (shape){
        .key_blocks = pq_round_up(args->k_len, PQ_TILE_COLUMNS) / PQ_TILE_COLUMNS,
        .d_pairs = pq_round_up(args->head_dim, 2) / 2,
        .d_blocks = pq_round_up(args->head_dim, PQ_TILE_COLUMNS) / PQ_TILE_COLUMNS,
        .key_pairs = pq_softmax_pairs(args->k_len),
        /* an odd number of cache lines, so that rows do not fall on one set */
        .panel_stride = panel + 16,
        .q_stride = pq_round_up(args->head_dim, 32) + 32,
        .rows = block_rows(args),
    };
}

static size_t value_offset(const shape *s) {
    return s->key_blocks * s->d_pairs * PQ_PAIR_WIDTH;
}

static size_t packed_size(const pq_attention_args *args) {
    const shape s = shape_of(args);
    return pq_is_direct(args)
               ? 0
               : (value_offset(&s) + s.d_blocks * s.key_pairs * PQ_PAIR_WIDTH) * sizeof(int16_t);
}

static size_t scratch_size(const pq_attention_args *args) {
    const shape s = shape_of(args);
    return pq_is_direct(args)
               ? pq_direct_scratch(args)
               : s.rows * (s.panel_stride * sizeof(int32_t) + s.q_stride * sizeof(int16_t));
}

static void pack(const pq_attention_args *args, size_t batch, size_t group, size_t kv_head,
                 size_t begin, size_t end, void *packed) {
    const shape s = shape_of(args);
    const size_t d = args->head_dim, n = end - begin;
    const int8_t *k = args->k + pq_token_offset(args->k_strides, batch, group, kv_head, begin);
    const int8_t *v = args->v + pq_token_offset(args->v_strides, batch, group, kv_head, begin);
    int16_t *const keys = packed, *const values = keys + value_offset(&s);
    assert(begin % PQ_TILE_COLUMNS == 0 && (end % PQ_TILE_COLUMNS == 0 || end == args->k_len));
    pq_pack_keys_avx2(k, args->k_strides.token, n, d, keys + begin * s.d_pairs * 2);
    pq_pack_values_avx2(v, args->v_strides.token, n, d, args->v_zero_point, s.key_pairs,
                        values + pq_softmax_pairs(begin) * PQ_PAIR_WIDTH);
}

static size_t tile_rows(size_t count, size_t tile) {
    return count - tile < PQ_TILE_ROWS ? count - tile : PQ_TILE_ROWS;
}

/* Scores of a block of rows with its first `keys` keys, and a little beyond. */
static void score_rows(const shape *s, size_t count, size_t keys, const int16_t *q,
                       const int16_t *packed_keys, int32_t *panel) {
    for (size_t j = 0; j < keys; j += PQ_TILE_COLUMNS) {
        const int halves = keys - j <= PQ_TILE_COLUMNS / 2 ? 1 : 2;
        for (size_t i = 0; i < count; i += PQ_TILE_ROWS) {
            pq_multiply_tile_avx2(tile_rows(count, i), halves, q + i * s->q_stride, s->q_stride,
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
    for (size_t c = 0; c < d; c += PQ_TILE_COLUMNS) {
        const int16_t *const block =
            packed_values + c / PQ_TILE_COLUMNS * s->key_pairs * PQ_PAIR_WIDTH;
        for (size_t i = 0; i < count; i += PQ_TILE_ROWS) {
            _Alignas(32) int32_t sums[PQ_TILE_ROWS * PQ_TILE_COLUMNS];
            const size_t rows = tile_rows(count, i);
            pq_multiply_tile_avx2(rows, 2, weights + i * lda, lda, block, pq_softmax_pairs(keys),
                                  sums, PQ_TILE_COLUMNS);
            for (size_t r = 0; r < rows; r++) {
                const int32_t *const sum = sums + r * PQ_TILE_COLUMNS;
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
    uint32_t sums[PQ_ATTENTION_ROWS_MAX], divisors[PQ_ATTENTION_ROWS_MAX];
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
                  panel, s.panel_stride, sums, divisors);
    for (size_t i = 0; i < count; i++) {
        scale[i] = pq_make_row_scale(args, divisors[i]);
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
    .pack_step = PQ_TILE_COLUMNS,
    .macs_per_ms = 20 * 1000 * 1000,
};
