/* The AVX-512 variants of the online form: layout, packing and tile of the exact form
 * (attention_avx512.h), which sees a span of keys as attention over these alone. Only the output
 * differs: its sums are added to what was. */
#ifndef PYQUANT_ATTENTION_ATTENTION_ONLINE64_AVX512_H
#define PYQUANT_ATTENTION_ATTENTION_ONLINE64_AVX512_H

#include "attention/attention_avx512.h"
#include "attention/attention_online64_avx2.h"

/* Sizes in bytes, each a multiple of 64. */
typedef struct pq_online_shape {
    pq_attention_shape span; /* its rows are not used */
    size_t packed, q_stride; /* a query is s16 where few are read in place */
    size_t o_stride;         /* s32 */
    size_t rows;             /* that scratch is made for */
} pq_online_shape;

typedef struct pq_online_state {
    char *packed, *q;
    int32_t *panel;
    pq_online_sums sums;
} pq_online_state;

static inline pq_online_shape pq_online_shape_of(const pq_attention_args *args,
                                                 const pq_attention_form *form) {
    const size_t d = args->head_dim;
    pq_attention_args of_span = *args;
    of_span.k_len = PQ_ONLINE_SPAN;
    const pq_attention_shape span = pq_shape_of(&of_span, form);
    pq_online_shape s = {
        .span = span,
        .packed =
            args->q_len > PQ_DIRECT_ROWS
                ? span.bias_size + span.keys_size + span.value_blocks * span.value_steps * PQ_VECTOR
                : 0,
        .q_stride = pq_round_up(d * sizeof(int16_t), PQ_VECTOR) + PQ_VECTOR,
        .o_stride = pq_round_up(d, 2 * PQ_LANES) + PQ_LANES /* an odd number of cache lines */
    };
    s.span.q_stride = s.q_stride;
    s.rows = pq_online_scratch_rows(args, s.q_stride + s.o_stride * sizeof(int32_t), s.packed);
    return s;
}

static inline size_t pq_online_scratch_512(const pq_attention_args *args,
                                           const pq_attention_form *form) {
    const pq_online_shape s = pq_online_shape_of(args, form);
    const size_t s32 = PQ_ONLINE_PANEL + s.rows * s.o_stride + 2 * pq_round_up(s.rows, PQ_LANES);
    return s.packed + s.rows * s.q_stride + s32 * sizeof(int32_t);
}

static inline pq_online_state pq_online_lay_out(const pq_online_shape *s, void *scratch) {
    pq_online_state at = {.packed = scratch, .sums.o_stride = s->o_stride};
    at.q = at.packed + s->packed;
    at.panel = (int32_t *)(void *)(at.q + s->rows * s->q_stride);
    at.sums.o = at.panel + PQ_ONLINE_PANEL;
    at.sums.most = at.sums.o + s->rows * s->o_stride;
    at.sums.l = (uint32_t *)at.sums.most + pq_round_up(s->rows, PQ_LANES);
    return at;
}

/* O += weights times values, of one tile of rows and the keys of `steps` pairs. */
static inline void pq_online_output(const pq_attention_form *form, const pq_attention_shape *s,
                                    size_t rows, size_t steps, const char *weights,
                                    const char *values, int32_t *o, size_t o_stride) {
    assert(form->value_unit == 2); /* pairs of P and v - z_v */
    for (size_t block = 0; block < s->value_blocks; block += PQ_TILE_VECTORS) {
        _Alignas(64) int32_t sums[PQ_TILE_ROWS * PQ_TILE_VECTORS * PQ_LANES];
        const size_t vectors = pq_min_size(s->value_blocks - block, PQ_TILE_VECTORS);
        const pq_product product = {
            .a = weights,
            .a_stride = s->panel_stride * sizeof(int32_t),
            .b = values + block * s->value_steps * PQ_VECTOR,
            .b_stride = s->value_steps * PQ_VECTOR,
            .steps = steps,
            .sums = sums,
            .sums_stride = PQ_TILE_VECTORS * PQ_LANES,
        };
        form->output(rows, vectors, &product);
        for (size_t r = 0; r < rows; r++) {
            int32_t *const row = o + r * o_stride + block * PQ_LANES;
            const int32_t *const sum = sums + r * PQ_TILE_VECTORS * PQ_LANES;
            for (size_t c = 0; c < vectors * PQ_LANES; c += PQ_LANES) {
                _mm512_store_si512(row + c, _mm512_add_epi32(_mm512_load_si512(row + c),
                                                             _mm512_load_si512(sum + c)));
            }
        }
    }
}

/* Keys from `first` on for the rows begin .. of the block of rows, at most a group. */
static inline void pq_online_add_span(const pq_attention_args *args, const pq_attention_form *form,
                                      const pq_attention_rows *rows, const pq_online_shape *s,
                                      const pq_online_state *at, size_t begin, size_t first) {
    const size_t query = rows->begin + begin,
                 count = pq_min_size(rows->end - query, PQ_ONLINE_GROUP);
    const char *const values = at->packed + s->span.bias_size + s->span.keys_size;
    /* no row of the group sees more than its last */
    pq_online_span span = {.rows = count,
                           .keys = pq_visible_from(args, query + count - 1, first, PQ_ONLINE_SPAN)};
    if (span.keys == 0) {
        return;
    }
    pq_score_rows(form, &s->span, count, span.keys, at->q + begin * s->q_stride, at->packed,
                  at->panel);
    pq_online_weigh(args, rows, query, first, pq_softmax_raise_avx512,
                    pq_softmax_table_below_avx512, 2 * PQ_SOFTMAX_STEP, at->panel,
                    at->sums.most + begin, &span);
    for (size_t i = 0; i < count; i += PQ_TILE_ROWS) {
        const size_t tile = pq_min_size(count - i, PQ_TILE_ROWS);
        const char *const weights = (const char *)(at->panel + i * PQ_ONLINE_STRIDE);
        int32_t *const o = at->sums.o + (begin + i) * s->o_stride;
        for (size_t b = 0, end; b < span.blocks; b = end) {
            end = pq_online_enter(args, &span, i, tile, b, at->sums.l + begin + i, o, s->o_stride);
            const size_t pair = b * PQ_ONLINE_BLOCK / 2;
            const size_t keys = pq_min_size(end * PQ_ONLINE_BLOCK, span.keys);
            pq_online_output(form, &s->span, tile, pq_ceil_div(keys, 2) - pair,
                             weights + pair * 2 * sizeof(int16_t), values + pair * PQ_VECTOR, o,
                             s->o_stride);
        }
    }
}

static inline void pq_online_run_packed(const pq_attention_args *args,
                                        const pq_attention_form *form,
                                        const pq_attention_rows *rows, const pq_online_shape *s,
                                        const pq_online_state *at) {
    const size_t kv_head = rows->head / (args->heads / args->kv_heads);
    const size_t keys = pq_visible_keys(args, rows->end - 1);
    pq_attention_args of_span = *args;
    for (size_t first = 0; first < keys; first += PQ_ONLINE_SPAN) {
        const ptrdiff_t k =
            pq_token_offset(args->k_strides, rows->batch, rows->group, kv_head, first);
        const ptrdiff_t v =
            pq_token_offset(args->v_strides, rows->batch, rows->group, kv_head, first);
        of_span.k_len = pq_min_size(keys - first, PQ_ONLINE_SPAN);
        pq_pack_512(&of_span, form, &s->span, args->k + k, args->v + v, 0, of_span.k_len,
                    at->packed);
        for (size_t begin = 0; begin < rows->end - rows->begin; begin += PQ_ONLINE_GROUP) {
            pq_online_add_span(args, form, rows, s, at, begin, first);
        }
    }
}

static inline void pq_online_write_row(const pq_attention_args *args, const int32_t *o, uint32_t l,
                                       int8_t *y) {
    const pq_row_scale scale = pq_make_row_scale(args, l == 0 ? 1 : l);
    const size_t d = args->head_dim;
    for (size_t c = 0; c < d; c += PQ_LANES) {
        pq_write_sums(args, _mm512_load_si512(o + c), &scale, y + c, d - c);
    }
}

static inline void pq_online_run_512(const pq_attention_args *args, const pq_attention_form *form,
                                     const pq_attention_rows *rows, void *scratch) {
    const pq_online_shape s = pq_online_shape_of(args, form);
    const pq_online_state at = pq_online_lay_out(&s, scratch);
    const size_t count = rows->end - rows->begin;
    const bool direct = count <= PQ_DIRECT_ROWS;
    assert(0 < count && count <= s.rows);
    pq_online_begin(&at.sums, count);
    for (size_t i = 0; i < count; i++) {
        pq_attention_rows one = *rows;
        one.begin += i;
        const int8_t *const q = args->q + pq_token_offset(args->q_strides, rows->batch, rows->group,
                                                          rows->head, one.begin);
        char *const to = at.q + i * s.q_stride;
        if (direct) {
            pq_widen_query(args, q, (int16_t *)(void *)to);
            at.sums.l[i] = pq_online_direct_row(args, &one, (const int16_t *)(const void *)to,
                                                at.panel, at.sums.o + i * s.o_stride);
        } else {
            pq_prepare_query(args, form, q, to);
        }
    }
    if (!direct) {
        pq_online_run_packed(args, form, rows, &s, &at);
    }
    for (size_t i = 0; i < count; i++) {
        const ptrdiff_t y =
            pq_token_offset(args->y_strides, rows->batch, rows->group, rows->head, rows->begin + i);
        pq_online_write_row(args, at.sums.o + i * s.o_stride, at.sums.l[i], args->y + y);
    }
}

#endif
