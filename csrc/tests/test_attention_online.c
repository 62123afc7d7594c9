/* attention_online64_s8: a case worked by hand, the exact op where one block holds all keys, closed
 * forms over many blocks, every variant against the reference, and what the entry refuses. */
#include "attention_case.h"
#include "pyquant/attention_online.h"
#include "pyquant/cpu.h"
#include "split_exec.h"

/* One query q = 1, 128 keys of which two are kept: k[0] = 0 in block 0, k[64] = 3 in block 1;
 * values 10 and -20; u = (Delta + 1) >> 1, so that the maximum moves by 3, or 1.5 steps.
 *
 *   x = (3 << 15) >> 1 = 49152: j = 1, f = 16384, h = 0
 *   alpha = 32066 - ((687 * 16384 + 16384) >> 15) = 32066 - 344 = 31722
 *   L = rnu(16383 * 31722, 15) = floor(15860.03 + 1/2) = 15860;    + 16383 = 32243
 *   O = rnu(163830 * 31722, 15) = floor(158600.3 + 1/2) = 158600;  - 20 * 16383 = -169060
 *   y = -169060 / 32243 * 16 = -83.89 -> -84
 * The exact op weighs key 0 at u = 2: P = (31377 + 1) >> 1 = 15689, L = 32072, O = -170770;
 *   y = -85.19 -> -85. */
static void test_by_hand(void) {
    int8_t q[] = {1}, k[128] = {0}, v[128] = {0}, y = 0;
    uint8_t keep[128] = {0};
    k[64] = 3, v[0] = 10, v[64] = -20, keep[0] = keep[64] = 1;
    char message[200] = "";
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_attention_args args = {.batch = 1,
                              .groups = 1,
                              .heads = 1,
                              .kv_heads = 1,
                              .q_len = 1,
                              .k_len = 128,
                              .head_dim = 1,
                              .q = q,
                              .k = k,
                              .v = v,
                              .y = &y,
                              .q_strides.token = 1,
                              .k_strides.token = 1,
                              .v_strides.token = 1,
                              .y_strides.token = 1,
                              .keep = keep,
                              .keep_strides = {0, 0, 0, 0, 1},
                              .softmax = case_softmax(PQ_SOFTMAX_TABLE16, 0.5, 960, 16383),
                              .requant = {INT32_C(1) << 30, 26},
                              .out = {.zero_point = 0, .quant_min = -128, .quant_max = 127}};
    args.softmax.multiplier = 1, args.softmax.shift = 1, args.softmax.delta_max = 960;
    CHECK_OK(pq_attention_online64_s8(&exec, &args));
    CHECK_EQ(y, -84);
    CHECK_OK(pq_attention_s8(&exec, &args));
    CHECK_EQ(y, -85);
    k[64] = -3; /* now the maximum does not move: P = 15689 for key 64 */
    CHECK_OK(pq_attention_online64_s8(&exec, &args));
    CHECK_EQ(y, -75); /* (163830 - 313780) / 32072 * 16 = -74.81 */
    keep[0] = keep[64] = 0;
    args.out.zero_point = 7, args.v_zero_point = 99;
    CHECK_OK(pq_attention_online64_s8(&exec, &args));
    CHECK_EQ(y, 7);
}

static void run_as(const char *isa, const pq_exec *exec, attention_case *c, int8_t *y) {
    CHECK_OK(pq_isa_limit(isa));
    memset(c->y, 0x5a, c->y_size);
    CHECK_OK(pq_attention_online64_s8(exec, &c->args));
    if (c->y_size > 0) {
        memcpy(y, c->y, c->y_size);
    }
    CHECK_OK(pq_isa_limit(NULL));
}

/* Variants, and a driver that splits unevenly, against the reference in order. */
static void same_everywhere(attention_case *c) {
    char message[256] = "";
    uint64_t state = c->q_size;
    const pq_exec serial = pq_exec_serial(message, sizeof message);
    const pq_exec split = split_exec(&state, message, sizeof message);
    int8_t *want = case_alloc(c->y_size), *got = case_alloc(c->y_size);
    run_as("ref", &serial, c, want);
    pq_kernel_row rows[256];
    const int count = pq_kernel_rows(rows, 256);
    for (int i = 0; i < count; i++) {
        if (strcmp(rows[i].op, "attention_online64_s8") == 0 && rows[i].eligible) {
            run_as(pq_isa_name(rows[i].isa), &split, c, got);
            CHECK_SAME(got, want, c->y_size);
        }
    }
    CHECK(message[0] == '\0');
    free(want), free(got);
}

static case_shape shape_of(int n, uint64_t *random, size_t k_len) {
    const size_t kv_heads = (size_t)check_random_in(random, 1, 2);
    return (case_shape){.batch = (size_t)check_random_in(random, 1, 2),
                        .groups = (size_t)check_random_in(random, 1, 2),
                        .heads = kv_heads * (size_t)check_random_in(random, 1, 2),
                        .kv_heads = kv_heads,
                        .q_len = (size_t)check_random_in(random, 0, 12),
                        .k_len = k_len,
                        .d = (size_t)check_random_in(random, 1, 40),
                        .layout = (layout)(n % LAYOUT_COUNT),
                        .method = PQ_SOFTMAX_TABLE16,
                        .flags = n % CASE_FLAGS,
                        .step = 0.003 * (double)(n % 7)};
}

static void test_edges(void) {
    static const size_t keys[] = {0, 1, 63, 64, 65, 127, 128, 129, 200, 640};
    uint64_t random = 1;
    for (int n = 0; n < 160; n++) {
        const case_shape shape = shape_of(n, &random, keys[n % 10]);
        attention_case c = case_make(&shape, &random);
        same_everywhere(&c);
        case_free(&c);
    }
}

/* Rows over several tiles, groups of tiles and blocks, with the rows of a block cut by a small
 * cache and by very many keys; every head size up to 130. */
static void test_many_rows(void) {
    static const size_t queries[] = {5, 6, 7, 23, 24, 25, 49, 191, 192, 193, 200};
    uint64_t random = 5;
    for (int n = 0; n < 130; n++) {
        case_shape shape = shape_of(n, &random, (size_t)check_random_in(&random, 1, 210));
        shape.batch = shape.groups = 1;
        shape.q_len = queries[n % 11];
        shape.d = (size_t)n + 1;
        shape.step = 0.3 / (double)shape.d * (double)(n % 5);
        const pq_cache_sizes caches = {.l1d = 1 << 15, .l2 = (size_t)1 << (14 + n % 6), .l3 = 0};
        pq_cpu_caches_set(n % 3 == 0 ? NULL : &caches);
        attention_case c = case_make(&shape, &random);
        same_everywhere(&c);
        case_free(&c);
    }
    pq_cpu_caches_set(NULL);
}

/* Rows that are not worth packing keys for, over more blocks than are weighed at once. */
static void test_few_rows(void) {
    uint64_t random = 8;
    for (int n = 0; n < 64; n++) {
        case_shape shape = shape_of(n, &random, (size_t)check_random_in(&random, 1400, 3200));
        shape.batch = shape.groups = 1;
        shape.q_len = 1 + (size_t)(n % 7);
        shape.d = n % 5 == 0 ? 64 : (size_t)check_random_in(&random, 1, 130);
        attention_case c = case_make(&shape, &random);
        same_everywhere(&c);
        case_free(&c);
    }
}

/* Any constants of the index, also those of which one step of score is many: the maximum then moves
 * by more than all octaves, or not enough to reach 480. */
static void test_index_shifts(void) {
    uint64_t random = 6;
    for (int n = 0; n < 6 * 31; n++) {
        const case_shape shape = {.batch = 1,
                                  .groups = 1,
                                  .heads = 1,
                                  .kv_heads = 1,
                                  .q_len = 7,
                                  .k_len = 200,
                                  .d = 1 + (size_t)(n % 2),
                                  .method = PQ_SOFTMAX_TABLE16,
                                  .step = 1,
                                  .flags = n % 3 == 0 ? CASE_KEEP : 0};
        attention_case c = case_make(&shape, &random);
        for (size_t i = 0; i < c.q_size && n % 6 < 4; i++) {
            c.q[i] = (int8_t)(c.args.q_zero_point + (i % 2 == 0 ? 1 : 0));
        }
        const uint32_t bits = (uint32_t)check_random_in(&random, 0, 31);
        pq_softmax *const softmax = &c.args.softmax;
        softmax->shift = 1 + n / 6;
        softmax->multiplier = (uint32_t)check_random_in(&random, 1, INT64_C(1) << bits);
        softmax->delta_max =
            (UINT32_MAX - (UINT32_C(1) << (softmax->shift - 1))) / softmax->multiplier;
        if (n % 6 == 5) {
            softmax->delta_max = (uint32_t)check_random_in(&random, 0, softmax->delta_max);
        }
        same_everywhere(&c);
        case_free(&c);
    }
}

/* |q - z_q|, |k| and |v - z_v| at their bounds, keys rising from the least score to the greatest by
 * block or the other way, so that sums of either sign are rescaled as far as can be. */
static void test_extremes(void) {
    static const int8_t ends[] = {-128, 127};
    uint64_t random = 7;
    for (int n = 0; n < 64; n++) {
        const case_shape shape = {.batch = 1,
                                  .groups = 1,
                                  .heads = 1,
                                  .kv_heads = 1,
                                  .q_len = 7,
                                  .k_len = 510,
                                  .d = 65,
                                  .method = PQ_SOFTMAX_TABLE16,
                                  .step = n & 1 ? 1e-4 : 3e-6};
        attention_case c = case_make(&shape, &random);
        memset(c.q, ends[n >> 2 & 1], c.q_size);
        memset(c.v, ends[n >> 4 & 1], c.kv_size);
        for (size_t i = 0; i < c.kv_size; i++) {
            const int64_t rise = (int64_t)(i / 65 / 64) * 32 - 128;
            const int64_t fall = 127 - (int64_t)(i / 65 / 64) * 32;
            const int64_t key = n & 32 ? ends[i / 65 % 2] : n & 8 ? rise : fall;
            c.k[i] = (int8_t)(key < -128 ? -128 : key > 127 ? 127 : key);
        }
        c.args.q_zero_point = ends[~n >> 2 & 1];
        c.args.v_zero_point = n & 2 ? ends[~n >> 4 & 1] : 0;
        c.args.softmax =
            case_softmax(PQ_SOFTMAX_TABLE16, shape.step, 2.0 * 255 * 128 * 65, 16383 - n % 2);
        same_everywhere(&c);
        case_free(&c);
    }
}

/* The bits of attention_s8: at most 64 keys, or a mask that leaves only those of one block. */
static void test_one_block(void) {
    char message[200] = "";
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    uint64_t random = 2;
    for (int n = 0; n < 160; n++) {
        const bool masked = (n % CASE_FLAGS & CASE_KEEP) != 0;
        const size_t keys = (size_t)check_random_in(&random, 0, masked ? 300 : 64);
        const case_shape shape = shape_of(n, &random, keys);
        attention_case c = case_make(&shape, &random);
        for (size_t i = 0; masked && i < c.mask_size; i++) {
            const size_t row = i / keys, blocks = (keys + 63) / 64;
            c.keep[i] = i % keys / 64 == row % blocks ? c.keep[i] : 0;
        }
        int8_t *online = case_alloc(c.y_size);
        run_as(NULL, &exec, &c, online);
        memset(c.y, 0x5a, c.y_size);
        CHECK_OK(pq_attention_s8(&exec, &c.args));
        CHECK_SAME(online, c.y, c.y_size);
        free(online), case_free(&c);
    }
}

/* 16,384 keys at the bounds: all values alike, so that y is known whatever the weights are, and
 * scores that rise with every key, so that every block moves the maximum. |v - z_v| = 255 with
 * equal scores makes the largest sum that is allowed. */
static void test_long_rows(void) {
    uint64_t random = 3;
    for (int n = 0; n < 4; n++) {
        const bool rising = n % 2 != 0, high = n / 2 != 0;
        const case_shape shape = {.batch = 1,
                                  .groups = 1,
                                  .heads = 1,
                                  .kv_heads = 1,
                                  .q_len = 2,
                                  .k_len = 16384,
                                  .d = 5,
                                  .method = PQ_SOFTMAX_TABLE16,
                                  .flags = rising ? CASE_MASK : 0,
                                  .step = 0.002};
        attention_case c = case_make(&shape, &random);
        memset(c.q, 0, c.q_size), c.args.q_zero_point = 0;
        memset(c.v, high ? 127 : -128, c.kv_size);
        for (size_t i = 0; rising && i < c.mask_size; i++) {
            c.mask[i] = (int32_t)(i % shape.k_len);
        }
        c.args.v_zero_point = high ? -128 : 127;
        c.args.softmax = case_softmax(PQ_SOFTMAX_TABLE16, shape.step, 1 << 20,
                                      (int32_t)(INT32_MAX / (255 * shape.k_len)));
        c.args.requant = (pq_dyadic){INT32_C(1) << 30, 31}; /* halves */
        c.args.out = (pq_clamp){.zero_point = 0, .quant_min = -128, .quant_max = 127};
        same_everywhere(&c);
        for (size_t i = 0; i < c.y_size; i++) {
            /* 127.5 and -127.5; rescaling may cost its last unit of the half */
            CHECK(high ? c.y[i] == 127 : c.y[i] == -127 || c.y[i] == -128);
        }
        case_free(&c);
    }
}

static void test_entry(void) {
    uint64_t random = 4;
    const case_shape shape = {.batch = 2,
                              .groups = 1,
                              .heads = 2,
                              .kv_heads = 1,
                              .q_len = 9,
                              .k_len = 300,
                              .d = 24,
                              .method = PQ_SOFTMAX_TABLE16,
                              .step = 0.01};
    attention_case c = case_make(&shape, &random);
    char message[300] = "";
    const pq_exec exec = pq_exec_openmp(2, message, sizeof message);
    const size_t size = pq_attention_online64_workspace(&exec, &c.args);
    pq_attention_args args = c.args;
    args.k_len = 1;
    CHECK_EQ(pq_attention_online64_workspace(&exec, &args), size);

    int8_t *want = case_alloc(c.y_size);
    run_as(NULL, &exec, &c, want);
    unsigned char *workspace = pq_alloc(size + 64);
    memset(workspace, 0xa7, size + 64);
    memset(c.y, 0x5a, c.y_size);
    CHECK_OK(pq_attention_online64_s8_in(&exec, &c.args, workspace, size));
    CHECK_SAME(c.y, want, c.y_size);
    for (size_t i = 0; i < 64; i++) {
        CHECK(workspace[size + i] == 0xa7);
    }
    CHECK_STATUS(pq_attention_online64_s8_in(&exec, &c.args, workspace, 0), PQ_ERR_VALUE);
    CHECK_TEXT(message, "attention_online64_s8: expected a workspace");
    pq_free(workspace);

    args = c.args;
    args.v = NULL;
    CHECK_STATUS(pq_attention_online64_s8(&exec, &args), PQ_ERR_VALUE);
    CHECK_TEXT(message, "data for v");
    args = c.args;
    args.kv_heads = 3;
    CHECK_STATUS(pq_attention_online64_s8(&exec, &args), PQ_ERR_VALUE);
    args = c.args;
    args.softmax = case_softmax(PQ_SOFTMAX_TABLE8, 0.01, 1e6, 255);
    CHECK_STATUS(pq_attention_online64_s8(&exec, &args), PQ_ERR_VALUE);
    CHECK_TEXT(message, "table16");

    const long live = pq_alloc_live();
    pq_alloc_fail_after(0);
    CHECK_STATUS(pq_attention_online64_s8(&exec, &c.args), PQ_ERR_NOMEM);
    pq_alloc_fail_after(-1);
    long calls = 1;
    const pq_exec stopping = stopping_exec(&calls, message, sizeof message);
    CHECK_STATUS(pq_attention_online64_s8(&stopping, &c.args), PQ_ERR_INTERRUPTED);
    CHECK_EQ(pq_alloc_live(), live);
    free(want), case_free(&c);
}

int main(void) {
    test_by_hand();
    test_edges();
    test_many_rows();
    test_few_rows();
    test_index_shifts();
    test_extremes();
    test_one_block();
    test_long_rows();
    test_entry();
    return check_finish("test_attention_online");
}
