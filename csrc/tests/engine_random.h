/* Random valid programs with every op, small enough to interpret naively. No expression draws
 * twice: compilers differ in the order of evaluation, and a seed must mean one program. */
#ifndef PYQUANT_TESTS_ENGINE_RANDOM_H
#define PYQUANT_TESTS_ENGINE_RANDOM_H

#include "engine_build.h"
#include "pyquant/layernorm.h"
#include "pyquant/layout.h"

/* Gather tables have at least this many rows, and valid indices stay below. */
enum { RANDOM_ROWS = 5 };

static inline int64_t random_in(build *b, int64_t low, int64_t high) {
    return check_random_in(&b->random, low, high);
}

static inline int64_t random_zero_point(build *b, int64_t value) {
    return b->values[value].dtype == PQ_S8 ? random_in(b, -128, 127) : random_in(b, -32768, 32767);
}

/* A defined value of a type (a set of 1 << dtype bits), or -1: never -1 where s8 will do. Late
 * values are likelier, so that programs are deep. */
static inline int64_t random_pick(build *b, unsigned types) {
    int64_t best = -1;
    for (int tries = 0; tries < 24; tries++) {
        const int64_t v = random_in(b, 0, (int64_t)b->value_count - 1);
        if ((types >> b->values[v].dtype & 1) && b->values[v].size > 0 && v > best) {
            best = v;
            if (tries > 2) {
                break;
            }
        }
    }
    return best < 0 && (types >> PQ_S8 & 1) ? 2 /* always an s8 input */ : best;
}

static inline int64_t random_divisor(build *b, int64_t size) {
    int64_t divisor = random_in(b, 1, size);
    while (size % divisor != 0) {
        divisor--;
    }
    return divisor;
}

static inline void random_requant(build *b, pq_instruction *i, int64_t low, int64_t high) {
    build_set(i, "multiplier", random_in(b, 1 << 30, INT32_MAX));
    build_set(i, "shift", random_in(b, low, high));
}

static inline pq_dtype random_s8_s16(build *b) {
    return check_random(&b->random) % 2 ? PQ_S8 : PQ_S16;
}

static inline int64_t random_temp(build *b, pq_dtype dtype, bool batched, int64_t size) {
    return build_value(b, PQ_VALUE_TEMP, dtype, batched, size);
}

static inline void random_reshape(build *b) {
    const int64_t x = random_pick(b, ~0u);
    const pq_value v = b->values[x];
    build_emit(b, PQ_OP_RESHAPE, random_temp(b, (pq_dtype)v.dtype, v.batched, v.size))->inputs[0] =
        x;
}

static inline void random_copy(build *b) {
    const int64_t x = random_pick(b, ~0u);
    const pq_value v = b->values[x];
    const int ndim = (int)random_in(b, 0, PQ_MAX_DIMS);
    int64_t dims[PQ_MAX_DIMS] = {0}, strides[PQ_MAX_DIMS] = {0}, size = 1, low = 0, high = 0;
    for (int i = 0; i < ndim; i++) {
        dims[i] = random_in(b, 1, ndim > 3 ? 2 : 5);
        strides[i] = random_in(b, -4, 4);
        const int64_t reach = (dims[i] - 1) * strides[i];
        if (high + (reach > 0 ? reach : 0) - low - (reach < 0 ? reach : 0) >= v.size) {
            strides[i] = 0;
        } else if (reach > 0) {
            high += reach;
        } else {
            low += reach;
        }
        size *= dims[i];
    }
    const bool repeat = check_random(&b->random) % 4 == 0;
    pq_instruction *i =
        build_emit(b, PQ_OP_COPY, random_temp(b, (pq_dtype)v.dtype, v.batched || repeat, size));
    i->inputs[0] = x;
    build_set(i, "ndim", ndim);
    build_set(i, "offset", random_in(b, -low, v.size - 1 - high));
    for (int d = 0; d < ndim; d++) {
        i->attrs[build_attr(PQ_OP_COPY, "dim0") + d] = dims[d];
        i->attrs[build_attr(PQ_OP_COPY, "stride0") + d] = strides[d];
    }
}

static inline void random_concat(build *b) {
    const int64_t first = random_pick(b, ~0u);
    const pq_dtype type = (pq_dtype)b->values[first].dtype;
    const int count = (int)random_in(b, 1, PQ_MAX_CONCAT);
    int64_t inputs[PQ_MAX_CONCAT] = {first}, size = 0, outer = 0;
    bool batched = false, unbatched = false;
    for (int i = 0; i < count; i++) {
        inputs[i] = i == 0 ? first : random_pick(b, 1u << type);
        inputs[i] = inputs[i] < 0 ? first : inputs[i];
        const pq_value v = b->values[inputs[i]];
        size += v.size;
        batched = batched || v.batched;
        unbatched = unbatched || !v.batched;
        int64_t divisor = v.size; /* outer becomes the greatest common divisor */
        while (outer != 0) {
            const int64_t rest = divisor % outer;
            divisor = outer;
            outer = rest;
        }
        outer = divisor;
    }
    outer = batched && unbatched ? 1 : random_divisor(b, outer);
    pq_instruction *i = build_emit(b, PQ_OP_CONCAT, random_temp(b, type, batched, size));
    memcpy(i->inputs, inputs, (size_t)count * sizeof *inputs);
    build_set(i, "outer", outer);
}

static inline void random_gather(build *b) {
    int64_t index = 0; /* the first value is always an index input */
    if (check_random(&b->random) % 3 == 0) {
        index = build_random_constant(b, PQ_S32, random_in(b, 1, 4), 0, RANDOM_ROWS - 1);
    }
    const int64_t rows = random_in(b, RANDOM_ROWS, 8), inner = random_in(b, 1, 7);
    const pq_dtype type = (pq_dtype)random_in(b, PQ_S8, PQ_S64);
    const int64_t table = build_random_constant(b, type, rows * inner, -128, 127);
    const pq_value v = b->values[index];
    pq_instruction *i =
        build_emit(b, PQ_OP_GATHER, random_temp(b, type, v.batched, v.size * inner));
    i->inputs[0] = index;
    i->inputs[1] = table;
    build_set(i, "rows", rows);
    build_set(i, "inner", inner);
}

static inline void random_table_of(build *b, int64_t x) {
    const pq_value v = b->values[x];
    const int64_t table = build_random_constant(b, PQ_S8, 256, -128, 127);
    pq_instruction *i = build_emit(b, PQ_OP_TABLE, random_temp(b, PQ_S8, v.batched, v.size));
    i->inputs[0] = x;
    i->inputs[1] = table;
}

static inline void random_table(build *b) {
    random_table_of(b, random_pick(b, 1u << PQ_S8));
}

/* The sum of values that are allowed to meet. */
static inline void random_add_of(build *b, int64_t a, int64_t other) {
    const pq_value v = b->values[a];
    const pq_dtype type = random_s8_s16(b);
    pq_instruction *i = build_emit(b, PQ_OP_ADD, random_temp(b, type, v.batched, v.size));
    i->inputs[0] = a;
    i->inputs[1] = other;
    build_set(i, "a_zero_point", random_zero_point(b, a));
    build_set(i, "b_zero_point", random_zero_point(b, other));
    const bool a_larger = check_random(&b->random) % 2;
    build_set(i, "a_multiplier", random_in(b, a_larger ? 1 << 30 : 0, INT32_MAX));
    build_set(i, "b_multiplier", random_in(b, a_larger ? 0 : 1 << 30, INT32_MAX));
    build_set(i, "shift", random_in(b, 29, 34));
    build_set_clamp(b, i, type);
}

static inline void random_add(build *b) {
    int64_t a = random_pick(b, 1u << PQ_S8 | 1u << PQ_S16);
    int64_t other = random_pick(b, 1u << PQ_S8 | 1u << PQ_S16);
    if (b->values[a].size < b->values[other].size) {
        const int64_t kept = a;
        a = other;
        other = kept;
    }
    const pq_value v = b->values[a];
    if (v.size % b->values[other].size != 0 || (b->values[other].batched && !v.batched)) {
        const pq_dtype other_type = random_s8_s16(b);
        other = build_random_constant(b, other_type, random_divisor(b, v.size), -128, 127);
    }
    random_add_of(b, a, other);
}

/* What may run as one with a product: a table, or a sum with a value of its shape (the product's
 * own operand where that fits), perhaps behind a reshape. */
static inline void random_follower(build *b, int64_t product, int64_t x) {
    const pq_value v = b->values[product];
    if (check_random(&b->random) % 4 == 0) {
        const int64_t reshaped = random_temp(b, (pq_dtype)v.dtype, v.batched, v.size);
        build_emit(b, PQ_OP_RESHAPE, reshaped)->inputs[0] = product;
        product = reshaped;
    }
    if (v.dtype == PQ_S8 && check_random(&b->random) % 2) {
        random_table_of(b, product);
        return;
    }
    int64_t other = x;
    for (int tries = 0; tries < 16 && other == x; tries++) {
        const int64_t late = random_pick(b, 1u << PQ_S8 | 1u << PQ_S16);
        const pq_value o = b->values[late];
        const bool same = o.size == v.size && o.batched == v.batched;
        other = same && (late != product || tries == 0) ? late : other; /* seldom itself */
    }
    const pq_value o = b->values[other];
    if (o.size != v.size || o.batched != v.batched) {
        const pq_dtype type = random_s8_s16(b);
        other = random_temp(b, type, v.batched, v.size);
        pq_instruction *copy = build_emit(b, PQ_OP_COPY, other);
        copy->inputs[0] = build_random_constant(b, type, v.size, -128, 127);
        build_set(copy, "ndim", 1);
        build_set(copy, "dim0", v.size);
        build_set(copy, "stride0", 1);
    }
    const bool first = check_random(&b->random) % 2;
    random_add_of(b, first ? product : other, first ? other : product);
}

static inline void random_gemm(build *b) {
    const int64_t x = random_pick(b, 1u << PQ_S8);
    const pq_value v = b->values[x];
    const int64_t k = random_divisor(b, v.size), n = random_in(b, 1, 20);
    const pq_dtype types[] = {PQ_S8, PQ_S8, PQ_S16, PQ_S32};
    const pq_dtype type = types[random_in(b, 0, 3)];
    const int64_t w = build_random_constant(b, PQ_S8, n * k, -128, 127);
    int64_t bias = -1, multiplier = -1, shift = -1;
    if (check_random(&b->random) % 2) {
        bias = build_random_constant(b, PQ_S32, n, -5000, 5000);
    }
    if (type != PQ_S32) {
        multiplier = build_random_constant(b, PQ_S32, n, 1 << 30, INT32_MAX);
        shift = build_random_constant(b, PQ_U8, n, 33, 42);
    }
    pq_instruction *i = build_emit(b, PQ_OP_GEMM, random_temp(b, type, v.batched, v.size / k * n));
    i->inputs[0] = x;
    i->inputs[1] = w;
    i->inputs[2] = bias;
    i->inputs[3] = multiplier;
    i->inputs[4] = shift;
    build_set(i, "n", n);
    build_set(i, "k", k);
    build_set(i, "x_zero_point", random_in(b, -128, 127));
    if (type != PQ_S32) {
        build_set_clamp(b, i, type);
    }
    if (type != PQ_S32 && check_random(&b->random) % 2) {
        random_follower(b, i->output, x);
    }
}

static inline void random_gemm_s8s4(build *b) {
    const int64_t x = random_pick(b, 1u << PQ_S8);
    const pq_value v = b->values[x];
    const int64_t k = random_divisor(b, v.size), n = random_in(b, 1, 20);
    const pq_dtype types[] = {PQ_S8, PQ_S8, PQ_S16, PQ_S32};
    const pq_dtype type = types[random_in(b, 0, 3)];
    /* With an odd k the last half byte of a row must be 0: there, bytes are weights >= 0. */
    const int64_t w = build_random_constant(b, PQ_U8, n * ((k + 1) / 2), 0, k % 2 ? 7 : 255);
    const int64_t group_size = 4 * random_in(b, 0, 3);
    const int64_t groups = group_size == 0 ? 0 : (k + group_size - 1) / group_size;
    int64_t bias = -1, multiplier = -1, shift = -1, factor = -1;
    if (check_random(&b->random) % 2) {
        bias = build_random_constant(b, PQ_S32, n, -5000, 5000);
    }
    if (type != PQ_S32) {
        multiplier = build_random_constant(b, PQ_S32, n, 1 << 30, INT32_MAX);
        shift = build_random_constant(b, PQ_U8, n, 33, 42);
    }
    if (group_size > 0) {
        factor = build_random_constant(b, PQ_U8, n * groups, 1, 255);
    }
    pq_instruction *i =
        build_emit(b, PQ_OP_GEMM_S8S4, random_temp(b, type, v.batched, v.size / k * n));
    const int64_t inputs[] = {x, w, bias, multiplier, shift, factor};
    memcpy(i->inputs, inputs, sizeof inputs);
    build_set(i, "n", n);
    build_set(i, "k", k);
    build_set(i, "group_size", group_size);
    build_set(i, "x_zero_point", random_in(b, -128, 127));
    if (type != PQ_S32) {
        build_set_clamp(b, i, type);
    }
}

/* Strides of [groups, heads, tokens, d] inside `size` elements: token-major or head-major, with
 * zero strides where there is not enough; false if d alone does not fit. */
static inline bool random_layout(build *b, int64_t size, int64_t groups, int64_t heads,
                                 int64_t tokens, int64_t d, int64_t out[4]) {
    const bool by_token = check_random(&b->random) % 2;
    int64_t dims[3] = {groups, by_token ? tokens : heads, by_token ? heads : tokens};
    int64_t strides[3] = {0, 0, 0}, reach = d;
    if (d > size) {
        return false;
    }
    for (int i = 2; i >= 0; i--) {
        if (reach * dims[i] <= size) {
            strides[i] = reach;
            reach *= dims[i] > 0 ? dims[i] : 1;
        }
    }
    out[0] = random_in(b, 0, size - reach);
    out[1] = strides[0];
    out[2] = strides[by_token ? 2 : 1];
    out[3] = strides[by_token ? 1 : 2];
    return true;
}

/* The output: any order of the three dimensions, any of them backwards. */
static inline void random_cover(build *b, int64_t groups, int64_t heads, int64_t tokens, int64_t d,
                                int64_t out[4]) {
    const int64_t dims[3] = {groups, heads, tokens};
    int order[3] = {0, 1, 2};
    for (int i = 2; i > 0; i--) {
        const int j = (int)random_in(b, 0, i), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    int64_t radix = d;
    out[0] = 0;
    for (int i = 0; i < 3; i++) {
        const bool backwards = check_random(&b->random) % 4 == 0;
        out[1 + order[i]] = backwards ? -radix : radix;
        out[0] += backwards ? (dims[order[i]] - 1) * radix : 0;
        radix *= dims[order[i]];
    }
}

/* A mask over [groups, heads, queries, keys] in `size` elements: whole, or fewer dimensions. */
static inline void random_mask_strides(build *b, int64_t size, const int64_t dims[4],
                                       int64_t out[4]) {
    int64_t reach = 1;
    for (int i = 3; i >= 0; i--) {
        out[i] = 0;
        if (reach * dims[i] <= size && check_random(&b->random) % 4) {
            out[i] = reach;
            reach *= dims[i] > 0 ? dims[i] : 1;
        }
    }
}

/* The table of a method that looks exponentials up, and what goes with it. */
static inline void random_exponentials(build *b, pq_instruction *i, int slot) {
    const int64_t method = random_in(b, PQ_SOFTMAX_IBERT, PQ_SOFTMAX_METHOD_COUNT - 1);
    const bool bytes = method == PQ_SOFTMAX_QFLASH || method == PQ_SOFTMAX_INDEX;
    int64_t pmax = bytes ? 255 : 1 << 14, bits = 0;
    if (method == PQ_SOFTMAX_IBERT || method == PQ_SOFTMAX_IVIT) {
        bits = random_in(b, 5, 15);
        pmax = (1 << (bits - (method == PQ_SOFTMAX_IVIT))) - 1;
    } else if (method == PQ_SOFTMAX_FQVIT) {
        bits = random_in(b, 2, 4);
    }
    const int64_t entries = random_in(b, 1, 60);
    i->inputs[slot] = build_random_constant(b, PQ_S32, entries, 0, bits == 0 ? pmax : 30000);
    build_set(i, "method", method);
    build_set(i, "pmax", pmax);
    build_set(i, "softmax_bits", bits);
}

static inline void random_octaves(build *b, pq_instruction *i, int slot, int64_t keys) {
    const bool table8 = check_random(&b->random) % 2;
    int64_t pmax = table8 ? 255 : random_in(b, 64, 16383);
    const int64_t most = INT32_MAX / (255 * (keys > 0 ? keys : 1));
    pmax = pmax < most ? pmax : most;
    int16_t table[PQ_SOFTMAX_TABLE_SIZE];
    for (int j = 0; j < PQ_SOFTMAX_TABLE_SIZE; j++) {
        table[j] = (int16_t)(2 * pmax - pmax * j / 32); /* any table that falls will do */
    }
    i->inputs[slot] = build_constant(b, PQ_S16, table, PQ_SOFTMAX_TABLE_SIZE);
    build_set(i, "method", table8 ? PQ_SOFTMAX_TABLE8 : PQ_SOFTMAX_TABLE16);
    build_set(i, "pmax", pmax);
}

static inline void random_softmax_constants(build *b, pq_instruction *i, int slot, int64_t keys) {
    if (check_random(&b->random) % 3 == 0) {
        random_exponentials(b, i, slot);
    } else {
        random_octaves(b, i, slot, keys);
    }
    const int64_t multiplier = random_in(b, 1, 4000), shift = random_in(b, 1, 12);
    build_set(i, "softmax_multiplier", multiplier);
    build_set(i, "softmax_shift", shift);
    build_set(i, "delta_max", random_in(b, 0, (INT64_C(0xffffffff) - (1 << shift)) / multiplier));
}

static inline void random_softmax(build *b) {
    const int64_t x = random_pick(b, 1u << PQ_S8 | 1u << PQ_S16);
    const pq_value v = b->values[x];
    const int64_t n = random_divisor(b, v.size);
    const pq_dtype type = random_s8_s16(b);
    pq_instruction *i = build_emit(b, PQ_OP_SOFTMAX, -1);
    i->inputs[0] = x;
    random_softmax_constants(b, i, 1, n);
    i->output = random_temp(b, type, v.batched, v.size);
    build_set(i, "n", n);
    random_requant(b, i, 14, 24);
    build_set_clamp(b, i, type);
}

static inline void random_attention(build *b) {
    const int64_t q = random_pick(b, 1u << PQ_S8), k = random_pick(b, 1u << PQ_S8);
    const int64_t v = random_pick(b, 1u << PQ_S8);
    const int64_t kv_heads = random_in(b, 1, 2), heads = kv_heads * random_in(b, 1, 2);
    const int64_t groups = random_in(b, 1, 2), q_len = random_in(b, 1, 5);
    const int64_t k_len = random_in(b, 0, 7), d = random_in(b, 1, 4);
    int64_t layouts[4][4];
    if (!random_layout(b, b->values[q].size, groups, heads, q_len, d, layouts[0]) ||
        !random_layout(b, b->values[k].size, groups, kv_heads, k_len, d, layouts[1]) ||
        !random_layout(b, b->values[v].size, groups, kv_heads, k_len, d, layouts[2])) {
        return;
    }
    random_cover(b, groups, heads, q_len, d, layouts[3]);
    const int64_t dims[4] = {groups, heads, q_len, k_len};
    int64_t keep = -1, mask = -1, keep_strides[4] = {0}, mask_strides[4] = {0};
    if (check_random(&b->random) % 2) {
        keep = check_random(&b->random) % 2 ? 1 /* the second value is a u8 input */
                                            : build_random_constant(b, PQ_U8, 40, 0, 1);
        random_mask_strides(b, b->values[keep].size, dims, keep_strides);
    }
    if (check_random(&b->random) % 3 == 0) {
        mask = build_random_constant(b, PQ_S32, 60, -PQ_MASK_ADD_LIMIT, PQ_MASK_ADD_LIMIT);
        random_mask_strides(b, 60, dims, mask_strides);
    }
    const bool batched = b->values[q].batched || b->values[k].batched || b->values[v].batched ||
                         (keep >= 0 && b->values[keep].batched);
    pq_instruction *i = build_emit(b, PQ_OP_ATTENTION, -1);
    i->inputs[0] = q;
    i->inputs[1] = k;
    i->inputs[2] = v;
    i->inputs[4] = keep;
    i->inputs[5] = mask;
    random_softmax_constants(b, i, 3, k_len);
    i->output = random_temp(b, PQ_S8, batched, groups * heads * q_len * d);
    build_set(i, "groups", groups);
    build_set(i, "heads", heads);
    build_set(i, "kv_heads", kv_heads);
    build_set(i, "q_len", q_len);
    build_set(i, "k_len", k_len);
    build_set(i, "head_dim", d);
    const char *const names[4] = {"q_offset", "k_offset", "v_offset", "y_offset"};
    for (int t = 0; t < 4; t++) {
        memcpy(&i->attrs[build_attr(PQ_OP_ATTENTION, names[t])], layouts[t], sizeof layouts[t]);
    }
    memcpy(&i->attrs[build_attr(PQ_OP_ATTENTION, "keep_group")], keep_strides, sizeof keep_strides);
    memcpy(&i->attrs[build_attr(PQ_OP_ATTENTION, "mask_group")], mask_strides, sizeof mask_strides);
    build_set(i, "causal", random_in(b, 0, 1));
    build_set(i, "q_zero_point", random_in(b, -128, 127));
    build_set(i, "k_zero_point", random_in(b, -128, 127));
    build_set(i, "v_zero_point", random_in(b, -128, 127));
    random_requant(b, i, 29, 33);
    build_set_clamp(b, i, PQ_S8);
}

/* The method of a layer norm whose other operands are set, and what only that method has. */
static inline void random_norm_method(build *b, pq_instruction *i, int64_t channels) {
    const int64_t method = random_in(b, 0, PQ_NORM_METHOD_COUNT - 1);
    build_set(i, "method", method);
    build_set(i, "epsilon", method == PQ_NORM_EXACT ? random_in(b, 0, 1 << 20) : 0);
    build_set(i, "iterations",
              method == PQ_NORM_IVIT ? random_in(b, 1, PQ_NORM_ITERATIONS_MAX) : 0);
    if (method == PQ_NORM_PTF) {
        i->inputs[1] = build_random_constant(b, PQ_S32, channels, INT64_C(1) << 30, INT32_MAX);
        i->inputs[2] = build_random_constant(b, PQ_S64, channels, -(INT64_C(1) << 38),
                                             INT64_C(1) << 38);
        i->inputs[3] = build_random_constant(b, PQ_U8, channels, 0, PQ_NORM_ALPHA_MAX);
        i->inputs[4] = build_random_constant(b, PQ_U8, channels, 15, PQ_NORM_EXPONENT_MAX);
        build_set(i, "shift", PQ_NORM_PTF_SHIFT);
        build_set(i, "ptf_multiplier", random_in(b, INT64_C(1) << 30, INT32_MAX));
        build_set(i, "ptf_shift", random_in(b, 26, 40));
        build_set(i, "ptf_zero_point", random_in(b, -128, 127));
    }
}

static inline void random_layernorm(build *b) {
    const int64_t x = random_pick(b, 1u << PQ_S8 | 1u << PQ_S16);
    const pq_value v = b->values[x];
    const int64_t channels = random_divisor(b, v.size);
    const int64_t gain = build_random_constant(b, PQ_S32, channels, -30000, 30000);
    const int64_t offset = build_random_constant(b, PQ_S64, channels, -(1 << 20), 1 << 20);
    const pq_dtype type = random_s8_s16(b);
    pq_instruction *i = build_emit(b, PQ_OP_LAYERNORM, random_temp(b, type, v.batched, v.size));
    i->inputs[0] = x;
    i->inputs[1] = gain;
    i->inputs[2] = offset;
    build_set(i, "channels", channels);
    build_set(i, "rms", random_in(b, 0, 1));
    build_set(i, "x_zero_point", random_zero_point(b, x));
    build_set(i, "shift", random_in(b, 18, 24));
    build_set_clamp(b, i, type);
    random_norm_method(b, i, channels);
}

static inline void random_requantize(build *b) {
    const int64_t x = random_pick(b, 1u << PQ_S8 | 1u << PQ_S16);
    const pq_value v = b->values[x];
    const pq_dtype type = random_s8_s16(b);
    pq_instruction *i = build_emit(b, PQ_OP_REQUANTIZE, random_temp(b, type, v.batched, v.size));
    i->inputs[0] = x;
    build_set(i, "x_zero_point", random_zero_point(b, x));
    random_requant(b, i, 29, 34);
    build_set_clamp(b, i, type);
}

static inline void random_mean(build *b) {
    const int64_t x = random_pick(b, 1u << PQ_S8 | 1u << PQ_S16);
    const pq_value v = b->values[x];
    const int64_t outer = random_divisor(b, v.size), reduce = random_divisor(b, v.size / outer);
    const pq_dtype type = random_s8_s16(b);
    pq_instruction *i = build_emit(b, PQ_OP_MEAN, random_temp(b, type, v.batched, v.size / reduce));
    i->inputs[0] = x;
    build_set(i, "outer", outer);
    build_set(i, "reduce", reduce);
    build_set(i, "inner", v.size / outer / reduce);
    build_set(i, "x_zero_point", random_zero_point(b, x));
    random_requant(b, i, 30, 34);
    build_set_clamp(b, i, type);
}

static inline void random_input_value(build *b, pq_dtype dtype, int64_t size) {
    build_value(b, PQ_VALUE_INPUT, dtype, random_in(b, 0, 4) > 0, size);
}

/* Fills *b with a valid program of up to `length` instructions; the same seed gives the same one.
 */
static inline void random_program(build *b, uint64_t seed, int length) {
    static void (*const makers[PQ_OPCODE_COUNT])(build *) = {
#define PQ_INSTRUCTION(NAME, name, min_inputs, max_inputs, attrs) [PQ_OP_##NAME] = random_##name,
#include "pyquant/instructions.def"
#undef PQ_INSTRUCTION
    };
    memset(b, 0, sizeof *b);
    b->random = seed;
    random_input_value(b, PQ_S32, random_in(b, 1, 6));
    random_input_value(b, PQ_U8, random_in(b, 1, 40));
    random_input_value(b, PQ_S8, random_in(b, 1, 60));
    random_input_value(b, PQ_S16, random_in(b, 1, 60));
    random_input_value(b, PQ_S8, 1 << random_in(b, 2, 6));
    build_random_constant(b, PQ_S8, random_in(b, 1, 30), -128, 127);
    for (int i = 0; i < length && b->value_count + 16 < BUILD_VALUES &&
                    b->instruction_count + 4 < BUILD_INSTRUCTIONS;
         i++) {
        makers[random_in(b, 0, PQ_OPCODE_COUNT - 1)](b);
        /* Values would grow without end through copies and concatenations. */
        if (b->values[b->value_count - 1].size > 600) {
            break;
        }
    }
    b->output_count = (size_t)random_in(b, 1, 4);
    for (size_t j = 0; j < b->output_count; j++) {
        const int64_t late = random_in(b, 0, (int64_t)b->value_count - 1);
        const int64_t later = random_in(b, late, (int64_t)b->value_count - 1);
        b->outputs[j] = later;
    }
}

/* Input bytes of a run: any, but indices below RANDOM_ROWS if `valid`. */
static inline void random_input(uint64_t *random, const pq_value *value, size_t batch, bool valid,
                                void *data) {
    const size_t elements = (value->batched ? batch : 1) * (size_t)value->size;
    const size_t bytes = elements * pq_dtype_size((pq_dtype)value->dtype);
    for (size_t i = 0; i < bytes; i++) {
        ((unsigned char *)data)[i] = (unsigned char)check_random(random);
    }
    for (size_t i = 0; i < elements && valid && value->dtype == PQ_S32; i++) {
        ((int32_t *)data)[i] = (int32_t)check_random_in(random, 0, RANDOM_ROWS - 1);
    }
}

#endif
