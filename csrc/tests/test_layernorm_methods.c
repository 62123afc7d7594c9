/* The methods of layernorm other than the exact one: numbers by hand and printed ones, roots at
 * their edges, z against long double, variants and splits against the reference, bad arguments. */
#include <math.h>

#include "check.h"
#include "core/dispatch.h"
#include "layernorm/layernorm_wide.h"
#include "split_exec.h"

#define MAX_ELEMENTS 40000

static int16_t x_data[MAX_ELEMENTS], want[MAX_ELEMENTS], got[MAX_ELEMENTS];
static int32_t gain[INT16_MAX];
static int64_t offset[INT16_MAX];
static uint8_t alpha[INT16_MAX], exponent[INT16_MAX];
static char message[256];
static uint64_t seed = 3;

static bool is_root(uint64_t r, uint64_t n) {
    return r * r <= n && (r + 1) * (r + 1) > n;
}

static void test_roots(void) {
    /* I-ViT as released: printed in the docs, and the issue that a start from the bits removes. */
    const uint64_t published[][2] = {{16, 65}, {64, 83}, {128, 132}, {256, 256}, {1, 64}};
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        const uint64_t n = published[i][0] * published[i][0];
        CHECK_EQ(pq_newton_root_ivit(n, 1 << 16, 10), published[i][1]);
        CHECK_EQ(pq_newton_root_ivit(n, pq_newton_start(n), 10), published[i][0]);
    }
    CHECK_EQ(pq_newton_root_ivit(UINT64_C(1) << 46, 1 << 16, 10), (1 << 23) + 1);
    for (size_t i = 0; i < 100000; i++) {
        uint64_t n = i + 1;
        if (i >= 30000) {
            n = (check_random(&seed) >> check_random_in(&seed, 17, 63)) | 1;
        }
        if (i >= 60000) { /* about a square */
            const uint64_t r = check_random(&seed) >> check_random_in(&seed, 41, 63) | 1;
            n = r * r - (i % 2 == 0 && r > 1);
        }
        const uint64_t start = pq_newton_start(n), root = pq_newton_root_ibert(n);
        CHECK(start * start >= n && start * start <= 4 * n);
        CHECK(is_root(root, n));
        for (int32_t steps = 1; steps <= PQ_NORM_ITERATIONS_MAX; steps++) {
            const uint64_t k = pq_newton_root_ivit(n, start, steps);
            CHECK(k >= root);
            CHECK(steps < 5 || k == root || (k == root + 1 && (root + 1) * (root + 1) == n + 1));
        }
        CHECK(pq_newton_root_ivit(n, 1 << 16, 10) >= root);
    }
}

static pq_layernorm_args some_args(size_t rows, size_t channels, pq_norm_method method) {
    return (pq_layernorm_args){.rows = rows,
                               .channels = channels,
                               .x_type = PQ_S8,
                               .y_type = PQ_S16,
                               .x = x_data,
                               .y = want,
                               .gain = gain,
                               .offset = offset,
                               .shift = 30,
                               .out = {0, -32768, 32767},
                               .method = method,
                               .iterations = method == PQ_NORM_IVIT ? 10 : 0};
}

/* x = 0 0 0 8: mean 2, y = -2 -2 -2 6, var 48, std 6, factor 2^31 / 6 = 357913941, z = -357913941
 * thrice and 1073741823. Gain 2^10 on shift 30: -341.3 and 1024 - 2^-20. */
static void test_newton_by_hand(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const int8_t x[4] = {0, 0, 0, 8};
    const int32_t g[4] = {1 << 10, 1 << 10, 1 << 10, 1 << 10};
    const int64_t zeros[4] = {0};
    int16_t y[4];
    pq_layernorm_args args = some_args(1, 4, PQ_NORM_IBERT);
    args.x = x;
    args.y = y;
    args.gain = g;
    args.offset = zeros;
    CHECK_OK(pq_layernorm(&exec, &args));
    CHECK_EQ(y[0], -341);
    CHECK_EQ(y[3], 1024);
    args.method = PQ_NORM_IVIT_PUBLISHED; /* ten steps from 2^16 only reach 64 */
    CHECK_OK(pq_layernorm(&exec, &args));
    CHECK_EQ(y[3], 96); /* 6 / 64 */
    /* One channel that stands alone: y * 2^31 / std is 2^31, and minus it. RMSNorm of one. */
    const int8_t ends[2] = {-128, 127};
    args.method = PQ_NORM_IBERT;
    args.rms = true;
    args.x = ends;
    args.rows = 2;
    args.channels = 1;
    CHECK_OK(pq_layernorm(&exec, &args));
    CHECK_EQ(y[0], -1024);
    CHECK_EQ(y[1], 1024);
}

/* x8 = x (a requant of 1), X = 10 and 20: S1 = 30, V = 2 * 500 - 900 = 100. |gamma| C / s_y = 40 on
 * [2^30, 2^31) / 2^25. The reciprocal 1 / sqrt(V) is floored, so that A is just below 4: N = 6 and
 * M = 255. The mean's part is 15 A = 60: y = 10 * 255 / 64 - 60 = -20.16, and 19.69 for 20. */
static void test_ptf_by_hand(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const int8_t x[2] = {10, 10};
    const int32_t g[2] = {40 << 25, 40 << 25};
    const int64_t b[2] = {0, INT64_C(7) << 32};
    const uint8_t a[2] = {0, 0}, up[2] = {0, 1}, e[2] = {25, 25};
    int16_t y[2];
    pq_layernorm_args args = some_args(1, 2, PQ_NORM_PTF);
    args.x = x;
    args.y = y;
    args.gain = g;
    args.offset = b;
    args.shift = PQ_NORM_PTF_SHIFT;
    args.alpha = up;
    args.exponent = e;
    args.requant = (pq_dyadic){1 << 30, 30};
    /* with alpha = 1 a step is twice as large: x8 = 5, X = 10: no variance, y is the offset */
    CHECK_OK(pq_layernorm(&exec, &args));
    CHECK_EQ(y[0], 0);
    CHECK_EQ(y[1], 7);
    const int8_t apart[2] = {10, 20};
    args.x = apart;
    CHECK_OK(pq_layernorm(&exec, &args));
    CHECK_EQ(y[0], -20);
    CHECK_EQ(y[1], 27);
    args.alpha = a; /* the same X, 20 on the finer scale */
    CHECK_OK(pq_layernorm(&exec, &args));
    CHECK_EQ(y[0], -20);
    CHECK_EQ(y[1], 27);
    args.requant.shift = 26; /* 16 times as large: 160 and 320 saturate at 127, 127 */
    CHECK_OK(pq_layernorm(&exec, &args));
    CHECK_EQ(y[0], 0);
    CHECK_EQ(y[1], 7);
}

/* kind 0..5: uniform, one-hot, two values side by side, alternating ends, constant, small noise. */
static void fill(pq_dtype type, size_t n, int kind, int16_t *out) {
    const int32_t low = type == PQ_S8 ? -128 : -32768, high = -low - 1;
    const int32_t level = (int32_t)check_random_in(&seed, low + 1, high);
    for (size_t i = 0; i < n; i++) {
        switch (kind) {
        case 0: out[i] = (int16_t)check_random_in(&seed, low, high); break;
        case 1: out[i] = (int16_t)(i == n / 2 ? high : 0); break;
        case 2: out[i] = (int16_t)(level - (i == 0)); break;
        case 3: out[i] = (int16_t)(i % 2 == 0 ? low : high); break;
        case 4: out[i] = (int16_t)level; break;
        default: out[i] = (int16_t)check_random_in(&seed, -6, 6); break;
        }
    }
    if (type == PQ_S8) {
        int8_t *narrow = (int8_t *)out; /* in place: element i lies at or before its source */
        for (size_t i = 0; i < n; i++) {
            narrow[i] = (int8_t)out[i];
        }
    }
}
#define FILL_KINDS 6

static size_t some_channels(void) {
    static const size_t edges[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 61, 127, 384, 1021};
    const size_t i = (size_t)check_random_in(&seed, 0, 15);
    return i < 14 ? edges[i] : (size_t)check_random_in(&seed, 1, 2000);
}

/* z of I-BERT against (x - m) / sqrt(var) * 2^30: the floored root makes it larger by at most
 * |z| / std, floor(2^31 / std) smaller by |y| / 2 and the last floor by 1. */
static void test_z(void) {
    for (int round = 0; round < 2000; round++) {
        const size_t c = round % 400 == 0 ? INT16_MAX : some_channels();
        pq_layernorm_args args = some_args(1, c, PQ_NORM_IBERT);
        args.x_type = round % 2 == 0 ? PQ_S8 : PQ_S16;
        args.rms = round % 3 == 0;
        args.x_zero_point = args.rms ? pq_layernorm_load(args.x_type, x_data, c - 1) : 0;
        fill(args.x_type, c, round % FILL_KINDS, x_data);
        int64_t sum, square_sum, var = 0;
        pq_layernorm_sums(&args, 0, &sum, &square_sum);
        const pq_layernorm_newton_row row = pq_layernorm_newton_row_of(&args, sum, square_sum);
        CHECK(args.rms || llabs((int64_t)c * row.centre - sum) * 2 <= (int64_t)c);
        for (size_t i = 0; i < c; i++) {
            const int64_t y = pq_layernorm_load(args.x_type, args.x, i) - row.centre;
            var += y * y;
        }
        const long double root = sqrtl(var == 0 ? 1 : (long double)var);
        for (size_t i = 0; i < c; i += 1 + c / 50) {
            const int64_t y = pq_layernorm_load(args.x_type, args.x, i) - row.centre;
            const int64_t z = y * row.factor >> 1;
            const long double exact = (long double)y * 0x1p30L / root;
            const long double up = fabsl(exact) / floorl(root);
            const long double down = fabsl((long double)y) / 2 + 1;
            CHECK(z >= -(INT64_C(1) << 30) && z <= INT64_C(1) << 30);
            CHECK(fabsl((long double)z - exact) <= up + down + 1e-3L);
        }
    }
}

/* Real constants, extreme ones that only the reference holds, and those about the shifts where fast
 * paths end. */
static void random_constants(pq_layernorm_args *args, int kind) {
    const bool ptf = args->method == PQ_NORM_PTF;
    args->shift = ptf         ? PQ_NORM_PTF_SHIFT
                  : kind == 0 ? 50
                  : kind == 1 ? (int)check_random_in(&seed, 1, 62)
                              : (int)check_random_in(&seed, 31, 36);
    int64_t offset_max = (INT64_C(1) << 61) - 1;
    if (kind != 1) {
        offset_max >>= check_random_in(&seed, 0, 30);
    }
    if (kind == 0) {
        offset_max = INT64_C(1) << (args->shift + 7);
    }
    const int64_t gain_max = INT32_MAX >> (kind == 1 ? 0 : check_random_in(&seed, 0, 8));
    const int exponent_least =
        (int)(kind == 0 ? 18 : kind == 1 ? 1 : check_random_in(&seed, 1, 36));
    for (size_t i = 0; i < args->channels; i++) {
        gain[i] = (int32_t)check_random_in(&seed, -gain_max, gain_max);
        offset[i] = check_random_in(&seed, -offset_max, offset_max);
        if (ptf) {
            const int32_t size = (int32_t)check_random_in(&seed, 1 << 30, INT32_MAX);
            gain[i] = gain[i] % 16 == 0 ? 0 : gain[i] < 0 ? -size : size;
            alpha[i] = (uint8_t)check_random_in(&seed, 0, 3);
            exponent[i] = (uint8_t)check_random_in(&seed, exponent_least, PQ_NORM_EXPONENT_MAX);
        }
    }
    if (ptf) {
        const int least = args->x_type == PQ_S8 ? 26 : 33;
        args->alpha = alpha;
        args->exponent = exponent;
        args->requant.multiplier = (int32_t)check_random_in(&seed, 1 << 30, INT32_MAX);
        args->requant.shift = (uint8_t)(kind == 1 ? check_random_in(&seed, 1, 59)
                                                  : check_random_in(&seed, least, least + 5));
        args->zero_point = (int32_t)check_random_in(&seed, -128, 127);
    }
}

typedef void rows_function(const pq_layernorm_args *args, size_t begin, size_t end);

static rows_function *find(pq_norm_method method, pq_isa isa) {
    if (method == PQ_NORM_PTF) {
        const struct pq_layernorm_ptf_kernel *kernel =
            pq_kernel_find(PQ_KERNEL_OP_layernorm_ptf, isa);
        return kernel == NULL ? NULL : kernel->rows;
    }
    const struct pq_layernorm_newton_kernel *kernel =
        pq_kernel_find(PQ_KERNEL_OP_layernorm_newton, isa);
    return kernel == NULL ? NULL : kernel->rows;
}

static void test_variants(void) {
    uint64_t split_state = 7;
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    for (int round = 0; round < 1600; round++) {
        const size_t c = round % 400 == 99 ? INT16_MAX : some_channels();
        const size_t rows = c > 3000 ? 1 : (size_t)check_random_in(&seed, 0, 7);
        pq_layernorm_args args =
            some_args(rows, c, (pq_norm_method)check_random_in(&seed, 1, PQ_NORM_PTF));
        args.x_type = round % 2 == 0 ? PQ_S8 : PQ_S16;
        args.y_type = round / 2 % 2 == 0 ? PQ_S8 : PQ_S16;
        args.rms = round % 3 == 0;
        args.x_zero_point = args.x_type == PQ_S8 ? -128 : round % 5 == 0 ? -32768 : 77;
        args.out = args.y_type == PQ_S8 ? (pq_clamp){3, -100, 120}
                                        : (pq_clamp){-300, -32768, 32767};
        if (args.method == PQ_NORM_IVIT) {
            args.iterations = (int32_t)check_random_in(&seed, 1, PQ_NORM_ITERATIONS_MAX);
        }
        random_constants(&args, round / 4 % 3);
        fill(args.x_type, rows * c, round / 12 % FILL_KINDS, x_data);
        const size_t size = rows * c * pq_dtype_size(args.y_type);
        find(args.method, PQ_ISA_REF)(&args, 0, rows);
        args.y = got;
        for (pq_isa isa = PQ_ISA_AVX2; isa < PQ_ISA_COUNT; isa++) {
            rows_function *const kernel = find(args.method, isa);
            if (kernel == NULL || !pq_isa_eligible(isa, 0)) {
                continue;
            }
            memset(got, 0x55, size + 2);
            kernel(&args, 0, rows);
            CHECK_SAME(got, want, size);
            CHECK_EQ(((uint8_t *)got)[size], 0x55);
        }
        memset(got, 0x55, size);
        CHECK_OK(pq_layernorm(&split, &args));
        CHECK_SAME(got, want, size);
        if (args.x_type == args.y_type) {
            args.y = x_data;
            CHECK_OK(pq_layernorm(&split, &args));
            CHECK_SAME(x_data, want, size);
        }
    }
}

static void test_messages(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    int8_t x[8] = {0}, y[8];
    int32_t g[4] = {1 << 30, 0, -(1 << 30), INT32_MAX};
    int64_t b[4] = {0};
    uint8_t a[4] = {0, 1, 2, 3}, e[4] = {1, 36, 9, 9};
    pq_layernorm_args ivit = some_args(2, 4, PQ_NORM_IVIT), bad;
    ivit.x = x;
    ivit.y = y;
    ivit.y_type = PQ_S8;
    ivit.out = (pq_clamp){0, -128, 127};
    ivit.gain = g;
    ivit.offset = b;
    pq_layernorm_args ptf = ivit;
    ptf.method = PQ_NORM_PTF;
    ptf.iterations = 0;
    ptf.alpha = a;
    ptf.exponent = e;
    ptf.shift = 32;
    ptf.requant = (pq_dyadic){1 << 30, 59};
    CHECK_OK(pq_layernorm(&exec, &ivit));
    CHECK_OK(pq_layernorm(&exec, &ptf));
#define BAD(good, field, value, text) \
    do { \
        bad = good; \
        bad.field = (value); \
        CHECK_STATUS(pq_layernorm(&exec, &bad), PQ_ERR_VALUE); \
        CHECK_TEXT(message, "layernorm: expected "); \
        CHECK_TEXT(message, (text)); \
    } while (0)
    BAD(ivit, method, PQ_NORM_METHOD_COUNT, "a method in [0, 5), got 5");
    BAD(ivit, epsilon, 1, "epsilon <= 0 for a method without one, got 1");
    BAD(ivit, iterations, 0, "iterations in [1, 16], got 0");
    BAD(ivit, iterations, 17, "got 17");
    BAD(ivit, alpha, a, "only with method ptf, got method 2");
    BAD(ivit, requant.shift, 3, "only with method ptf");
    BAD(ptf, iterations, 3, "iterations 0 for a method without them, got 3");
    BAD(ptf, alpha, NULL, "alpha and exponent with method ptf");
    BAD(ptf, requant.multiplier, 5, "a multiplier in [2^30, 2^31)");
    BAD(ptf, requant.shift, 60, "one to 8 bits of at most 59, got 32 and 60");
    BAD(ptf, shift, 33, "a shift of 32");
    BAD(ptf, zero_point, 128, "the zero point of 8 bits in [-128, 127], got 128");
    BAD(ptf, x_zero_point, -129, "the zero point of x in [-128, 127], got -129");
    a[3] = 4;
    BAD(ptf, rows, 2, "alpha in [0, 3] and exponent in [1, 36], got 4 and 9 at [3]");
    a[3] = 3;
    e[1] = 37;
    BAD(ptf, rows, 2, "got 1 and 37 at [1]");
    e[1] = 0;
    BAD(ptf, rows, 2, "got 1 and 0 at [1]");
    e[1] = 1;
    g[0] = INT32_MIN;
    BAD(ptf, rows, 2, "|gain| 0 or in [2^30, 2^31), got -2147483648 at [0]");
    g[0] = 5;
    BAD(ptf, rows, 2, "got 5 at [0]");
}

int main(void) {
    test_roots();
    test_newton_by_hand();
    test_ptf_by_hand();
    test_z();
    test_variants();
    test_messages();
    return check_finish("test_layernorm_methods");
}
