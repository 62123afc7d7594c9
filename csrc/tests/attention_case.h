/* Random attention problems for the attention tests: operands in several layouts, constants made
 * here (not by derive, so that the tests stand alone). */
#ifndef PYQUANT_TESTS_ATTENTION_CASE_H
#define PYQUANT_TESTS_ATTENTION_CASE_H

#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "pyquant/attention.h"

typedef enum layout {
    HEAD_MAJOR = 0, /* [b, g, h, t, d] */
    TOKEN_MAJOR,    /* [b, g, t, h, d] */
    GAPS,           /* token-major, three elements between rows */
    REVERSED,       /* head-major, tokens from the end: a negative stride */
    LAYOUT_COUNT
} layout;

enum { CASE_KEEP = 1, CASE_MASK = 2, CASE_CAUSAL = 4, CASE_BROADCAST = 8, CASE_FLAGS = 16 };

typedef struct case_shape {
    size_t batch, groups, heads, kv_heads, q_len, k_len, d;
    layout layout;
    pq_softmax_method method;
    int flags;
    double step; /* octaves / 32 of one unit of score; 0: all weights equal */
} case_shape;

typedef struct attention_case {
    pq_attention_args args;
    int8_t *q, *k, *v, *y;
    uint8_t *keep;
    int32_t *mask, *exponentials;
    size_t q_size, kv_size, y_size, mask_size;
} attention_case;

static inline void *case_alloc(size_t size) {
    void *block = malloc(size == 0 ? 1 : size);
    if (block == NULL) {
        abort();
    }
    return block;
}

/* The constants of a step; `bound` is the greatest Delta. */
static inline pq_softmax case_softmax(pq_softmax_method method, double step, double bound,
                                      int32_t pmax) {
    pq_softmax softmax = {.method = method, .shift = 31, .pmax = pmax};
    for (int s = 31; s >= 1 && step > 0; s--) {
        const double m = rint(ldexp(step, s));
        const double delta_max = fmin(ceil(480 * ldexp(1, s) / m), bound);
        if (m >= 1 && m < 4294967296.0 && delta_max * m + ldexp(1, s - 1) < 4294967296.0) {
            softmax.delta_max = (uint32_t)delta_max;
            softmax.multiplier = (uint32_t)m;
            softmax.shift = s;
            break;
        }
    }
    for (int j = 0; j < PQ_SOFTMAX_TABLE_SIZE; j++) {
        softmax.table[j] = (uint16_t)rint(2 * pmax * exp2(-j / 32.0));
    }
    return softmax;
}

/* Strides of a [batch, groups, heads, tokens, d] tensor, its elements and its first one. */
static inline pq_strides case_strides(layout form, size_t groups, size_t heads, size_t tokens,
                                      size_t d, size_t batch, size_t *size, size_t *first) {
    const ptrdiff_t h = (ptrdiff_t)heads, t = (ptrdiff_t)tokens;
    const ptrdiff_t row = (ptrdiff_t)(form == GAPS ? d + 3 : d);
    const bool by_token = form == TOKEN_MAJOR || form == GAPS;
    pq_strides s = {
        .group = h * t * row, .head = by_token ? row : t * row, .token = by_token ? h * row : row};
    s.batch = (ptrdiff_t)groups * s.group;
    *size = batch * groups * heads * tokens * (size_t)row;
    *first = 0;
    if (form == REVERSED && tokens > 0) {
        *first = (size_t)((t - 1) * row);
        s.token = -row;
    }
    return s;
}

/* A method by table, with entries that no paper has: whatever the checks allow for so many keys. */
static inline void case_lookup(attention_case *c, const case_shape *s, double bound, uint64_t vmax,
                               uint64_t *random) {
    const uint64_t keys = s->k_len == 0 ? 1 : s->k_len;
    const bool weights = s->method == PQ_SOFTMAX_IPTQ || s->method == PQ_SOFTMAX_QFLASH ||
                         s->method == PQ_SOFTMAX_SOLE || s->method == PQ_SOFTMAX_INDEX;
    const bool narrow = s->method == PQ_SOFTMAX_QFLASH || s->method == PQ_SOFTMAX_INDEX;
    pq_softmax softmax = case_softmax(PQ_SOFTMAX_TABLE8, s->step, bound, 255);
    softmax.method = s->method;
    softmax.entries = (uint32_t)check_random_in(random, 1, s->k_len % 2 ? 700 : 8192);
    softmax.pmax = 1 << 14;
    if (narrow) {
        softmax.pmax = 255;
    } else if (weights) {
        softmax.pmax = (int32_t)fmin(1 << 14, (double)(INT32_MAX / vmax / keys));
    } else if (s->method == PQ_SOFTMAX_IBERT) {
        softmax.bits = (int32_t)check_random_in(random, 4, 15);
        softmax.pmax = (1 << softmax.bits) - 1;
    } else if (s->method == PQ_SOFTMAX_IVIT) {
        softmax.bits = (int32_t)check_random_in(random, 5, 16);
        softmax.pmax = (1 << (softmax.bits - 1)) - 1;
    } else {
        softmax.bits = (int32_t)check_random_in(random, 2, 4);
    }
    const uint64_t sums = s->method == PQ_SOFTMAX_INDEX ? UINT32_MAX / 512 : INT32_MAX;
    const int64_t most = (int64_t)fmin(weights ? softmax.pmax : INT32_MAX, (double)(sums / keys));
    c->exponentials = case_alloc(softmax.entries * sizeof *c->exponentials);
    for (uint32_t u = 0; u < softmax.entries; u++) { /* falling, mostly, and often 0 */
        const int64_t high = most >> (u * 20 / softmax.entries);
        c->exponentials[u] =
            u % 7 == 3 ? (int32_t)check_random_in(random, 0, most) : (int32_t)high;
    }
    softmax.exponentials = c->exponentials;
    c->args.softmax = softmax;
}

static inline void case_free(attention_case *c) {
    free(c->q), free(c->k), free(c->v), free(c->y), free(c->keep), free(c->mask);
    free(c->exponentials);
}

static inline attention_case case_make(const case_shape *s, uint64_t *random) {
    attention_case c = {.args = {.batch = s->batch,
                                 .groups = s->groups,
                                 .heads = s->heads,
                                 .kv_heads = s->kv_heads,
                                 .q_len = s->q_len,
                                 .k_len = s->k_len,
                                 .head_dim = s->d,
                                 .causal = (s->flags & CASE_CAUSAL) != 0}};
    pq_attention_args *a = &c.args;
    size_t q_first, kv_first;
    a->q_strides =
        case_strides(s->layout, s->groups, s->heads, s->q_len, s->d, s->batch, &c.q_size, &q_first);
    a->k_strides = case_strides(s->layout, s->groups, s->kv_heads, s->k_len, s->d, s->batch,
                                &c.kv_size, &kv_first);
    if ((s->flags & CASE_BROADCAST) != 0) {
        a->k_strides.batch = a->k_strides.head = 0;
    }
    a->v_strides = a->k_strides;
    a->y_strides = a->q_strides;
    c.y_size = c.q_size;
    c.q = case_alloc(c.q_size), c.y = case_alloc(c.y_size);
    c.k = case_alloc(c.kv_size), c.v = case_alloc(c.kv_size);
    check_random_s8(random, c.q, c.q_size);
    check_random_s8(random, c.k, c.kv_size);
    check_random_s8(random, c.v, c.kv_size);
    a->q = c.q + q_first, a->y = c.y + q_first;
    a->k = c.k + kv_first, a->v = c.v + kv_first;

    const size_t rows = s->batch * s->groups * s->heads * s->q_len;
    c.mask_size = rows * s->k_len;
    if ((s->flags & CASE_KEEP) != 0) { /* any value but 0 keeps; the first row keeps nothing */
        c.keep = case_alloc(c.mask_size);
        for (size_t i = 0; i < c.mask_size; i++) {
            const uint64_t r = check_random(random);
            c.keep[i] = i < s->k_len || r % 3 == 0 ? 0 : (uint8_t)(1 + r / 3 % 255);
        }
        a->keep = c.keep;
    }
    if ((s->flags & CASE_MASK) != 0) {
        c.mask = case_alloc(c.mask_size * sizeof *c.mask);
        check_random_s32(random, c.mask, c.mask_size, -40000, 40000);
        for (size_t i = 0; i < c.mask_size; i += 37) {
            c.mask[i] = i % 2 ? PQ_MASK_ADD_LIMIT : -PQ_MASK_ADD_LIMIT;
        }
        a->mask_add = c.mask;
    }
    const ptrdiff_t dims[5] = {(ptrdiff_t)s->batch, (ptrdiff_t)s->groups, (ptrdiff_t)s->heads,
                               (ptrdiff_t)s->q_len, (ptrdiff_t)s->k_len};
    ptrdiff_t stride = 1;
    for (int i = 4; i >= 0; i--) {
        a->keep_strides[i] = a->mask_strides[i] = stride;
        stride *= dims[i];
    }

    a->q_zero_point = (int32_t)check_random_in(random, -128, 127);
    a->k_zero_point = (int32_t)check_random_in(random, -128, 127);
    a->v_zero_point = (int32_t)check_random_in(random, -128, 127);
    const double vmax = fmax(127 - a->v_zero_point, 128 + a->v_zero_point);
    const double keys = s->k_len == 0 ? 1 : (double)s->k_len;
    const double pmax =
        fmin(s->method == PQ_SOFTMAX_TABLE8 ? 255 : 16383, floor(INT32_MAX / (vmax * keys)));
    const double bound =
        2.0 * 255 * 128 * (double)s->d + (a->mask_add != NULL ? 2.0 * PQ_MASK_ADD_LIMIT : 0.0);
    if (pq_softmax_by_octaves(s->method)) {
        a->softmax = case_softmax(s->method, s->step, bound, (int32_t)pmax);
    } else {
        case_lookup(&c, s, bound, (uint64_t)vmax, random);
    }
    /* s_v / s_y in [1/2, 8) */
    a->requant.multiplier = (int32_t)check_random_in(random, INT32_C(1) << 30, INT32_MAX);
    a->requant.shift = (uint8_t)check_random_in(random, 28, 31);
    a->out.quant_min = (int32_t)check_random_in(random, -128, -100);
    a->out.quant_max = (int32_t)check_random_in(random, 100, 127);
    a->out.zero_point = (int32_t)check_random_in(random, -100, 100);
    return c;
}

#endif
