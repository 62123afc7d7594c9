/* gemm_s8s8: hand-worked numbers, an int64 oracle written here, and every kernel against it. */
#include <stdalign.h>

#include "gemm_case.h"

static void check_problem(uint64_t *seed, const problem *p) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
        const struct pq_gemm_s8s8_kernel *kernel = kernel_of(isa);
        pq_gemm_weights *weights = NULL;
        if (kernel != NULL && CHECK_OK(pq_gemm_s8s8_pack_for(&exec, kernel, &p->args, &weights))) {
            check_weights(seed, p, weights);
            pq_gemm_weights_free(weights);
        }
    }
}

static void test_shapes(void) {
    static const size_t sizes[] = {0, 1, 2, 3, 5, 6, 7, 8, 13, 15, 16, 17, 31, 33, 63, 64, 65};
    static const pq_dtype types[] = {PQ_S8, PQ_S16, PQ_S32};
    uint64_t seed = 1;
    const int count = (int)(sizeof sizes / sizeof sizes[0]);
    for (int a = 0; a < count; a++) {
        for (int b = 0; b < count; b++) {
            for (int round = 0; round < 3; round++) {
                const size_t m = sizes[a], n = sizes[b], k = sizes[check_random(&seed) % 17];
                problem p = make_problem(&seed, m, n, k, types[check_random(&seed) % 3],
                                         (int)(check_random(&seed) % SPREADS));
                check_problem(&seed, &p);
                free_problem(&p);
            }
        }
    }
}

/* More than one block of rows, columns and k of every kernel. */
static void test_blocks(void) {
    static const size_t shapes[][3] = {{197, 131, 97},  {101, 17, 1031}, {97, 257, 512},
                                       {6, 16, 513},    {12, 130, 1025}, {1, 300, 2049},
                                       {103, 70, 2050}, {2, 16, 5000},   {3, 1, 511}};
    uint64_t seed = 2;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        problem p = make_problem(&seed, shapes[i][0], shapes[i][1], shapes[i][2],
                                 i % 3 == 0   ? PQ_S8
                                 : i % 3 == 1 ? PQ_S16
                                              : PQ_S32,
                                 (int)(i % 4 == 3 ? LOWEST : RANDOM));
        check_problem(&seed, &p);
        free_problem(&p);
    }
}

/* (1 - 1, 2 - 1) . (3, -4) + 5 = 1;  (5, 6 - .) ...: worked on paper.
 * x = [[1, 2], [-128, 127]], z_x = 1, w = [[3, -4], [127, 127]], bias = [5, -6].
 * acc = [[0*3 + 1*-4 + 5, 0*127 + 1*127 - 6], [-129*3 + 126*-4 + 5, -129*127 + 126*127 - 6]]
 *     = [[1, 121], [-886, -387]]
 * M = 2^30 / 2^31 = 1/2 for column 0 and 2^30 / 2^32 = 1/4 for column 1, half up, plus z_y = 10:
 *     [[floor(0.5 + 0.5) = 1, floor(30.25 + 0.5) = 30], [-443, floor(-96.75 + 0.5) = -97]]
 *  -> [[11, 40], [-433, -87]], clamped to [-100, 127]: [[11, 40], [-100, -87]] */
static void test_by_hand(void) {
    const int8_t x[] = {1, 2, -128, 127}, w[] = {3, -4, 127, 127};
    const int32_t bias[] = {5, -6}, multiplier[] = {1 << 30, 1 << 30};
    const uint8_t shift[] = {31, 32};
    pq_gemm_pack_args args = {.n = 2,
                              .k = 2,
                              .w = w,
                              .bias = bias,
                              .multiplier = multiplier,
                              .shift = shift,
                              .x_zero_point = 1,
                              .y_type = PQ_S8,
                              .out = {10, -100, 127}};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
        const struct pq_gemm_s8s8_kernel *kernel = kernel_of(isa);
        if (kernel == NULL) {
            continue;
        }
        pq_gemm_weights *weights = NULL;
        int8_t y[4];
        args.y_type = PQ_S8;
        CHECK_OK(pq_gemm_s8s8_pack_for(&exec, kernel, &args, &weights));
        CHECK_OK(pq_gemm_s8s8(&exec, 2, x, 2, weights, y, 2));
        CHECK_SAME(y, ((const int8_t[]){11, 40, -100, -87}), 4);
        pq_gemm_weights_free(weights);
        int32_t acc[4];
        args.y_type = PQ_S32;
        CHECK_OK(pq_gemm_s8s8_pack_for(&exec, kernel, &args, &weights));
        CHECK_OK(pq_gemm_s8s8(&exec, 2, x, 2, weights, acc, 2));
        CHECK_SAME(acc, ((const int32_t[]){1, 121, -886, -387}), sizeof acc);
        pq_gemm_weights_free(weights);
    }
}

/* The largest accumulators that the check lets through, of both signs. With z_x = -128 and x = 127
 * every term is 255 * w; 66311 weights of 127 and a bias reach 2^31 - 1 exactly. */
static void test_extreme_accumulators(void) {
    const size_t k = 66311;
    int8_t *x = exact(k), *w = exact(2 * k);
    memset(x, 127, k);
    memset(w, 127, k);
    memset(w + k, -127, k);
    const int32_t rest = (int32_t)(INT32_MAX - INT64_C(255) * 127 * (int64_t)k);
    const int32_t bias[] = {rest, -rest}, multiplier[] = {INT32_MAX, INT32_MAX};
    const uint8_t shift[] = {47, 47};
    CHECK(rest > 0 && rest < 255 * 127);
    pq_gemm_pack_args args = {.n = 2,
                              .k = k,
                              .w = w,
                              .bias = bias,
                              .multiplier = multiplier,
                              .shift = shift,
                              .x_zero_point = -128};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
        const struct pq_gemm_s8s8_kernel *kernel = kernel_of(isa);
        if (kernel == NULL) {
            continue;
        }
        pq_gemm_weights *weights = NULL;
        int32_t acc[2];
        args.y_type = PQ_S32;
        CHECK_OK(pq_gemm_s8s8_pack_for(&exec, kernel, &args, &weights));
        CHECK_OK(pq_gemm_s8s8(&exec, 1, x, k, weights, acc, 2));
        CHECK_EQ(acc[0], INT32_MAX);
        CHECK_EQ(acc[1], -INT32_MAX);
        pq_gemm_weights_free(weights);
        /* (2^31 - 1)^2 / 2^47 = 2^15 - tiny: 32768 before the clamp; the negative rounds to -32768.
         */
        int16_t y[2];
        args.y_type = PQ_S16;
        args.out = (pq_clamp){0, INT16_MIN, INT16_MAX};
        CHECK_OK(pq_gemm_s8s8_pack_for(&exec, kernel, &args, &weights));
        CHECK_OK(pq_gemm_s8s8(&exec, 1, x, k, weights, y, 2));
        CHECK_EQ(y[0], 32767);
        CHECK_EQ(y[1], -32768);
        pq_gemm_weights_free(weights);
    }
    free(x);
    free(w);
}

/* Every accumulator around a rounding step and around the clamps, for all shifts: n = shifts, k = 1
 * and a bias that sweeps. */
static void test_requantization(void) {
    enum { N = 62 };
    uint64_t seed = 3;
    int8_t w[N] = {0};
    int32_t bias[N], multiplier[N];
    uint8_t shift[N];
    const int8_t x[1] = {5};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    for (int round = 0; round < 400; round++) {
        problem p = {.m = 1,
                     .n = N,
                     .k = 1,
                     .ldx = 1,
                     .ldy = N,
                     .oracle = oracle_at,
                     .x = (int8_t *)exact(1),
                     .multiplier = multiplier,
                     .shift = shift,
                     .w = w};
        p.x[0] = x[0];
        const int32_t min = (int32_t)check_random_in(&seed, -32768, 0);
        const int32_t max = (int32_t)check_random_in(&seed, min, 32767);
        const int32_t zero_point = (int32_t)check_random_in(&seed, min, max);
        for (int j = 0; j < N; j++) {
            shift[j] = (uint8_t)(j + 1);
            multiplier[j] = round % 3 == 0   ? 1 << 30
                            : round % 3 == 1 ? INT32_MAX
                                             : (int32_t)check_random_in(&seed, 1 << 30, INT32_MAX);
            /* Near the accumulator at which rnu passes some value in or near the clamp's range. */
            const double target =
                (double)check_random_in(&seed, min - 2, max + 2) - zero_point - 0.5;
            const double at = target / multiplier[j] * (double)(UINT64_C(1) << shift[j]);
            const int64_t near = at > INT32_MAX    ? INT32_MAX
                                 : at < -INT32_MAX ? -INT32_MAX
                                                   : (int64_t)at;
            const int64_t moved = near + check_random_in(&seed, -2, 2);
            bias[j] = (int32_t)(moved > INT32_MAX    ? INT32_MAX
                                : moved < -INT32_MAX ? -INT32_MAX
                                                     : moved);
        }
        p.bias = bias;
        p.args = (pq_gemm_pack_args){.n = N,
                                     .k = 1,
                                     .w = w,
                                     .bias = bias,
                                     .multiplier = multiplier,
                                     .shift = shift,
                                     .y_type = PQ_S16,
                                     .out = {zero_point, min, max}};
        for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
            const struct pq_gemm_s8s8_kernel *kernel = kernel_of(isa);
            if (kernel == NULL) {
                continue;
            }
            pq_gemm_weights *weights = NULL;
            int16_t y[N];
            CHECK_OK(pq_gemm_s8s8_pack_for(&exec, kernel, &p.args, &weights));
            CHECK_OK(pq_gemm_s8s8(&exec, 1, p.x, 1, weights, y, N));
            same_as_oracle(&p, y, pq_isa_name((pq_isa)isa));
            pq_gemm_weights_free(weights);
        }
        free(p.x);
    }
}

static void expect_refusal(const pq_gemm_pack_args *args, pq_status status, const char *text) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_gemm_weights *weights = (pq_gemm_weights *)(void *)message; /* must become NULL */
    message[0] = 0;
    CHECK_STATUS(pq_gemm_s8s8_pack(&exec, args, &weights), status);
    CHECK(weights == NULL);
    CHECK_TEXT(message, text);
    message[0] = 0;
    CHECK_STATUS(pq_gemm_s8s8_check(&exec, args), status);
    CHECK_TEXT(message, text);
}

static void test_bad_constants(void) {
    const int8_t w[] = {1, 2, 127, 127};
    int32_t bias[] = {0, 0}, multiplier[] = {1 << 30, INT32_MAX};
    uint8_t shift[] = {1, 62};
    const pq_gemm_pack_args good = {.n = 2,
                                    .k = 2,
                                    .w = w,
                                    .bias = bias,
                                    .multiplier = multiplier,
                                    .shift = shift,
                                    .x_zero_point = -128,
                                    .y_type = PQ_S8,
                                    .out = {-128, -128, 127}};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    CHECK_OK(pq_gemm_s8s8_check(&exec, &good));
    pq_gemm_pack_args bad = good;
    bad.w = NULL;
    expect_refusal(&bad, PQ_ERR_VALUE, "w is NULL");
    bad = good;
    bad.multiplier = NULL;
    expect_refusal(&bad, PQ_ERR_VALUE, "multiplier and shift may be absent for s32");
    bad = good;
    bad.y_type = PQ_S64;
    expect_refusal(&bad, PQ_ERR_VALUE, "s8, s16 or s32, got type 5");
    bad = good;
    bad.x_zero_point = 128;
    expect_refusal(&bad, PQ_ERR_VALUE, "x_zero_point in [-128, 127], got 128");
    bad = good;
    bad.out.quant_max = 128;
    expect_refusal(&bad, PQ_ERR_VALUE, "[-128, 127], got -128 and 128");
    bad = good;
    bad.out = (pq_clamp){5, -128, 4};
    expect_refusal(&bad, PQ_ERR_VALUE, "got -128 <= 5 <= 4");
    bad = good;
    bad.n = SIZE_MAX / 2;
    bad.k = 3;
    expect_refusal(&bad, PQ_ERR_OVERFLOW, "is too large");
    shift[1] = 63;
    expect_refusal(&good, PQ_ERR_VALUE, "column 1: expected shift in [1, 62], got 63");
    shift[1] = 0;
    expect_refusal(&good, PQ_ERR_VALUE, "column 1: expected shift in [1, 62], got 0");
    shift[1] = 62;
    multiplier[0] = (1 << 30) - 1;
    expect_refusal(&good, PQ_ERR_VALUE,
                   "column 0: expected multiplier in [2^30, 2^31), got 1073741823");
    multiplier[0] = 1 << 30;
    bias[1] = INT32_MAX - 255 * 254;
    CHECK_OK(pq_gemm_s8s8_check(&exec, &good));
    bias[1]++;
    expect_refusal(&good, PQ_ERR_OVERFLOW,
                   "column 1: expected |bias| + 255 * sum |w| <= 2^31 - 1, got 2147483648");
    bias[1] = INT32_MIN;
    expect_refusal(&good, PQ_ERR_OVERFLOW, "column 1");
}

static void test_bad_calls(void) {
    const int8_t w[] = {1, 2, 3, 4};
    const pq_gemm_pack_args args = {.n = 2, .k = 2, .w = w, .y_type = PQ_S32};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_gemm_weights *weights = NULL;
    CHECK_OK(pq_gemm_s8s8_pack(&exec, &args, &weights));
    int8_t x[8] = {0};
    int32_t y[8];
    CHECK_OK(pq_gemm_s8s8(&exec, 0, NULL, 0, weights, NULL, 0));
    CHECK_STATUS(pq_gemm_s8s8(&exec, 2, x, 1, weights, y, 2), PQ_ERR_VALUE);
    CHECK_TEXT(message, "ldx 1, k 2, ldy 2, n 2");
    CHECK_STATUS(pq_gemm_s8s8(&exec, 2, x, 2, weights, y, 1), PQ_ERR_VALUE);
    CHECK_STATUS(pq_gemm_s8s8(&exec, 2, NULL, 2, weights, y, 2), PQ_ERR_VALUE);
    CHECK_TEXT(message, "x is NULL");
    CHECK_STATUS(pq_gemm_s8s8(&exec, 2, x, 2, weights, NULL, 2), PQ_ERR_VALUE);
    CHECK_TEXT(message, "y is NULL");
    CHECK_STATUS(pq_gemm_s8s8(&exec, 2, x, 2, NULL, y, 2), PQ_ERR_VALUE);
    CHECK_TEXT(message, "weights is NULL");
    CHECK_STATUS(pq_gemm_s8s8(&exec, 2, (const int8_t *)y, 2, weights, y, 2), PQ_ERR_VALUE);
    CHECK_TEXT(message, "overlap");
    CHECK_STATUS(pq_gemm_s8s8(&exec, 2, x, 2, weights, (char *)y + 2, 2), PQ_ERR_VALUE);
    CHECK_TEXT(message, "y is not aligned");
    CHECK_STATUS(pq_gemm_s8s8(&exec, SIZE_MAX / 4, x, 8, weights, y, 2), PQ_ERR_OVERFLOW);
    CHECK_TEXT(message, "too large");
    const size_t size = pq_gemm_workspace(&exec, weights);
    if (size > 0) {
        CHECK_STATUS(pq_gemm_s8s8_in(&exec, 2, x, 2, weights, y, 2, NULL, size), PQ_ERR_VALUE);
        CHECK_STATUS(pq_gemm_s8s8_in(&exec, 2, x, 2, weights, y, 2, x, size - 1), PQ_ERR_VALUE);
        CHECK_TEXT(message, "64-byte aligned");
    }
    pq_gemm_weights_free(weights);
    pq_gemm_weights_free(NULL);
}

static void test_no_memory(void) {
    const int8_t w[] = {1, 2, 3, 4}, x[] = {1, 2};
    int32_t y[2];
    const pq_gemm_pack_args args = {.n = 2, .k = 2, .w = w, .y_type = PQ_S32};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const long live = pq_alloc_live();
    pq_gemm_weights *weights = NULL;
    pq_alloc_fail_after(0);
    CHECK_STATUS(pq_gemm_s8s8_pack(&exec, &args, &weights), PQ_ERR_NOMEM);
    CHECK_TEXT(message, "no memory to pack weights of 2 x 2");
    CHECK(weights == NULL);
    pq_alloc_fail_after(-1);
    CHECK_OK(pq_gemm_s8s8_pack(&exec, &args, &weights));
    pq_alloc_fail_after(0);
    const pq_status expected = pq_gemm_workspace(&exec, weights) > 0 ? PQ_ERR_NOMEM : PQ_OK;
    CHECK_STATUS(pq_gemm_s8s8(&exec, 1, x, 2, weights, y, 2), expected);
    pq_alloc_fail_after(-1);
    pq_gemm_weights_free(weights);
    CHECK_EQ(pq_alloc_live(), live);
}

static bool stop(void *arg) {
    (void)arg;
    return true;
}

static void test_interruption(void) {
    enum { M = 256, N = 256, K = 256 };
    int8_t *x = calloc(M, K), *w = calloc(N, K), *y = calloc(M, N);
    const pq_gemm_pack_args args = {.n = N, .k = K, .w = w, .y_type = PQ_S32};
    pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_gemm_weights *weights = NULL;
    int32_t *acc = exact(sizeof(int32_t) * M * N);
    CHECK_OK(pq_gemm_s8s8_pack(&exec, &args, &weights));
    exec.poll = stop;
    /* The poll is throttled: some call within the first milliseconds sees it. */
    pq_status status = PQ_OK;
    for (int i = 0; i < 100000 && status == PQ_OK; i++) {
        status = pq_gemm_s8s8(&exec, M, x, K, weights, acc, N);
    }
    CHECK_EQ(status, PQ_ERR_INTERRUPTED);
    pq_gemm_weights_free(weights);
    free(acc);
    free(x);
    free(w);
    free(y);
}

int main(void) {
    test_by_hand();
    test_extreme_accumulators();
    test_requantization();
    test_shapes();
    test_blocks();
    test_bad_constants();
    test_bad_calls();
    test_no_memory();
    test_interruption();
    return check_finish("test_gemm");
}
