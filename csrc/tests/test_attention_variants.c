/* Every variant of attention_s8 that this machine runs gives the bits of the reference, in any
 * layout, split and number of threads; and what the entry point refuses. */
#include "attention_case.h"
#include "core/dispatch.h"
#include "pyquant/cpu.h"

enum { GUARD = 64 };

static void run_as(const char *isa, const pq_exec *exec, attention_case *c, int8_t *y) {
    CHECK_OK(pq_isa_limit(isa));
    memset(c->y, 0x5a, c->y_size);
    CHECK_OK(pq_attention_s8(exec, &c->args));
    if (c->y_size > 0) {
        memcpy(y, c->y, c->y_size);
    }
    CHECK_OK(pq_isa_limit(NULL));
}

/* The reference against each eligible variant; the gaps between rows are compared too. */
static bool same_everywhere(const case_shape *shape, attention_case *c) {
    char message[256] = "";
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    int8_t *want = case_alloc(c->y_size), *got = case_alloc(c->y_size);
    run_as("ref", &exec, c, want);
    pq_kernel_row rows[256];
    const int count = pq_kernel_rows(rows, 256);
    bool same = true;
    for (int i = 0; i < count && same; i++) {
        if (strcmp(rows[i].op, "attention_s8") == 0 && rows[i].eligible) {
            run_as(pq_isa_name(rows[i].isa), &exec, c, got);
            same = CHECK_SAME(got, want, c->y_size);
        }
    }
    if (!same || message[0] != '\0') {
        fprintf(
            stderr, "  b %zu g %zu h %zu/%zu q %zu k %zu d %zu layout %d method %d flags %d: %s\n",
            shape->batch, shape->groups, shape->heads, shape->kv_heads, shape->q_len, shape->k_len,
            shape->d, (int)shape->layout, (int)shape->method, shape->flags, message);
    }
    free(want), free(got);
    return same;
}

static void try_shape(case_shape shape, uint64_t *random) {
    attention_case c = case_make(&shape, random);
    same_everywhere(&shape, &c);
    case_free(&c);
}

/* Edges of the register tile (6 rows, 16 columns), the softmax step (32 keys) and head sizes. */
static void test_edges(void) {
    static const size_t keys[] = {0, 1, 2, 15, 16, 17, 31, 32, 33, 65, 197};
    static const size_t queries[] = {1, 5, 6, 7, 24, 25};
    static const size_t dims[] = {1, 2, 15, 16, 17, 32, 63, 64, 80, 128};
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        for (size_t j = 0; j < sizeof dims / sizeof *dims; j++) {
            const size_t n = i * 10 + j;
            try_shape((case_shape){.batch = 1,
                                   .groups = 1,
                                   .heads = 2,
                                   .kv_heads = 1 + j % 2,
                                   .q_len = queries[n % 6],
                                   .k_len = keys[i],
                                   .d = dims[j],
                                   .layout = (layout)(n % LAYOUT_COUNT),
                                   .method = (pq_softmax_method)(n / 3 % PQ_SOFTMAX_METHOD_COUNT),
                                   .flags = (int)(n % CASE_FLAGS),
                                   .step = 0.01 * (double)(j * j)},
                      &random);
        }
    }
}

static void test_random(void) {
    static const double steps[] = {0, 1e-5, 0.003, 0.02, 0.3, 40};
    uint64_t random = 2;
    for (int n = 0; n < 240; n++) {
        const size_t kv_heads = (size_t)check_random_in(&random, 1, 3);
        try_shape((case_shape){.batch = (size_t)check_random_in(&random, 0, 3),
                               .groups = (size_t)check_random_in(&random, 1, 3),
                               .heads = kv_heads * (size_t)check_random_in(&random, 1, 3),
                               .kv_heads = kv_heads,
                               .q_len = (size_t)check_random_in(&random, 0, 60),
                               .k_len = (size_t)check_random_in(&random, 1, 90),
                               .d = (size_t)check_random_in(&random, 0, 70),
                               .layout = (layout)(n % LAYOUT_COUNT),
                               .method = (pq_softmax_method)(n / 4 % PQ_SOFTMAX_METHOD_COUNT),
                               .flags = (int)check_random_in(&random, 0, CASE_FLAGS - 1),
                               .step = steps[n % 6]},
                  &random);
    }
}

/* Every head size to 160, which no vector width divides alone, and a few rows. */
static void test_head_sizes(void) {
    uint64_t random = 8;
    for (size_t d = 1; d <= 160; d++) {
        try_shape((case_shape){.batch = 1,
                               .groups = 1,
                               .heads = 2,
                               .kv_heads = 1,
                               .q_len = 3 + d % 5,
                               .k_len = 1 + d * 7 % 70,
                               .d = d,
                               .layout = (layout)(d % LAYOUT_COUNT),
                               .method = (pq_softmax_method)(d % PQ_SOFTMAX_METHOD_COUNT),
                               .flags = (int)(d % CASE_FLAGS),
                               .step = 0.3 / (double)d},
                  &random);
    }
}

/* One query, and as many as still read keys in place, over every tail of keys. */
static void test_few_queries(void) {
    uint64_t random = 9;
    for (size_t n = 0; n < 180; n++) {
        try_shape((case_shape){.batch = 1 + n % 2,
                               .groups = 1,
                               .heads = n % 3 == 0 ? 4 : 2,
                               .kv_heads = n % 5 == 0 ? 1 : 2,
                               .q_len = n % 4 == 3 ? 2 : 1,
                               .k_len = n % 90,
                               .d = n % 7 == 0 ? 64 : 1 + n * 13 % 130,
                               .layout = (layout)(n % LAYOUT_COUNT),
                               .method = (pq_softmax_method)(n / 2 % PQ_SOFTMAX_METHOD_COUNT),
                               .flags = (int)(n / 3 % CASE_FLAGS),
                               .step = 0.002 * (double)(n % 11)},
                  &random);
    }
}

/* Shifts of the index below 16, where AVX2 takes another form of it: one step of score is many of
 * the index, up to more than all of them; and constants that reach no 480. */
static void test_index_shifts(void) {
    uint64_t random = 10;
    for (int shift = 1; shift <= 31; shift++) {
        for (int n = 0; n < 6; n++) {
            const case_shape shape = {.batch = 1,
                                      .groups = 1,
                                      .heads = 1,
                                      .kv_heads = 1,
                                      .q_len = 7,
                                      .k_len = 70,
                                      .d = 1 + (size_t)(n % 2),
                                      .method = (pq_softmax_method)(n % 2),
                                      .step = 1,
                                      .flags = n % 3 == 0 ? CASE_KEEP : 0};
            attention_case c = case_make(&shape, &random);
            for (size_t i = 0; i < c.q_size && n < 4; i++) {
                c.q[i] = (int8_t)(c.args.q_zero_point + (i % 2 == 0 ? 1 : 0));
            }
            const uint32_t bits = (uint32_t)check_random_in(&random, 0, 31);
            pq_softmax *const softmax = &c.args.softmax;
            softmax->shift = shift;
            softmax->multiplier = (uint32_t)check_random_in(&random, 1, UINT32_C(1) << bits);
            softmax->delta_max = (UINT32_MAX - (UINT32_C(1) << (shift - 1))) / softmax->multiplier;
            if (n == 5) {
                softmax->delta_max = (uint32_t)check_random_in(&random, 0, softmax->delta_max);
            }
            same_everywhere(&shape, &c);
            case_free(&c);
        }
    }
}

/* Panels of one tile, and of fewer rows than a tile; many waves of packing; long rows. */
static void test_large(void) {
    uint64_t random = 3;
    const case_shape base = {.batch = 1, .groups = 1, .heads = 1, .kv_heads = 1, .step = 0.01};
    case_shape s = base;
    s.q_len = 8, s.k_len = 2731, s.d = 33, s.flags = CASE_CAUSAL;
    try_shape(s, &random);
    s.q_len = 7, s.k_len = 16384, s.d = 64, s.flags = CASE_KEEP, s.method = PQ_SOFTMAX_TABLE8;
    try_shape(s, &random);
    s.q_len = 2, s.k_len = 16383, s.d = 5000, s.flags = 0; /* 2^26 products in a row */
    try_shape(s, &random);
    s.q_len = 2, s.k_len = 100000, s.d = 31, s.method = PQ_SOFTMAX_TABLE16;
    try_shape(s, &random);
    s.q_len = 1, s.k_len = 16384, s.d = 80;
    try_shape(s, &random);
    s.q_len = 6, s.k_len = 16384, s.d = 32;
    try_shape(s, &random);
    s = base;
    s.batch = 5, s.groups = 4, s.heads = 4, s.kv_heads = 2, s.q_len = 3, s.k_len = 197, s.d = 64;
    try_shape(s, &random);
    s = base;
    s.q_len = 3, s.k_len = 9, s.d = 32767, s.step = 1e-4;
    try_shape(s, &random);
}

/* The largest magnitudes: |q - z_q|, |k| and |v - z_v| at their bounds, rows flat and one-hot. */
static void test_extremes(void) {
    static const int8_t values[] = {-128, 127};
    uint64_t random = 4;
    for (int n = 0; n < 64; n++) {
        case_shape shape = {.batch = 1,
                            .groups = 1,
                            .heads = 1,
                            .kv_heads = 1,
                            .q_len = 7,
                            .k_len = n < 32 ? 514 : 67,
                            .d = 65,
                            .method = (pq_softmax_method)(n % 2),
                            .step = n & 2 ? 0 : 1e-3};
        attention_case c = case_make(&shape, &random);
        memset(c.q, values[n >> 2 & 1], c.q_size);
        memset(c.k, values[n >> 3 & 1], c.kv_size);
        memset(c.v, values[n >> 4 & 1], c.kv_size);
        c.args.q_zero_point = values[n >> 2 & 1] < 0 ? 127 : -128;
        c.args.v_zero_point = values[n >> 4 & 1] < 0 ? 127 : -128;
        c.args.softmax =
            case_softmax(shape.method, shape.step, 2.0 * 255 * 128 * 65,
                         (int32_t)fmin(shape.method == PQ_SOFTMAX_TABLE8 ? 255 : 16383,
                                       floor(INT32_MAX / (255.0 * (double)shape.k_len))));
        if (n & 32) { /* one key apart from the others by the largest possible score */
            memset(c.k + (size_t)n % 67 * 65, values[~n >> 3 & 1], 65);
        }
        same_everywhere(&shape, &c);
        case_free(&c);
    }
}

/* Where the weights of a row need another byte, and the ends. */
static void test_pmax(void) {
    static const int32_t pmax[] = {1, 127, 128, 255, 256, 257, 16383};
    uint64_t random = 8;
    const case_shape shape = {.batch = 1,
                              .groups = 1,
                              .heads = 1,
                              .kv_heads = 1,
                              .q_len = 13,
                              .k_len = 70,
                              .d = 20,
                              .step = 0.01};
    for (size_t i = 0; i < sizeof pmax / sizeof *pmax; i++) {
        attention_case c = case_make(&shape, &random);
        c.args.softmax =
            case_softmax(PQ_SOFTMAX_TABLE16, shape.step, 2.0 * 255 * 128 * 20, pmax[i]);
        same_everywhere(&shape, &c);
        case_free(&c);
    }
}

static void test_mask_strides(void) {
    uint64_t random = 5;
    const case_shape shape = {.batch = 2,
                              .groups = 1,
                              .heads = 2,
                              .kv_heads = 2,
                              .q_len = 9,
                              .k_len = 40,
                              .d = 16,
                              .step = 0.05,
                              .flags = CASE_KEEP | CASE_MASK};
    attention_case c = case_make(&shape, &random);
    /* transposed keys, then broadcast over all but the keys, then over the keys */
    static const ptrdiff_t forms[3][5] = {
        {720, 0, 360, 1, 9}, {0, 0, 0, 0, 1}, {720, 0, 360, 40, 0}};
    for (int i = 0; i < 9; i++) {
        memcpy(c.args.keep_strides, forms[i % 3], sizeof forms[0]);
        memcpy(c.args.mask_strides, forms[i / 3], sizeof forms[0]);
        same_everywhere(&shape, &c);
    }
    case_free(&c);
}

/* A driver that takes single items, the last first, each with another slot. */
static pq_status backwards(const pq_exec *exec, size_t count, size_t grain, pq_range_fn body,
                           void *task) {
    CHECK(grain >= 1);
    for (size_t i = count; i-- > 0;) {
        body(task, i, i + 1, (int)(i % (size_t)exec->num_threads));
    }
    return PQ_OK;
}

/* A driver that is told to stop in its n-th call; n is poll_arg. */
static pq_status interrupted(const pq_exec *exec, size_t count, size_t grain, pq_range_fn body,
                             void *task) {
    int *const left = exec->poll_arg;
    return (*left)-- == 0 ? PQ_ERR_INTERRUPTED : backwards(exec, count, grain, body, task);
}

static void test_threads(void) {
    uint64_t random = 6;
    case_shape shape = {.batch = 3,
                        .groups = 1,
                        .heads = 6,
                        .kv_heads = 3,
                        .q_len = 50,
                        .k_len = 70,
                        .d = 64,
                        .layout = TOKEN_MAJOR,
                        .step = 0.02};
    attention_case c = case_make(&shape, &random);
    int8_t *want = case_alloc(c.y_size), *got = case_alloc(c.y_size);
    pq_exec exec = pq_exec_serial(NULL, 0);
    run_as(NULL, &exec, &c, want);
    for (int threads = 1; threads <= 5; threads++) {
        exec = pq_exec_openmp(threads, NULL, 0);
        run_as(NULL, &exec, &c, got);
        CHECK_SAME(got, want, c.y_size);
        run_as("ref", &exec, &c, got);
        CHECK_SAME(got, want, c.y_size);
    }
    /* the caller's workspace: exactly enough, and guarded behind */
    exec = pq_exec_openmp(2, NULL, 0);
    const size_t size = pq_attention_workspace(&exec, &c.args);
    unsigned char *workspace = pq_alloc(size + GUARD);
    memset(workspace, 0xa7, size + GUARD);
    memset(c.y, 0x5a, c.y_size);
    CHECK_OK(pq_attention_s8_in(&exec, &c.args, workspace, size));
    CHECK_SAME(c.y, want, c.y_size);
    for (size_t i = 0; i < GUARD; i++) {
        CHECK(workspace[size + i] == 0xa7);
    }
    char message[200];
    exec = pq_exec_openmp(2, message, sizeof message);
    CHECK_STATUS(pq_attention_s8_in(&exec, &c.args, workspace, 63), PQ_ERR_VALUE);
    CHECK_TEXT(message, "workspace");
    pq_free(workspace);

    exec.parallel_for = backwards, exec.num_threads = 3;
    run_as(NULL, &exec, &c, got);
    CHECK_SAME(got, want, c.y_size);

    /* A variant packs in the first call of the driver and runs the rows in the second. */
    const bool is_ref = pq_kernel_choose(PQ_KERNEL_OP_attention_s8) ==
                        pq_kernel_find(PQ_KERNEL_OP_attention_s8, PQ_ISA_REF);
    const int calls = is_ref ? 1 : 2;
    exec.parallel_for = interrupted;
    for (int n = 0; n <= calls; n++) {
        int left = n;
        exec.poll_arg = &left;
        const pq_status status = pq_attention_s8(&exec, &c.args);
        CHECK_EQ(status, n < calls ? PQ_ERR_INTERRUPTED : PQ_OK);
    }
    case_free(&c);
    free(want), free(got);
}

/* Memory follows the keys, and stays put when the batch grows. */
static void test_workspace(void) {
    const pq_exec exec = pq_exec_openmp(2, NULL, 0);
    pq_attention_args args = {.batch = 1,
                              .groups = 1,
                              .heads = 6,
                              .kv_heads = 6,
                              .q_len = 197,
                              .k_len = 50000,
                              .head_dim = 64};
    const size_t half = pq_attention_workspace(&exec, &args);
    args.k_len = 100000;
    const size_t whole = pq_attention_workspace(&exec, &args);
    CHECK(half < whole && whole <= 2 * half);
    /* two threads: two packed heads of 4 bytes an element, two panels of six rows */
    CHECK(whole <= 2 * (100064u * 64 * 4 + 6 * (100064u * 4 + 256)));
    args.k_len = 197;
    const size_t one = pq_attention_workspace(&exec, &args);
    /* enough for any variant that may be chosen by the time of the run, and only those are asked */
    CHECK_OK(pq_isa_limit("ref"));
    CHECK_EQ(pq_attention_workspace(&exec, &args), one);
    for (pq_isa isa = PQ_ISA_REF; isa < PQ_ISA_COUNT; isa++) {
        CHECK_OK(pq_isa_limit(NULL));
        const bool runs = pq_isa_eligible(isa, 0);
        CHECK_OK(pq_isa_limit("ref"));
        CHECK(pq_kernel_present(PQ_KERNEL_OP_attention_s8, isa) ==
              (runs ? pq_kernel_find(PQ_KERNEL_OP_attention_s8, isa) : NULL));
    }
    CHECK_OK(pq_isa_limit(NULL));
    args.batch = 1000;
    CHECK(pq_attention_workspace(&exec, &args) <= one + (1 << 19));
    args.head_dim = 0;
    CHECK_EQ(pq_attention_workspace(&exec, &args), 0);
}

/* Each rule once: breaks it, expects the status and a word of the message, and puts it right. */
static void test_refusals(void) {
    uint64_t random = 7;
    const case_shape shape = {.batch = 2,
                              .groups = 1,
                              .heads = 4,
                              .kv_heads = 2,
                              .q_len = 5,
                              .k_len = 2000,
                              .d = 8,
                              .step = 0.01,
                              .flags = CASE_KEEP | CASE_MASK};
    attention_case c = case_make(&shape, &random);
    char message[300] = "";
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    c.args.v_zero_point = 0;
    c.args.softmax = case_softmax(PQ_SOFTMAX_TABLE16, 0.01, 1e9, INT32_MAX / (128 * 2000));
    CHECK_OK(pq_attention_check(&exec, &c.args));
    const long live = pq_alloc_live();
#define REFUSED(field, value, status, text) \
    do { \
        const pq_attention_args saved = c.args; \
        c.args.field = (value); \
        CHECK_STATUS(pq_attention_check(&exec, &c.args), status); \
        CHECK_STATUS(pq_attention_s8(&exec, &c.args), status); \
        CHECK_TEXT(message, text); \
        CHECK_TEXT(message, "attention_s8: expected"); \
        c.args = saved; \
    } while (0)
    REFUSED(kv_heads, 3, PQ_ERR_VALUE, "got 4 and 3");
    REFUSED(kv_heads, 0, PQ_ERR_VALUE, "got 4 and 0");
    REFUSED(head_dim, 32768, PQ_ERR_OVERFLOW, "32768");
    REFUSED(batch, SIZE_MAX / 4, PQ_ERR_OVERFLOW, "product");
    REFUSED(q_strides.token, PTRDIFF_MAX, PQ_ERR_OVERFLOW, "q to lie");
    REFUSED(k_strides.head, PTRDIFF_MIN, PQ_ERR_OVERFLOW, "k to lie");
    REFUSED(v_strides.batch, PTRDIFF_MAX - 5, PQ_ERR_OVERFLOW, "v to lie");
    REFUSED(y_strides.head, PTRDIFF_MAX, PQ_ERR_OVERFLOW, "y to lie");
    REFUSED(keep_strides[4], PTRDIFF_MAX, PQ_ERR_OVERFLOW, "keep to lie");
    REFUSED(mask_strides[2], PTRDIFF_MAX / 8, PQ_ERR_OVERFLOW, "mask_add to lie");
    REFUSED(y_strides.token, 7, PQ_ERR_VALUE, "overlap");
    REFUSED(y_strides.batch, 0, PQ_ERR_VALUE, "overlap");
    REFUSED(y_strides.head, 39, PQ_ERR_VALUE, "overlap");
    REFUSED(q_zero_point, 128, PQ_ERR_VALUE, "zero point of q");
    REFUSED(k_zero_point, -129, PQ_ERR_VALUE, "zero point of k");
    REFUSED(v_zero_point, INT32_MIN, PQ_ERR_VALUE, "zero point of v");
    REFUSED(v_zero_point, 5, PQ_ERR_OVERFLOW, "pmax");
    REFUSED(k_len, 2001, PQ_ERR_OVERFLOW, "pmax");
    REFUSED(requant.multiplier, (1 << 30) - 1, PQ_ERR_VALUE, "multiplier");
    REFUSED(requant.shift, 0, PQ_ERR_VALUE, "shift");
    REFUSED(requant.shift, 63, PQ_ERR_VALUE, "shift");
    REFUSED(requant.shift, 50, PQ_ERR_OVERFLOW, "row sum");
    REFUSED(out.quant_min, -129, PQ_ERR_VALUE, "quant_min");
    REFUSED(out.quant_max, 128, PQ_ERR_VALUE, "quant_max");
    REFUSED(out.zero_point, 128, PQ_ERR_VALUE, "zero_point");
    REFUSED(softmax.method, PQ_SOFTMAX_METHOD_COUNT, PQ_ERR_VALUE, "method");
    REFUSED(softmax.method, PQ_SOFTMAX_IBERT, PQ_ERR_VALUE, "softmax bits in [4, 15]");
    REFUSED(softmax.method, PQ_SOFTMAX_SOLE, PQ_ERR_VALUE, "1 to 8192 exponentials, got 0");
    REFUSED(softmax.pmax, 0, PQ_ERR_VALUE, "pmax");
    REFUSED(softmax.pmax, 16384, PQ_ERR_VALUE, "pmax");
    REFUSED(softmax.method, PQ_SOFTMAX_TABLE8, PQ_ERR_VALUE, "pmax <= 255");
    REFUSED(softmax.table[0], 3, PQ_ERR_VALUE, "table[0]");
    REFUSED(softmax.table[9], 65535, PQ_ERR_VALUE, "table[9]");
    REFUSED(softmax.shift, 0, PQ_ERR_VALUE, "softmax shift");
    REFUSED(softmax.shift, 32, PQ_ERR_VALUE, "softmax shift");
    REFUSED(softmax.multiplier, 0, PQ_ERR_VALUE, "multiplier of 0");
    REFUSED(softmax.multiplier, UINT32_MAX, PQ_ERR_OVERFLOW, "delta_max");
    REFUSED(softmax.delta_max, UINT32_MAX, PQ_ERR_OVERFLOW, "delta_max");
#undef REFUSED
    const pq_attention_args saved = c.args;
    c.args.v = NULL;
    CHECK_OK(pq_attention_check(&exec, &c.args)); /* it looks at no data */
    CHECK_STATUS(pq_attention_s8(&exec, &c.args), PQ_ERR_VALUE);
    CHECK_TEXT(message, "expected data for v");
    c.args = saved;
    pq_alloc_fail_after(0);
    CHECK_STATUS(pq_attention_s8(&exec, &c.args), PQ_ERR_NOMEM);
    CHECK_TEXT(message, "allocate");
    const pq_attention_trace nothing = {NULL, NULL, NULL};
    pq_alloc_fail_after(0);
    CHECK_STATUS(pq_attention_s8_trace(&exec, &c.args, &nothing), PQ_ERR_NOMEM);
    pq_alloc_fail_after(-1);
    CHECK_OK(pq_attention_s8_trace(&exec, &c.args, &nothing));
    CHECK_EQ(pq_alloc_live(), live);
    case_free(&c);
}

/* Constants of a method by table, one wrong at a time. */
static void test_lookup_refusals(void) {
    char message[512];
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const case_shape shape = {.batch = 1,
                              .groups = 1,
                              .heads = 1,
                              .kv_heads = 1,
                              .q_len = 2,
                              .k_len = 1000,
                              .d = 4,
                              .method = PQ_SOFTMAX_IVIT,
                              .step = 0.1};
    uint64_t random = 5;
    attention_case c = case_make(&shape, &random);
    int32_t table[4] = {INT32_MAX / 1000, 5, 0, 1};
    c.args.softmax.exponentials = table;
    c.args.softmax.entries = 4;
    CHECK_OK(pq_attention_check(&exec, &c.args));
#define REFUSED(field, value, want, text)                          \
    do {                                                           \
        const pq_attention_args saved = c.args;                    \
        c.args.field = value;                                      \
        CHECK_STATUS(pq_attention_check(&exec, &c.args), want);    \
        CHECK_TEXT(message, text);                                 \
        c.args = saved;                                            \
    } while (0)
    REFUSED(softmax.entries, 0, PQ_ERR_VALUE, "1 to 8192 exponentials, got 0");
    REFUSED(softmax.entries, 8193, PQ_ERR_VALUE, "1 to 8192 exponentials, got 8193");
    REFUSED(softmax.exponentials, NULL, PQ_ERR_VALUE, "exponentials");
    REFUSED(softmax.bits, 4, PQ_ERR_VALUE, "softmax bits in [5, 16], got 4");
    REFUSED(softmax.bits, 17, PQ_ERR_VALUE, "softmax bits in [5, 16], got 17");
    REFUSED(softmax.pmax, 1 << 15, PQ_ERR_VALUE, "pmax");
    REFUSED(k_len, 1001, PQ_ERR_OVERFLOW, "at most 1000 keys with exponentials up to 2147483, got 1001");
    REFUSED(softmax.multiplier, UINT32_MAX, PQ_ERR_OVERFLOW, "delta_max");
    table[2] = -1;
    CHECK_STATUS(pq_attention_check(&exec, &c.args), PQ_ERR_VALUE);
    CHECK_TEXT(message, "exponentials in [0, 2147483647], got -1");
    table[2] = 0;
    REFUSED(softmax.method, PQ_SOFTMAX_IPTQ, PQ_ERR_VALUE, "softmax bits in [0, 0]");
    c.args.softmax.bits = 0;
    REFUSED(softmax.method, PQ_SOFTMAX_IPTQ, PQ_ERR_VALUE, "exponentials in [0, ");
#undef REFUSED
    case_free(&c);
}

int main(void) {
    test_edges();
    test_lookup_refusals();
    test_random();
    test_head_sizes();
    test_few_queries();
    test_index_shifts();
    test_large();
    test_extremes();
    test_pmax();
    test_mask_strides();
    test_threads();
    test_workspace();
    test_refusals();
    return check_finish("test_attention_variants");
}
