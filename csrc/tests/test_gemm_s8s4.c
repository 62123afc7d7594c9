/* gemm_s8s4: hand-worked numbers, an int64 oracle written here, and every kernel against it. */
#include "gemm/gemm_s8s4_kernel.h"
#include "gemm_case.h"

typedef struct s4_problem {
    problem p; /* the first, for its oracle; p.w: the weights, one a byte */
    uint8_t *nibbles, *factor;
    size_t groups;
    pq_gemm_s8s4_pack_args args;
} s4_problem;

/* Uniform in [-8, 7] or [-7, 7], all at an end, the ends mixed, or small, as most weights are:
 * chains of all lengths. */
enum { UNIFORM, NARROW, LEAST, MOST, ENDS, SMALL, W_SPREADS };

static int8_t draw_weight(uint64_t *seed, int spread) {
    switch (spread) {
    case UNIFORM: return (int8_t)check_random_in(seed, -8, 7);
    case NARROW: return (int8_t)check_random_in(seed, -7, 7);
    case LEAST: return -8;
    case MOST: return 7;
    case ENDS: return check_random(seed) % 2 ? -7 : 7;
    default: return (int8_t)check_random_in(seed, -2, 2);
    }
}

static uint8_t *pack_nibbles(const int8_t *w, size_t n, size_t k) {
    const size_t size = pq_s4_row_size(k);
    uint8_t *out = exact(n * size);
    memset(out, 0, n * size);
    for (size_t j = 0; j < n; j++) {
        for (size_t p = 0; p < k; p++) {
            out[j * size + p / 2] |= (uint8_t)((w[j * k + p] & 15) << (p % 2 * 4));
        }
    }
    return out;
}

static int factor_at(const s4_problem *s, size_t j, size_t p) {
    return s->args.group_size == 0 ? 1 : s->factor[j * s->groups + p / s->args.group_size];
}

/* Biases that the accumulator bound allows. */
static void draw_s4_columns(s4_problem *s, uint64_t *seed) {
    problem *p = &s->p;
    for (size_t j = 0; j < p->n; j++) {
        int64_t room = INT32_MAX;
        for (size_t q = 0; q < p->k; q++) {
            room -= (int64_t)255 * factor_at(s, j, q) * abs(p->w[j * p->k + q]);
        }
        p->bias[j] = (int32_t)check_random_in(seed, -room, room) >> check_random_in(seed, 0, 30);
        if (check_random(seed) % 8 == 0) {
            p->bias[j] = (int32_t)(check_random(seed) % 2 ? room : -room);
        }
        p->multiplier[j] = (int32_t)check_random_in(seed, 1 << 30, INT32_MAX);
        p->shift[j] = (uint8_t)check_random_in(seed, 33, 46);
    }
}

/* The equation of gemm_s8s4.h. */
static int64_t s4_oracle(const problem *p, size_t i, size_t j) {
    const s4_problem *s = (const s4_problem *)(const void *)p;
    int64_t acc = p->args.bias == NULL ? 0 : p->args.bias[j];
    for (size_t q = 0; q < p->k; q++) {
        acc += ((int64_t)p->x[i * p->ldx + q] - p->args.x_zero_point) * factor_at(s, j, q) *
               p->w[j * p->k + q];
    }
    return oracle_finish(p, j, acc);
}

static s4_problem make_s4(uint64_t *seed, size_t m, size_t n, size_t k, size_t group_size,
                          pq_dtype type) {
    static const int spreads[] = {RANDOM, RANDOM, LOWEST, HIGHEST};
    s4_problem s = {
        .p = make_problem(seed, m, n, k, type, spreads[check_random(seed) % 4]),
        .groups = group_size == 0 ? 0 : pq_s4_groups(k, group_size),
    };
    s.p.oracle = s4_oracle;
    const int spread = (int)(check_random(seed) % W_SPREADS);
    for (size_t i = 0; i < n * k; i++) {
        const bool other = spread >= LEAST && check_random(seed) % 16 == 0;
        s.p.w[i] = draw_weight(seed, other ? UNIFORM : spread);
    }
    s.nibbles = pack_nibbles(s.p.w, n, k);
    s.factor = exact(n * s.groups);
    const int64_t most = ((INT64_C(1) << 30) - 1) / (255 * 8 * (int64_t)(k + 1));
    for (size_t i = 0; i < n * s.groups; i++) {
        s.factor[i] = (uint8_t)check_random_in(seed, 1, most < 255 ? most : 255);
    }
    s.args = (pq_gemm_s8s4_pack_args){
        .n = n,
        .k = k,
        .w = s.nibbles,
        .group_size = group_size,
        .group_multiplier = group_size == 0 ? NULL : s.factor,
        .bias = s.p.args.bias,
        .multiplier = s.p.args.multiplier,
        .shift = s.p.args.shift,
        .x_zero_point = s.p.args.x_zero_point,
        .y_type = type,
        .out = s.p.args.out,
    };
    draw_s4_columns(&s, seed);
    return s;
}

static void free_s4(s4_problem *s) {
    free(s->nibbles);
    free(s->factor);
    free_problem(&s->p);
}

static const struct pq_gemm_s8s4_kernel *s4_kernel_of(int isa) {
    return pq_kernel_present(PQ_KERNEL_OP_gemm_s8s4, (pq_isa)isa);
}

static void check_s4(uint64_t *seed, const s4_problem *s) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
        const struct pq_gemm_s8s4_kernel *kernel = s4_kernel_of(isa);
        pq_gemm_weights *weights = NULL;
        if (kernel != NULL && CHECK_OK(pq_gemm_s8s4_pack_for(&exec, kernel, &s->args, &weights))) {
            if (!check_weights(seed, &s->p, weights)) {
                fprintf(stderr, "  in groups of %zu\n", s->args.group_size);
            }
            pq_gemm_weights_free(weights);
        }
    }
}

static void test_shapes(void) {
    static const size_t sizes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 15, 16, 17, 31, 33, 63, 64, 65};
    static const size_t group_sizes[] = {0, 0, 4, 8, 16, 20, 32, 64};
    static const pq_dtype types[] = {PQ_S8, PQ_S16, PQ_S32};
    uint64_t seed = 1;
    const int count = (int)(sizeof sizes / sizeof sizes[0]);
    for (int a = 0; a < count; a++) {
        for (int b = 0; b < count; b++) {
            for (int round = 0; round < 3; round++) {
                const size_t k = sizes[check_random(&seed) % 18] * (round == 2 ? 7 : 1);
                const size_t group_size = group_sizes[check_random(&seed) % 8];
                s4_problem s = make_s4(&seed, sizes[a], sizes[b], k, group_size,
                                       types[check_random(&seed) % 3]);
                check_s4(&seed, &s);
                free_s4(&s);
            }
        }
    }
}

/* More than one block of rows, columns and k of every kernel; groups across the cuts. */
static void test_blocks(void) {
    static const size_t shapes[][4] = {
        {197, 131, 97, 32}, {101, 17, 1031, 0}, {97, 257, 512, 64}, {6, 16, 1153, 128},
        {12, 130, 2049, 0}, {1, 300, 4099, 0},  {1, 129, 2050, 32}, {2, 97, 5000, 36},
        {3, 1, 1511, 2000}, {4, 70, 2300, 16},  {5, 40, 1300, 4},   {26, 33, 2600, 1200},
    };
    uint64_t seed = 2;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        s4_problem s = make_s4(&seed, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3],
                               i % 3 == 0   ? PQ_S8
                               : i % 3 == 1 ? PQ_S16
                                            : PQ_S32);
        check_s4(&seed, &s);
        free_s4(&s);
    }
}

/* x - z_x = (2, -1, 0, 1 | 5), factors 3 and 2 for column 0, 1 and 255 for column 1:
 *   3 * (2*7 + 1) + 2 * (-8*5) + 10 = -25, and 1 * (2 - 1 + 1) + 255 * 5 - 1 = 1276.
 * Bytes: w = (7, -1 | 5, 0 | -8) = f7, 05, 08 and (1, 1 | 1, 1 | 1) = 11, 11, 01. */
static void test_by_hand(void) {
    const int8_t x[] = {3, 0, 1, 2, 6};
    const uint8_t w[] = {0xf7, 0x05, 0x08, 0x11, 0x11, 0x01}, factor[] = {3, 2, 1, 255};
    const int32_t bias[] = {10, -1}, multiplier[] = {1 << 30, 1 << 30};
    const uint8_t shift[] = {31, 36};
    pq_gemm_s8s4_pack_args args = {
        .n = 2,
        .k = 5,
        .w = w,
        .group_size = 4,
        .group_multiplier = factor,
        .bias = bias,
        .multiplier = multiplier,
        .shift = shift,
        .x_zero_point = 1,
        .out = {1, -128, 127},
    };
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
        const struct pq_gemm_s8s4_kernel *kernel = s4_kernel_of(isa);
        if (kernel == NULL) {
            continue;
        }
        pq_gemm_weights *weights = NULL;
        int32_t acc[2];
        args.y_type = PQ_S32;
        CHECK_OK(pq_gemm_s8s4_pack_for(&exec, kernel, &args, &weights));
        CHECK_OK(pq_gemm_s8s8(&exec, 1, x, 5, weights, acc, 2));
        CHECK_SAME(acc, ((const int32_t[]){-25, 1276}), sizeof acc);
        pq_gemm_weights_free(weights);
        int8_t y[2]; /* -12.5 up to -12, 19.94 to 20, plus 1 */
        args.y_type = PQ_S8;
        CHECK_OK(pq_gemm_s8s4_pack_for(&exec, kernel, &args, &weights));
        CHECK_OK(pq_gemm_s8s8(&exec, 1, x, 5, weights, y, 2));
        CHECK_SAME(y, ((const int8_t[]){-11, 21}), sizeof y);
        pq_gemm_weights_free(weights);
    }
}

/* The largest accumulators that the check lets through, of both signs, where all products of a
 * chain have one sign: with z_x = -128 and x = 127 every term is 255 * 255 * 7. */
static void test_extreme_accumulators(void) {
    const size_t k = 4716, groups = (k + 35) / 36;
    int8_t *x = exact(k), *w = exact(2 * k);
    uint8_t *factor = exact(2 * groups);
    memset(x, 127, k);
    memset(w, 7, k);
    memset(w + k, -7, k);
    memset(factor, 255, 2 * groups);
    uint8_t *nibbles = pack_nibbles(w, 2, k);
    const int32_t rest = (int32_t)(INT32_MAX - INT64_C(255) * 255 * 7 * (int64_t)k);
    const int32_t bias[] = {rest, -rest};
    CHECK(rest > 0);
    const pq_gemm_s8s4_pack_args args = {.n = 2,
                                         .k = k,
                                         .w = nibbles,
                                         .group_size = 36,
                                         .group_multiplier = factor,
                                         .bias = bias,
                                         .x_zero_point = -128,
                                         .y_type = PQ_S32};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
        const struct pq_gemm_s8s4_kernel *kernel = s4_kernel_of(isa);
        if (kernel == NULL) {
            continue;
        }
        pq_gemm_weights *weights = NULL;
        int32_t acc[2];
        CHECK_OK(pq_gemm_s8s4_pack_for(&exec, kernel, &args, &weights));
        CHECK_OK(pq_gemm_s8s8(&exec, 1, x, k, weights, acc, 2));
        CHECK_EQ(acc[0], INT32_MAX);
        CHECK_EQ(acc[1], -INT32_MAX);
        pq_gemm_weights_free(weights);
    }
    free(x);
    free(w);
    free(factor);
    free(nibbles);
}

/* Sums of s16 at their very end: a chain whose weights are 255 in size together and whose x is -128
 * throughout, of each sign and in each lane, one weight more, and weights of -8 only. */
static void test_chains(void) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    uint64_t seed = 3;
    for (int variant = 0; variant < 8; variant++) {
        const size_t m = variant % 2 ? 1 : 8, n = 16, k = 256;
        s4_problem s = make_s4(&seed, m, n, k, 0, PQ_S32);
        memset(s.p.x, -128, x_size(&s.p));
        for (size_t i = 0; i < n * k; i++) {
            /* 128 weights in a lane: 127 of size 2 and one of 1 are 255, all of 2 are 256 */
            const size_t j = i / k, p = i % k;
            const int size =
                variant < 4 ? (p < 4 && (variant < 2 || j > 0) && p % 2 == 0 ? 1 : 2) : 8;
            s.p.w[i] = (int8_t)(size == 8 || j % 2 == 0 ? -size : size);
        }
        free(s.nibbles);
        s.nibbles = pack_nibbles(s.p.w, n, k);
        s.args.w = s.nibbles;
        s.args.bias = s.p.args.bias = NULL;
        pq_gemm_weights *weights = NULL;
        const struct pq_gemm_s8s4_kernel *ref = s4_kernel_of(PQ_ISA_REF);
        CHECK_OK(pq_gemm_s8s4_pack_for(&exec, ref, &s.args, &weights));
        const pq_gemm_s8s4_groups *groups = weights->extra;
        CHECK_EQ(groups->chain, variant < 2 ? 64 : variant < 4 ? 32 : 8);
        pq_gemm_weights_free(weights);
        check_s4(&seed, &s);
        free_s4(&s);
    }
}

static void expect_refusal(const pq_gemm_s8s4_pack_args *args, pq_status status, const char *text) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_gemm_weights *weights = (pq_gemm_weights *)(void *)message; /* must become NULL */
    message[0] = 0;
    CHECK_STATUS(pq_gemm_s8s4_pack(&exec, args, &weights), status);
    CHECK(weights == NULL);
    CHECK_TEXT(message, text);
    message[0] = 0;
    CHECK_STATUS(pq_gemm_s8s4_check(&exec, args), status);
    CHECK_TEXT(message, text);
}

static void test_bad_constants(void) {
    uint8_t w[] = {0x77, 0x77, 0x07, 0x99, 0x99, 0x09}, factor[] = {255, 1, 1, 255};
    int32_t bias[] = {0, 0}, multiplier[] = {1 << 30, INT32_MAX};
    uint8_t shift[] = {1, 62};
    const pq_gemm_s8s4_pack_args good = {.n = 2,
                                         .k = 5,
                                         .w = w,
                                         .group_size = 4,
                                         .group_multiplier = factor,
                                         .bias = bias,
                                         .multiplier = multiplier,
                                         .shift = shift,
                                         .x_zero_point = -128,
                                         .y_type = PQ_S8,
                                         .out = {-128, -128, 127}};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    CHECK_OK(pq_gemm_s8s4_check(&exec, &good));
    pq_gemm_s8s4_pack_args bad = good;
    bad.w = NULL;
    expect_refusal(&bad, PQ_ERR_VALUE, "gemm_s8s4: w is NULL");
    bad = good;
    bad.group_size = 6;
    expect_refusal(&bad, PQ_ERR_VALUE, "group_size to be 0 or a multiple of 4, got 6");
    bad = good;
    bad.group_size = 0;
    expect_refusal(&bad, PQ_ERR_VALUE, "group_multiplier goes with a group_size");
    bad = good;
    bad.group_multiplier = NULL;
    expect_refusal(&bad, PQ_ERR_VALUE, "group_multiplier goes with a group_size");
    bad = good;
    bad.multiplier = NULL;
    expect_refusal(&bad, PQ_ERR_VALUE, "gemm_s8s4: multiplier and shift may be absent for s32");
    bad = good;
    bad.out.quant_max = 128;
    expect_refusal(&bad, PQ_ERR_VALUE, "gemm_s8s4: expected quant_min and quant_max");
    bad = good;
    bad.y_type = PQ_U8;
    expect_refusal(&bad, PQ_ERR_VALUE, "s8, s16 or s32, got type 2");
    bad = good;
    bad.n = SIZE_MAX / 2;
    bad.k = 3;
    expect_refusal(&bad, PQ_ERR_OVERFLOW, "is too large");
    bad = good;
    bad.group_size = SIZE_MAX - 3; /* one short group */
    CHECK_OK(pq_gemm_s8s4_check(&exec, &bad));
    factor[3] = 0;
    expect_refusal(&good, PQ_ERR_VALUE, "column 1: expected group_multiplier in [1, 255], got 0");
    factor[3] = 255;
    w[5] = 0x19;
    expect_refusal(&good, PQ_ERR_VALUE, "column 1: expected 0 in the half byte");
    w[5] = 0x09;
    shift[1] = 63;
    expect_refusal(&good, PQ_ERR_VALUE, "column 1: expected shift in [1, 62], got 63");
    shift[1] = 62;
    bias[1] = INT32_MAX - 255 * (4 * 7 + 255 * 7);
    CHECK_OK(pq_gemm_s8s4_check(&exec, &good));
    bias[1]++;
    expect_refusal(&good, PQ_ERR_OVERFLOW, "gemm_s8s4: column 1: expected |bias| + 255 * sum |w|");
    bias[1] = 0;
    bad = good;
    bad.k = 0;
    bias[0] = INT32_MIN;
    expect_refusal(&bad, PQ_ERR_OVERFLOW, "column 0");
}

static void test_no_memory(void) {
    const uint8_t w[] = {0x11, 0x22};
    const pq_gemm_s8s4_pack_args args = {.n = 2, .k = 2, .w = w, .y_type = PQ_S32};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const long live = pq_alloc_live();
    pq_gemm_weights *weights = NULL;
    pq_alloc_fail_after(0);
    CHECK_STATUS(pq_gemm_s8s4_pack(&exec, &args, &weights), PQ_ERR_NOMEM);
    CHECK_TEXT(message, "gemm_s8s4: no memory to pack weights of 2 x 2");
    CHECK(weights == NULL);
    pq_alloc_fail_after(-1);
    CHECK_EQ(pq_alloc_live(), live);
}

int main(void) {
    test_by_hand();
    test_extreme_accumulators();
    test_chains();
    test_shapes();
    test_blocks();
    test_bad_constants();
    test_no_memory();
    return check_finish("test_gemm_s8s4");
}
