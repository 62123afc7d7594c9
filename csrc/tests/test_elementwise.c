/* table, requantize, add, mean: numbers by hand, an int64 oracle written out from the header,
 * variants and splits against it, use in place, bad arguments. */
#include "check.h"
#include "core/dispatch.h"
#include "elementwise/add_kernel.h"
#include "elementwise/mean_kernel.h"
#include "elementwise/requantize_kernel.h"
#include "elementwise/table_s8_kernel.h"
#include "pyquant/elementwise.h"
#include "split_exec.h"

#define MAX_ELEMENTS 80000

static int16_t a_data[MAX_ELEMENTS], b_data[MAX_ELEMENTS], want[MAX_ELEMENTS],
    got[MAX_ELEMENTS + 1];
static char message[256];
static uint64_t seed = 3, split_state = 5;

static const size_t sizes[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 1021, 20011};
#define SIZE_COUNT (sizeof sizes / sizeof sizes[0])

static int64_t get(pq_dtype type, const void *x, size_t i) {
    return type == PQ_S8 ? ((const int8_t *)x)[i] : ((const int16_t *)x)[i];
}

static void put(pq_dtype type, void *x, size_t i, int64_t value) {
    if (type == PQ_S8) {
        ((int8_t *)x)[i] = (int8_t)value;
    } else {
        ((int16_t *)x)[i] = (int16_t)value;
    }
}

/* Uniform, with plenty of both ends. */
static void fill(pq_dtype type, size_t n, int16_t *x) {
    const int32_t low = type == PQ_S8 ? -128 : -32768;
    for (size_t i = 0; i < n; i++) {
        const int64_t kind = check_random_in(&seed, 0, 9);
        put(type, x, i,
            kind == 0   ? low
            : kind == 1 ? -low - 1
                        : check_random_in(&seed, low, -low - 1));
    }
}

static pq_clamp some_clamp(pq_dtype type) {
    const int32_t low = type == PQ_S8 ? -128 : -32768;
    pq_clamp out = {.quant_min = low, .quant_max = -low - 1};
    if (check_random_in(&seed, 0, 1) == 0) {
        out.quant_min = (int32_t)check_random_in(&seed, low, 0);
        out.quant_max = (int32_t)check_random_in(&seed, 1, -low - 1);
    }
    out.zero_point = (int32_t)check_random_in(&seed, out.quant_min, out.quant_max);
    return out;
}

static int32_t some_zero_point(pq_dtype type) {
    const int32_t low = type == PQ_S8 ? -128 : -32768;
    const int64_t kind = check_random_in(&seed, 0, 3);
    return kind == 0 ? low : kind == 1 ? -low - 1 : (int32_t)check_random_in(&seed, low, -low - 1);
}

static pq_dyadic some_dyadic(void) {
    const int64_t kind = check_random_in(&seed, 0, 3);
    return (pq_dyadic){.multiplier = kind == 0 ? 1 << 30
                                     : kind == 1
                                         ? INT32_MAX
                                         : (int32_t)check_random_in(&seed, 1 << 30, INT32_MAX),
                       .shift = (uint8_t)(kind == 3 ? check_random_in(&seed, 1, 62)
                                                    : check_random_in(&seed, 26, 36))};
}

/* floor((v + 2^(s-1)) / 2^s) by division, not by the shift under test. */
static int64_t round_half_up(int64_t v, int shift) {
    const int64_t unit = INT64_C(1) << shift, sum = v + unit / 2;
    const int64_t quotient = sum / unit;
    return quotient - (sum % unit < 0);
}

static int64_t clamped(int64_t v, pq_clamp out) {
    v += out.zero_point;
    return v < out.quant_min ? out.quant_min : v > out.quant_max ? out.quant_max : v;
}

static void test_table(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    int8_t table[256], *x = (int8_t *)a_data, *y = (int8_t *)got, *y_want = (int8_t *)want;
    for (int q = -128; q < 128; q++) {
        table[q + 128] = (int8_t)(-1 - q); /* reverses the order */
    }
    const int8_t four[4] = {-128, -1, 0, 127};
    CHECK_OK(pq_table_s8(&exec, 4, four, table, y));
    CHECK_EQ(y[0], 127);
    CHECK_EQ(y[1], 0);
    CHECK_EQ(y[2], -1);
    CHECK_EQ(y[3], -128);
    for (size_t s = 0; s < SIZE_COUNT; s++) {
        const size_t n = sizes[s];
        check_random_s8(&seed, table, 256);
        for (size_t i = 0; i < n; i++) {
            x[i] = (int8_t)(n >= 256 ? (int)(i % 256) - 128 : check_random_in(&seed, -128, 127));
            y_want[i] = table[x[i] + 128];
        }
        for (pq_isa isa = PQ_ISA_REF; isa < PQ_ISA_COUNT; isa++) {
            const struct pq_table_s8_kernel *kernel = pq_kernel_present(PQ_KERNEL_OP_table_s8, isa);
            if (kernel != NULL) {
                memset(y, 0x55, n + 1);
                kernel->run(n, x, table, y);
                CHECK_SAME(y, y_want, n);
                CHECK_EQ(y[n], 0x55);
            }
        }
        CHECK_OK(pq_table_s8(&split, n, x, table, x));
        CHECK_SAME(x, y_want, n);
    }
    CHECK_STATUS(pq_table_s8(&exec, 9, x, table, x + 1), PQ_ERR_VALUE);
    CHECK_TEXT(message, "table_s8: expected y not to overlap x unless they are the same");
    CHECK_STATUS(pq_table_s8(&exec, 9, x, table, table + 250), PQ_ERR_VALUE);
    CHECK_TEXT(message, "table_s8: expected y not to overlap table");
}

static void test_requantize(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    /* x - 10 over 2 (2^30 / 2^31), half up: -2.5 -> -2, -1 -> -1, 0.5 -> 1, 1.5 -> 2; then + 1. */
    const int16_t four[4] = {5, 8, 11, 13};
    int8_t y4[4];
    pq_requantize_args args = {.n = 4,
                               .x_type = PQ_S16,
                               .y_type = PQ_S8,
                               .x = four,
                               .y = y4,
                               .x_zero_point = 10,
                               .requant = {1 << 30, 31},
                               .out = {1, -128, 2}};
    CHECK_OK(pq_requantize_n(&exec, &args));
    CHECK_EQ(y4[0], -1);
    CHECK_EQ(y4[1], 0);
    CHECK_EQ(y4[2], 2);
    CHECK_EQ(y4[3], 2); /* 3 before the clamp */
    for (int round = 0; round < 40 * (int)SIZE_COUNT; round++) {
        const size_t n = sizes[(size_t)round % SIZE_COUNT];
        args = (pq_requantize_args){.n = n,
                                    .x_type = round & 16 ? PQ_S16 : PQ_S8,
                                    .y_type = round & 32 ? PQ_S16 : PQ_S8,
                                    .x = a_data,
                                    .y = got};
        args.x_zero_point = some_zero_point(args.x_type);
        args.requant = some_dyadic();
        args.out = some_clamp(args.y_type);
        fill(args.x_type, n, a_data);
        for (size_t i = 0; i < n; i++) {
            const int64_t v =
                (get(args.x_type, a_data, i) - args.x_zero_point) * args.requant.multiplier;
            put(args.y_type, want, i, clamped(round_half_up(v, args.requant.shift), args.out));
        }
        const size_t size = n * pq_dtype_size(args.y_type);
        for (pq_isa isa = PQ_ISA_REF; isa < PQ_ISA_COUNT; isa++) {
            const struct pq_requantize_kernel *kernel =
                pq_kernel_present(PQ_KERNEL_OP_requantize, isa);
            if (kernel != NULL) {
                memset(got, 0x55, size + 1);
                kernel->run(&args, 0, n);
                CHECK_SAME(got, want, size);
                CHECK_EQ(((uint8_t *)got)[size], 0x55);
            }
        }
        args.y = args.x_type == args.y_type ? a_data : got;
        CHECK_OK(pq_requantize_n(&split, &args));
        CHECK_SAME(args.y, want, size);
    }
}

static void test_add(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    /* a / 1 + b / 4 with one rounding: 1 + 0.25 + 0.5 floors to 1; 1 + 0.5 -> 2; -1 - 0.5 -> -1
     * (half up). */
    const int8_t a3[3] = {1, 1, -1}, b3[3] = {1, 2, -2};
    int16_t y3[3];
    pq_add_args args = {.n = 3,
                        .period = 3,
                        .a_type = PQ_S8,
                        .b_type = PQ_S8,
                        .y_type = PQ_S16,
                        .a = a3,
                        .b = b3,
                        .y = y3,
                        .a_multiplier = 1 << 30,
                        .b_multiplier = 1 << 28,
                        .shift = 30,
                        .out = {0, -32768, 32767}};
    CHECK_OK(pq_add(&exec, &args));
    CHECK_EQ(y3[0], 1);
    CHECK_EQ(y3[1], 2);
    CHECK_EQ(y3[2], -1);
    for (int round = 0; round < 40 * (int)SIZE_COUNT; round++) {
        const size_t n = sizes[(size_t)round % SIZE_COUNT];
        args = (pq_add_args){.n = n,
                             .period = n,
                             .a_type = round & 16 ? PQ_S16 : PQ_S8,
                             .b_type = round & 32 ? PQ_S16 : PQ_S8,
                             .y_type = round & 64 ? PQ_S16 : PQ_S8,
                             .a = a_data,
                             .b = b_data,
                             .y = got};
        const pq_dyadic larger = some_dyadic();
        args.shift = larger.shift;
        const int32_t other =
            (int32_t)check_random_in(&seed, 0, round % 3 == 0 ? INT32_MAX : 1 << 20);
        args.a_multiplier = round % 2 == 0 ? larger.multiplier : other;
        args.b_multiplier = round % 2 == 0 ? other : larger.multiplier;
        args.a_zero_point = some_zero_point(args.a_type);
        args.b_zero_point = some_zero_point(args.b_type);
        args.out = some_clamp(args.y_type);
        if (n > 0) { /* every divisor may be a period: 20011 and 1021 are prime */
            do {
                args.period = (size_t)check_random_in(&seed, 1, (int64_t)n);
            } while (n % args.period != 0);
            if (n > 1000) {
                args.period = round & 128 ? n : 1;
            }
        }
        fill(args.a_type, n, a_data);
        fill(args.b_type, n, b_data);
        for (size_t i = 0; i < n; i++) {
            const int64_t v =
                (get(args.a_type, a_data, i) - args.a_zero_point) * args.a_multiplier +
                (get(args.b_type, b_data, i % args.period) - args.b_zero_point) * args.b_multiplier;
            put(args.y_type, want, i, clamped(round_half_up(v, args.shift), args.out));
        }
        const size_t size = n * pq_dtype_size(args.y_type);
        for (pq_isa isa = PQ_ISA_REF; isa < PQ_ISA_COUNT; isa++) {
            const struct pq_add_kernel *kernel = pq_kernel_present(PQ_KERNEL_OP_add, isa);
            if (kernel != NULL && args.period == n) {
                memset(got, 0x55, size + 1);
                kernel->run(&args, n, a_data, b_data, got);
                CHECK_SAME(got, want, size);
                CHECK_EQ(((uint8_t *)got)[size], 0x55);
            }
        }
        if (args.a_type == args.y_type && round % 4 == 1) {
            args.y = a_data;
        } else if (args.b_type == args.y_type && args.period == n) {
            args.y = b_data;
        }
        CHECK_OK(pq_add(&split, &args));
        CHECK_SAME(args.y, want, size);
    }
}

/* Constants at which the exact decomposition of rescale.h turns: shifts around its limits,
 * multipliers whose low 16 bits are at an end, zero points that make it carry. */
static pq_dyadic rescale_dyadic(int round) {
    static const uint8_t shifts[] = {15, 16, 17, 18, 30, 31, 32, 38, 45, 46, 47, 48};
    static const uint32_t lows[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    static const uint32_t highs[] = {0x4000, 0x4001, 0x5a82, 0x7ffe, 0x7fff};
    const uint32_t low =
        round % 7 < 6 ? lows[round % 7] : (uint32_t)check_random_in(&seed, 0, 65535);
    const uint32_t high =
        round % 3 == 0 ? highs[round / 3 % 5] : (uint32_t)check_random_in(&seed, 0x4000, 0x7fff);
    return (pq_dyadic){.multiplier = (int32_t)(high << 16 | low),
                       .shift = round % 2 == 0 ? shifts[round / 2 % 12]
                                               : (uint8_t)check_random_in(&seed, 17, 46)};
}

/* Every s16 (or 256 times every s8) on every kernel, against the reference; test_requantize and
 * test_add hold that one to the header. */
static void test_every_input(void) {
    enum { N = 65536 };
    for (int i = 0; i < N; i++) {
        a_data[i] = (int16_t)(i - 32768);
        b_data[i] = (int16_t)((uint32_t)i * 40503u); /* odd: every s16 once */
    }
    for (int round = 0; round < 300; round++) {
        const pq_dtype a_type = round & 1 ? PQ_S16 : PQ_S8, b_type = round & 2 ? PQ_S16 : PQ_S8,
                       y_type = round & 4 ? PQ_S16 : PQ_S8;
        const bool symmetric = round & 8;
        const pq_dyadic m = rescale_dyadic(round);
        const pq_clamp out = some_clamp(y_type);
        pq_requantize_args requantize = {
            .n = N, .x_type = a_type, .y_type = y_type, .x = a_data, .y = want};
        requantize.x_zero_point = symmetric ? 0 : some_zero_point(a_type);
        requantize.requant = m;
        requantize.out = out;
        pq_requantize_ref.run(&requantize, 0, N);
        requantize.y = got;
        for (pq_isa isa = PQ_ISA_AVX2; isa < PQ_ISA_COUNT; isa++) {
            const struct pq_requantize_kernel *kernel =
                pq_kernel_present(PQ_KERNEL_OP_requantize, isa);
            if (kernel != NULL) {
                kernel->run(&requantize, 0, N);
                CHECK_SAME(got, want, N * pq_dtype_size(y_type));
            }
        }
        const int32_t other = round % 5 == 0   ? 0
                              : round % 5 == 1 ? rescale_dyadic(round + 3).multiplier
                                               : (int32_t)check_random_in(&seed, 0, m.multiplier);
        pq_add_args add = {.n = N,
                           .period = N,
                           .a_type = a_type,
                           .b_type = b_type,
                           .y_type = y_type,
                           .a_zero_point = requantize.x_zero_point,
                           .b_zero_point = symmetric ? 0 : some_zero_point(b_type),
                           .a_multiplier = round & 16 ? m.multiplier : other,
                           .b_multiplier = round & 16 ? other : m.multiplier,
                           .shift = m.shift,
                           .out = out};
        pq_add_ref.run(&add, N, a_data, b_data, want);
        for (pq_isa isa = PQ_ISA_AVX2; isa < PQ_ISA_COUNT; isa++) {
            const struct pq_add_kernel *kernel = pq_kernel_present(PQ_KERNEL_OP_add, isa);
            if (kernel != NULL) {
                kernel->run(&add, N, a_data, b_data, got);
                CHECK_SAME(got, want, N * pq_dtype_size(y_type));
            }
        }
    }
}

static void mean_want(const pq_mean_args *args) {
    for (size_t o = 0; o < args->outer; o++) {
        for (size_t i = 0; i < args->inner; i++) {
            int64_t sum = 0;
            for (size_t r = 0; r < args->reduce; r++) {
                sum += get(args->x_type, args->x, (o * args->reduce + r) * args->inner + i) -
                       args->x_zero_point;
            }
            put(args->y_type, want, o * args->inner + i,
                clamped(round_half_up(sum * args->requant.multiplier, args->requant.shift),
                        args->out));
        }
    }
}

static void test_mean(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    /* Two columns of three rows: sums 6 and -4; over 4 (2^30 / 2^32), half up: 1.5 -> 2, -1. */
    const int8_t x6[6] = {1, -1, 2, -2, 3, -1};
    int8_t y2[2];
    pq_mean_args args = {.outer = 1,
                         .reduce = 3,
                         .inner = 2,
                         .x_type = PQ_S8,
                         .y_type = PQ_S8,
                         .x = x6,
                         .y = y2,
                         .requant = {1 << 30, 32},
                         .out = {0, -128, 127}};
    CHECK_OK(pq_mean(&exec, &args));
    CHECK_EQ(y2[0], 2);
    CHECK_EQ(y2[1], -1);
    static const size_t inners[] = {1, 1, 2, 15, 16, 17, 31, 32, 33, 65, 97, 0};
    static const size_t reduces[] = {1, 2, 3, 16, 197, 253, 254, 255};
    for (int round = 0; round < 500; round++) {
        /* The bound on the sum, with all values at an end: as many rows as there may be, and as
         * there is room for beside a vector of columns. */
        const bool longest = round % 100 == 0, tall = round % 100 == 50;
        args = (pq_mean_args){.outer = longest ? 1 : (size_t)check_random_in(&seed, 0, 3),
                              .reduce = longest ? INT16_MAX
                                        : tall  ? 500
                                                : reduces[check_random_in(&seed, 0, 7)],
                              .inner = longest ? 1 + (size_t)round / 100 % 2
                                       : tall  ? 32
                                               : inners[round % 12],
                              .x_type = round / 12 % 2 == 0 ? PQ_S16 : PQ_S8,
                              .y_type = round / 24 % 2 == 0 ? PQ_S16 : PQ_S8,
                              .x = a_data,
                              .y = got};
        args.requant = some_dyadic();
        args.x_zero_point = some_zero_point(args.x_type);
        args.out = some_clamp(args.y_type);
        const size_t count = args.outer * args.inner, size = count * pq_dtype_size(args.y_type);
        fill(args.x_type, count * args.reduce, a_data);
        if (longest || tall) {
            const bool narrow = tall && args.x_type == PQ_S8;
            args.x_type = narrow ? PQ_S8 : PQ_S16;
            args.x_zero_point = narrow ? 127 : 32767;
            for (size_t i = 0; i < count * args.reduce; i++) {
                put(args.x_type, a_data, i, narrow ? -128 : -32768);
            }
        }
        mean_want(&args);
        for (pq_isa isa = PQ_ISA_REF; isa < PQ_ISA_COUNT; isa++) {
            const struct pq_mean_kernel *kernel = pq_kernel_present(PQ_KERNEL_OP_mean, isa);
            if (kernel != NULL) {
                memset(got, 0x55, size + 1);
                for (size_t o = 0; o < args.outer && args.inner > 0; o++) {
                    kernel->run(&args, o, 0, args.inner);
                }
                CHECK_SAME(got, want, size);
                CHECK_EQ(((uint8_t *)got)[size], 0x55);
            }
        }
        args.y = args.reduce == 1 && args.x_type == args.y_type ? a_data : got;
        CHECK_OK(pq_mean(&split, &args));
        CHECK_SAME(args.y, want, size);
    }
}

#define BAD(call, status, text) \
    do { \
        CHECK_STATUS((call), (status)); \
        CHECK_TEXT(message, (text)); \
    } while (0)

static void test_messages(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    int8_t x[16] = {0}, b[16] = {0}, y[16];
    const pq_clamp out = {0, -128, 127};
    const pq_requantize_args requantize = {.n = 8,
                                           .x_type = PQ_S8,
                                           .y_type = PQ_S8,
                                           .x = x,
                                           .y = y,
                                           .requant = {1 << 30, 30},
                                           .out = out};
    pq_requantize_args r = requantize;
    r.requant.multiplier = (1 << 30) - 1;
    BAD(pq_requantize_n(&exec, &r), PQ_ERR_VALUE,
        "requantize: expected a multiplier in [2^30, 2^31) and a shift in [1, 62], got 1073741823 "
        "and 30");
    r = requantize;
    r.requant.shift = 63;
    BAD(pq_requantize_n(&exec, &r), PQ_ERR_VALUE, "got 1073741824 and 63");
    r = requantize;
    r.x_zero_point = -129;
    BAD(pq_requantize_n(&exec, &r), PQ_ERR_VALUE,
        "requantize: expected the zero point of x in [-128, 127], got -129");
    r = requantize;
    r.x_type = PQ_U8;
    BAD(pq_requantize_n(&exec, &r), PQ_ERR_VALUE,
        "requantize: expected x of type s8 or s16, got type 2");
    r = requantize;
    r.n = SIZE_MAX;
    BAD(pq_requantize_n(&exec, &r), PQ_ERR_OVERFLOW, "requantize: expected n to fit in memory");
    r = requantize;
    r.y = x + 7;
    BAD(pq_requantize_n(&exec, &r), PQ_ERR_VALUE, "requantize: expected y not to overlap x");

    const pq_add_args add = {.n = 8,
                             .period = 4,
                             .a_type = PQ_S8,
                             .b_type = PQ_S8,
                             .y_type = PQ_S8,
                             .a = x,
                             .b = b,
                             .y = y,
                             .a_multiplier = 1 << 30,
                             .b_multiplier = 5,
                             .shift = 30,
                             .out = out};
    pq_add_args d = add;
    CHECK_OK(pq_add(&exec, &d));
    d.period = 3;
    BAD(pq_add(&exec, &d), PQ_ERR_VALUE, "add: expected a period that divides n = 8, got 3");
    d.period = 0;
    BAD(pq_add(&exec, &d), PQ_ERR_VALUE, "got 0");
    d = add;
    d.a_multiplier = 6;
    BAD(pq_add(&exec, &d), PQ_ERR_VALUE,
        "add: expected multipliers in [0, 2^31), the larger at least 2^30, got 6 and 5");
    d.a_multiplier = -1;
    BAD(pq_add(&exec, &d), PQ_ERR_VALUE, "got -1 and 5");
    d = add;
    d.shift = 0;
    BAD(pq_add(&exec, &d), PQ_ERR_VALUE, "add: expected shift in [1, 62], got 0");
    d = add;
    d.y = b; /* in place of b only where b does not repeat */
    BAD(pq_add(&exec, &d), PQ_ERR_VALUE, "add: expected y not to overlap b");

    const pq_mean_args mean = {.outer = 1,
                               .reduce = 2,
                               .inner = 4,
                               .x_type = PQ_S8,
                               .y_type = PQ_S8,
                               .x = x,
                               .y = y,
                               .requant = {1 << 30, 31},
                               .out = out};
    pq_mean_args m = mean;
    CHECK_OK(pq_mean(&exec, &m));
    m.reduce = 0;
    BAD(pq_mean(&exec, &m), PQ_ERR_VALUE, "mean: expected reduce in [1, 32767], got 0");
    m.reduce = 32768;
    BAD(pq_mean(&exec, &m), PQ_ERR_VALUE, "got 32768");
    m = mean;
    m.outer = SIZE_MAX / 2;
    BAD(pq_mean(&exec, &m), PQ_ERR_OVERFLOW,
        "mean: expected outer * reduce * inner to fit in memory");
    m = mean;
    m.y = x;
    BAD(pq_mean(&exec, &m), PQ_ERR_VALUE, "mean: expected y not to overlap x");
    m = mean;
    m.out.quant_min = 1;
    BAD(pq_mean(&exec, &m), PQ_ERR_VALUE,
        "quant_min <= zero_point <= quant_max <= 127, got 1, 0, 127");
}

int main(void) {
    test_table();
    test_requantize();
    test_add();
    test_every_input();
    test_mean();
    test_messages();
    return check_finish("test_elementwise");
}
