/* A block of rows keeps its queries, sums O, maxima and L in second-level cache while keys and
 * values come 256 at a time: those are packed once for all rows of the block, and meet 24 of them
 * at a time, whose scores are in first-level cache. The tile is that of the exact form; weights
 * times values starts from O, and goes on over blocks of keys that move no maximum of its rows. */
#include "attention/attention_online64_avx2.h"
#include "attention/attention_tile_avx2.h"

enum { SPAN = PQ_ONLINE_SPAN };

/* Derived sizes, in elements of the array they belong to. */
typedef struct shape {
    size_t keys, values;       /* s16 of the packed keys, and values */
    size_t q_stride, o_stride; /* s16, s32; an odd number of cache lines */
    size_t rows;               /* that scratch is made for */
} shape;

/* What scratch holds, each at 64 bytes. */
typedef struct state {
    int16_t *keys, *values, *q;
    int32_t *panel;
    pq_online_sums sums;
} state;

static shape shape_of(const pq_attention_args *args) {
    const size_t d = args->head_dim, packed = args->q_len > PQ_DIRECT_ROWS ? SPAN : 0;
    shape s = {.keys = pq_ceil_div(d, 2) * 2 * packed,
               .values = pq_round_up(d, PQ_TILE_COLUMNS) * packed,
               .q_stride = pq_round_up(d, 32) + 32,
               .o_stride = pq_round_up(d, 32) + 16};
    const size_t row = s.q_stride * sizeof(int16_t) + s.o_stride * sizeof(int32_t);
    s.rows = pq_online_scratch_rows(args, row, (s.keys + s.values) * sizeof(int16_t));
    return s;
}

static size_t block_rows(const pq_attention_args *args) {
    return pq_online_block_rows(args, shape_of(args).rows);
}

static size_t scratch_size(const pq_attention_args *args) {
    const shape s = shape_of(args);
    const size_t s16 = s.keys + s.values + s.rows * s.q_stride;
    const size_t s32 = PQ_ONLINE_PANEL + s.rows * s.o_stride + 2 * pq_round_up(s.rows, 16);
    return s16 * sizeof(int16_t) + s32 * sizeof(int32_t);
}

static state lay_out(const shape *s, void *scratch) {
    state at = {.keys = scratch, .sums.o_stride = s->o_stride};
    at.values = at.keys + s->keys;
    at.q = at.values + s->values;
    at.panel = (int32_t *)(void *)(at.q + s->rows * s->q_stride);
    at.sums.o = at.panel + PQ_ONLINE_PANEL;
    at.sums.most = at.sums.o + s->rows * s->o_stride;
    at.sums.l = (uint32_t *)at.sums.most + pq_round_up(s->rows, 16);
    return at;
}

static size_t tile_rows(size_t count, size_t tile) {
    return pq_min_size(count - tile, PQ_TILE_ROWS);
}

static void score_group(const shape *s, size_t count, size_t keys, const int16_t *q,
                        const int16_t *packed, int32_t *panel) {
    for (size_t i = 0; i < count; i += PQ_TILE_ROWS) {
        for (size_t j = 0; j < keys; j += PQ_TILE_COLUMNS) {
            const int halves = keys - j <= PQ_TILE_COLUMNS / 2 ? 1 : 2;
            pq_multiply_tile_avx2(tile_rows(count, i), halves, q + i * s->q_stride, s->q_stride,
                                  packed + j * (s->keys / SPAN), s->keys / SPAN / 2,
                                  panel + i * PQ_ONLINE_STRIDE + j, PQ_ONLINE_STRIDE);
        }
    }
}

/* O += weights times values. */
static __attribute__((noinline)) void add_tile(size_t rows, const int16_t *weights,
                                               const int16_t *values, size_t pairs, int32_t *o,
                                               size_t stride) {
#define CASE(n) \
    case n: \
        pq_multiply_avx2(true, n, 2, weights, 2 * PQ_ONLINE_STRIDE, values, pairs, o, stride); \
        break;
    switch (rows) {
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
        CASE(5)
        CASE(6)
    default: assert(false);
    }
#undef CASE
}

/* Keys from `first` on for the rows begin .. of the block of rows, at most a group. */
static void add_span(const pq_attention_args *args, const pq_attention_rows *rows, const shape *s,
                     const state *at, size_t begin, size_t first) {
    const size_t query = rows->begin + begin,
                 count = pq_min_size(rows->end - query, PQ_ONLINE_GROUP);
    /* no row of the group sees more than its last */
    pq_online_span span = {.rows = count,
                           .keys = pq_visible_from(args, query + count - 1, first, SPAN)};
    if (span.keys == 0) {
        return;
    }
    score_group(s, count, span.keys, at->q + begin * s->q_stride, at->keys, at->panel);
    pq_online_weigh(args, rows, query, first, pq_softmax_raise_avx2, pq_softmax_table_below_avx2,
                    PQ_SOFTMAX_STEP, at->panel, at->sums.most + begin, &span);
    for (size_t i = 0; i < count; i += PQ_TILE_ROWS) {
        const int16_t *const weights =
            (const int16_t *)(const void *)(at->panel + i * PQ_ONLINE_STRIDE);
        int32_t *const o = at->sums.o + (begin + i) * s->o_stride;
        for (size_t b = 0, end; b < span.blocks; b = end) {
            end = pq_online_enter(args, &span, i, tile_rows(count, i), b, at->sums.l + begin + i, o,
                                  s->o_stride);
            const size_t pair = b * PQ_ONLINE_BLOCK / 2;
            const size_t keys = pq_min_size(end * PQ_ONLINE_BLOCK, span.keys);
            for (size_t c = 0; c < args->head_dim; c += PQ_TILE_COLUMNS) {
                add_tile(tile_rows(count, i), weights + 2 * pair,
                         at->values + c * SPAN + pair * PQ_PAIR_WIDTH,
                         pq_softmax_pairs(keys) - pair, o + c, s->o_stride);
            }
        }
    }
}

static void run_packed(const pq_attention_args *args, const pq_attention_rows *rows, const shape *s,
                       const state *at) {
    const size_t kv_head = rows->head / (args->heads / args->kv_heads), d = args->head_dim;
    const size_t keys = pq_visible_keys(args, rows->end - 1);
    for (size_t first = 0; first < keys; first += SPAN) {
        const size_t n = pq_min_size(keys - first, SPAN);
        const ptrdiff_t k =
            pq_token_offset(args->k_strides, rows->batch, rows->group, kv_head, first);
        const ptrdiff_t v =
            pq_token_offset(args->v_strides, rows->batch, rows->group, kv_head, first);
        pq_pack_keys_avx2(args->k + k, args->k_strides.token, n, d, at->keys);
        pq_pack_values_avx2(args->v + v, args->v_strides.token, n, d, args->v_zero_point, SPAN / 2,
                            at->values);
        for (size_t begin = 0; begin < rows->end - rows->begin; begin += PQ_ONLINE_GROUP) {
            add_span(args, rows, s, at, begin, first);
        }
    }
}

static void write_row(const pq_attention_args *args, const int32_t *o, uint32_t l, int8_t *y) {
    const pq_row_scale scale = pq_make_row_scale(args, l == 0 ? 1 : l);
    const size_t d = args->head_dim;
    for (size_t c = 0; c < d; c += 16) {
        pq_write_16(args, pq_load_256(o + c), pq_load_256(o + c + 8), &scale, y + c, d - c);
    }
}

static void run(const pq_attention_args *args, const pq_attention_rows *rows, void *scratch) {
    const shape s = shape_of(args);
    const state at = lay_out(&s, scratch);
    const size_t count = rows->end - rows->begin;
    assert(0 < count && count <= s.rows);
    pq_online_begin(&at.sums, count);
    for (size_t i = 0; i < count; i++) {
        const ptrdiff_t q =
            pq_token_offset(args->q_strides, rows->batch, rows->group, rows->head, rows->begin + i);
        pq_widen_query(args, args->q + q, at.q + i * s.q_stride);
    }
    if (count <= PQ_DIRECT_ROWS) {
        for (size_t i = 0; i < count; i++) {
            pq_attention_rows one = *rows;
            one.begin += i;
            at.sums.l[i] = pq_online_direct_row(args, &one, at.q + i * s.q_stride, at.panel,
                                                at.sums.o + i * s.o_stride);
        }
    } else {
        run_packed(args, rows, &s, &at);
    }
    for (size_t i = 0; i < count; i++) {
        const ptrdiff_t y =
            pq_token_offset(args->y_strides, rows->batch, rows->group, rows->head, rows->begin + i);
        write_row(args, at.sums.o + i * s.o_stride, at.sums.l[i], args->y + y);
    }
}

const struct pq_attention_online64_s8_kernel pq_attention_online64_s8_avx2 = {
    .rows = block_rows,
    .scratch_size = scratch_size,
    .run = run,
    .macs_per_ms = 20 * 1000 * 1000,
};
