/* gemm_s8s8 with a table or an add behind it equals the ops one after the other; and no cut of the
 * work (cache sizes, threads) shows in a result. */
#include "gemm_case.h"
#include "pyquant/cpu.h"
#include "pyquant/elementwise.h"

enum { FILL = 0x5a };

/* What the fused call is held to: the ops one after the other, on contiguous memory. */
typedef struct expected {
    pq_dtype type;
    void *y; /* m, n */
} expected;

static pq_add_args random_add(uint64_t *seed, pq_dtype a, pq_dtype b, pq_dtype y) {
    const int32_t limit = y == PQ_S8 ? 128 : 32768;
    const int32_t low = (int32_t)check_random_in(seed, -limit, 0);
    const int32_t high = (int32_t)check_random_in(seed, low, limit - 1);
    return (pq_add_args){
        .a_type = a,
        .b_type = b,
        .y_type = y,
        .a_zero_point = (int32_t)check_random_in(seed, -128, 127),
        .b_zero_point = (int32_t)check_random_in(seed, -128, 127),
        .a_multiplier = (int32_t)check_random_in(seed, 1 << 30, INT32_MAX),
        .b_multiplier = (int32_t)check_random_in(seed, 0, INT32_MAX),
        .shift = (int32_t)check_random_in(seed, 28, 40),
        .out = {(int32_t)check_random_in(seed, low, high), low, high},
    };
}

static void fill_random(uint64_t *seed, void *bytes, size_t size) {
    check_random_s8(seed, bytes, size);
}

/* m x n elements, rows apart, to rows one behind the other. */
static void gather(const problem *p, const void *from, size_t ld, size_t element, void *to) {
    for (size_t i = 0; i < p->m; i++) {
        memcpy((char *)to + i * p->n * element, (const char *)from + i * ld * element,
               p->n * element);
    }
}

static expected compose(const pq_exec *exec, const problem *p, const pq_gemm_weights *weights,
                        const pq_gemm_epilogue *epilogue) {
    const size_t count = p->m * p->n;
    const size_t product_size = count * pq_dtype_size(p->args.y_type);
    void *product = exact(product_size);
    CHECK_OK(pq_gemm_s8s8(exec, p->m, p->x, p->ldx, weights, product, p->n));
    if (epilogue->table != NULL) {
        CHECK_OK(pq_table_s8(exec, count, product, epilogue->table, product));
        return (expected){PQ_S8, product};
    }
    pq_add_args add = *epilogue->add;
    void *b = exact(count * pq_dtype_size(add.b_type));
    gather(p, epilogue->b, epilogue->ldb, pq_dtype_size(add.b_type), b);
    add.n = add.period = count;
    add.a = product;
    add.b = b;
    add.y = exact(count * pq_dtype_size(add.y_type));
    CHECK_OK(pq_add(exec, &add));
    free(product);
    free(b);
    return (expected){add.y_type, add.y};
}

/* In one call on `threads`; gaps between the rows of y stay as they were. */
static void check_fused(const problem *p, const pq_gemm_weights *weights, int threads,
                        const pq_gemm_epilogue *epilogue, size_t ldy, const expected *want) {
    const size_t element = pq_dtype_size(want->type), bytes = ((p->m - 1) * ldy + p->n) * element;
    const pq_exec exec = threads == 1 ? pq_exec_serial(message, sizeof message)
                                      : pq_exec_openmp(threads, message, sizeof message);
    const size_t size =
        pq_gemm_workspace(&exec, weights) + pq_gemm_fused_workspace(&exec, weights, epilogue);
    void *workspace = pq_alloc(size);
    unsigned char *y = exact(bytes);
    memset(y, FILL, bytes);
    if (!CHECK_OK(pq_gemm_s8s8_fused_in(&exec, p->m, p->x, p->ldx, weights, epilogue, y, ldy,
                                        workspace, size))) {
        fprintf(stderr, "  %s\n", message);
    }
    unsigned char *got = exact(p->m * p->n * element);
    gather(p, y, ldy, element, got);
    CHECK_SAME(got, want->y, p->m * p->n * element);
    bool untouched = true;
    for (size_t i = 0; i + 1 < p->m; i++) {
        for (size_t at = (i * ldy + p->n) * element; at < (i + 1) * ldy * element; at++) {
            untouched = untouched && y[at] == FILL;
        }
    }
    CHECK(untouched);
    free(y);
    free(got);
    pq_free(workspace);
}

/* y is b: the residual stream is updated where it stands. */
static void check_in_place(const problem *p, const pq_gemm_weights *weights, int threads,
                           const pq_gemm_epilogue *epilogue, size_t b_bytes, const expected *want) {
    const pq_exec exec = pq_exec_openmp(threads, message, sizeof message);
    const size_t size =
        pq_gemm_workspace(&exec, weights) + pq_gemm_fused_workspace(&exec, weights, epilogue);
    const size_t element = pq_dtype_size(want->type);
    void *workspace = pq_alloc(size), *y = exact(b_bytes), *got = exact(p->m * p->n * element);
    memcpy(y, epilogue->b, b_bytes);
    pq_gemm_epilogue here = *epilogue;
    here.b = y;
    CHECK_OK(pq_gemm_s8s8_fused_in(&exec, p->m, p->x, p->ldx, weights, &here, y, here.ldb,
                                   workspace, size));
    gather(p, y, here.ldb, element, got);
    CHECK_SAME(got, want->y, p->m * p->n * element);
    free(y);
    free(got);
    pq_free(workspace);
}

static void check_table(uint64_t *seed, const problem *p, const pq_gemm_weights *weights) {
    int8_t table[256];
    check_random_s8(seed, table, sizeof table);
    const pq_gemm_epilogue epilogue = {.table = table};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const expected want = compose(&exec, p, weights, &epilogue);
    check_fused(p, weights, 1, &epilogue, p->ldy, &want);
    check_fused(p, weights, 3, &epilogue, p->ldy, &want);
    free(want.y);
}

static void check_add(uint64_t *seed, const problem *p, const pq_gemm_weights *weights,
                      pq_dtype b_type, pq_dtype y_type) {
    const pq_add_args add = random_add(seed, p->args.y_type, b_type, y_type);
    const size_t ldb = p->n + (size_t)check_random_in(seed, 0, 5);
    const size_t b_bytes = ((p->m - 1) * ldb + p->n) * pq_dtype_size(b_type);
    void *b = exact(b_bytes);
    fill_random(seed, b, b_bytes);
    const pq_gemm_epilogue epilogue = {.add = &add, .b = b, .ldb = ldb};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const expected want = compose(&exec, p, weights, &epilogue);
    check_fused(p, weights, 1, &epilogue, p->ldy, &want);
    check_fused(p, weights, 3, &epilogue, p->ldy, &want);
    if (b_type == y_type) {
        check_in_place(p, weights, 1, &epilogue, b_bytes, &want);
        check_in_place(p, weights, 3, &epilogue, b_bytes, &want);
    }
    free(b);
    free(want.y);
}

static void check_shape(uint64_t *seed, size_t m, size_t n, size_t k) {
    static const pq_dtype types[] = {PQ_S8, PQ_S16};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    for (int product = 0; product < 2; product++) {
        problem p = make_problem(seed, m, n, k, types[product], RANDOM);
        for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
            const struct pq_gemm_s8s8_kernel *kernel = kernel_of(isa);
            pq_gemm_weights *weights = NULL;
            if (kernel == NULL ||
                !CHECK_OK(pq_gemm_s8s8_pack_for(&exec, kernel, &p.args, &weights))) {
                continue;
            }
            if (types[product] == PQ_S8) {
                check_table(seed, &p, weights);
            }
            for (int mix = 0; mix < 4; mix++) {
                check_add(seed, &p, weights, types[mix % 2], types[mix / 2]);
            }
            pq_gemm_weights_free(weights);
        }
        free_problem(&p);
    }
}

static const size_t shapes[][3] = {{1, 1, 0},   {1, 17, 5},    {2, 64, 33},    {5, 33, 64},
                                   {7, 65, 17}, {97, 131, 70}, {197, 150, 40}, {41, 300, 1100}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static void test_fused(void) {
    uint64_t seed = 11;
    for (size_t i = 0; i < SHAPES; i++) {
        check_shape(&seed, shapes[i][0], shapes[i][1], shapes[i][2]);
    }
}

/* Caches of one line and of a terabyte, and some in between: other cuts of m, n and k. */
static void test_cache_sizes(void) {
    static const pq_cache_sizes machines[] = {
        {1, 1, 1},
        {(size_t)1 << 14, (size_t)1 << 16, (size_t)1 << 16},
        {(size_t)48 << 10, (size_t)5 << 18, (size_t)30 << 20},
        {(size_t)1 << 40, (size_t)1 << 40, (size_t)1 << 40},
    };
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    uint64_t seed = 12;
    size_t fewest = SIZE_MAX, most = 0;
    for (size_t c = 0; c < sizeof machines / sizeof machines[0]; c++) {
        pq_cpu_caches_set(&machines[c]);
        CHECK_EQ(pq_cpu_caches().l2, machines[c].l2);
        check_shape(&seed, 23, 70, 300);
        for (size_t i = 0; i < SHAPES; i++) {
            problem p =
                make_problem(&seed, shapes[i][0], shapes[i][1], shapes[i][2], PQ_S32, RANDOM);
            for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
                const struct pq_gemm_s8s8_kernel *kernel = kernel_of(isa);
                pq_gemm_weights *weights = NULL;
                if (kernel == NULL ||
                    !CHECK_OK(pq_gemm_s8s8_pack_for(&exec, kernel, &p.args, &weights))) {
                    continue;
                }
                fewest = weights->blocking.rows < fewest ? weights->blocking.rows : fewest;
                most = weights->blocking.rows > most ? weights->blocking.rows : most;
                check_weights(&seed, &p, weights);
                pq_gemm_weights_free(weights);
            }
            free_problem(&p);
        }
    }
    CHECK(fewest < 16 && most > 200); /* or the sizes were not looked at */
    pq_cpu_caches_set(NULL);
    const pq_cache_sizes real = pq_cpu_caches();
    CHECK(real.l1d >= 1 << 12 && real.l2 >= real.l1d && real.l3 >= 1 << 12);
}

/* One call that must fail with `text`. The operands are as large as a good call needs. */
typedef struct call {
    pq_gemm_epilogue epilogue;
    pq_dtype product;
    void *y;
    size_t ldy;
} call;

static void expect_refusal(const call *c, pq_status status, const char *text) {
    enum { M = 3, N = 4, K = 2 };
    static const int8_t w[N * K] = {1, 2, 3, 4}, x[M * K] = {1, 2};
    static const int32_t multiplier[N] = {1 << 30, 1 << 30, 1 << 30, 1 << 30};
    static const uint8_t shift[N] = {31, 31, 31, 31};
    const bool raw = c->product == PQ_S32;
    const pq_gemm_pack_args args = {.n = N,
                                    .k = K,
                                    .w = w,
                                    .y_type = c->product,
                                    .multiplier = raw ? NULL : multiplier,
                                    .shift = raw ? NULL : shift,
                                    .out = {0, -100, 100}};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_gemm_weights *weights = NULL;
    CHECK_OK(pq_gemm_s8s8_pack(&exec, &args, &weights));
    const size_t size =
        pq_gemm_workspace(&exec, weights) + pq_gemm_fused_workspace(&exec, weights, &c->epilogue);
    void *workspace = pq_alloc(size);
    message[0] = 0;
    CHECK_STATUS(
        pq_gemm_s8s8_fused_in(&exec, M, x, K, weights, &c->epilogue, c->y, c->ldy, workspace, size),
        status);
    CHECK_TEXT(message, text);
    if (size > 0 && status == PQ_OK) {
        CHECK_STATUS(pq_gemm_s8s8_fused_in(&exec, M, x, K, weights, &c->epilogue, c->y, c->ldy,
                                           workspace, size - 1),
                     PQ_ERR_VALUE);
        CHECK_TEXT(message, "expected a workspace of");
    }
    pq_free(workspace);
    pq_gemm_weights_free(weights);
}

static void test_refusals(void) {
    int16_t y[64] = {0}, b[64] = {0};
    int8_t table[256] = {0};
    pq_add_args add = {.a_type = PQ_S8,
                       .b_type = PQ_S16,
                       .y_type = PQ_S16,
                       .a_multiplier = 1 << 30,
                       .b_multiplier = 1 << 30,
                       .shift = 31,
                       .out = {0, -100, 100}};
    const call good = {
        .epilogue = {.add = &add, .b = b, .ldb = 4}, .product = PQ_S8, .y = y, .ldy = 4};
    expect_refusal(&good, PQ_OK, "");
    call bad = good;
    bad.epilogue.b = y;
    expect_refusal(&bad, PQ_OK, "");
    bad.epilogue.ldb = 5;
    expect_refusal(&bad, PQ_ERR_VALUE, "overlap b");
    bad.epilogue.ldb = 4;
    bad.epilogue.b = y + 1;
    expect_refusal(&bad, PQ_ERR_VALUE, "overlap b");
    bad = good;
    bad.epilogue.b = (const char *)b + 1;
    expect_refusal(&bad, PQ_ERR_VALUE, "b is not aligned");
    bad.epilogue.b = NULL;
    expect_refusal(&bad, PQ_ERR_VALUE, "b is NULL");
    bad = good;
    bad.epilogue.ldb = 3;
    expect_refusal(&bad, PQ_ERR_VALUE, "ldb 3, n 4");
    bad.epilogue.ldb = SIZE_MAX / 4;
    expect_refusal(&bad, PQ_ERR_OVERFLOW, "too large");
    bad = good;
    bad.epilogue.table = table;
    expect_refusal(&bad, PQ_ERR_VALUE, "got both");
    bad = good;
    bad.product = PQ_S16;
    expect_refusal(&bad, PQ_ERR_VALUE, "product's type 3 as a of the add, got type 1");
    bad = good;
    bad.y = (char *)y + 1;
    expect_refusal(&bad, PQ_ERR_VALUE, "y is not aligned");
    add.shift = 63;
    expect_refusal(&good, PQ_ERR_VALUE, "add: expected shift");
    add.shift = 31;
    const call look = {.epilogue = {.table = table}, .product = PQ_S8, .y = y, .ldy = 4};
    expect_refusal(&look, PQ_OK, "");
    bad = look;
    bad.product = PQ_S16;
    expect_refusal(&bad, PQ_ERR_VALUE, "product of s8 for a table");
    bad = look;
    bad.y = table;
    expect_refusal(&bad, PQ_ERR_VALUE, "overlap table");
}

int main(void) {
    test_fused();
    test_cache_sizes();
    test_refusals();
    return check_finish("test_gemm_fused");
}
