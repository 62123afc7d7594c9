/* layernorm: numbers by hand, z against long double, y against the derived real function, variants
 * and splits against the reference, bad arguments. */
#include <math.h>

#include "check.h"
#include "core/dispatch.h"
#include "layernorm/layernorm_wide.h"
#include "pyquant/derive.h"
#include "pyquant/layernorm.h"
#include "split_exec.h"

#define MAX_ELEMENTS 100000

static int16_t x_data[MAX_ELEMENTS], want[MAX_ELEMENTS], got[MAX_ELEMENTS];
static int32_t gain[INT16_MAX];
static int64_t offset[INT16_MAX];
static char message[256];
static uint64_t seed = 1;

static int32_t element(const pq_layernorm_args *args, const void *data, pq_dtype type, size_t i) {
    (void)args;
    return type == PQ_S8 ? ((const int8_t *)data)[i] : ((const int16_t *)data)[i];
}

/* x = 1 3: mean 2, deviation 1, so z = -1 and 1 in Q16; gain 10 and offset 3 with s = 16 give
 * -7 and 13. */
static void test_by_hand(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    const int8_t x[2] = {1, 3};
    const int32_t g[2] = {10, 10};
    const int64_t b[2] = {3 << 16, 3 << 16};
    int8_t y[2];
    pq_layernorm_args args = {.rows = 1,
                              .channels = 2,
                              .x_type = PQ_S8,
                              .y_type = PQ_S8,
                              .x = x,
                              .y = y,
                              .gain = g,
                              .offset = b,
                              .shift = 16,
                              .out = {0, -128, 127}};
    CHECK_OK(pq_layernorm(&exec, &args));
    CHECK_EQ(y[0], -7);
    CHECK_EQ(y[1], 13);
    args.out = (pq_clamp){5, -1, 12}; /* the zero point, then both ends of the clamp */
    CHECK_OK(pq_layernorm(&exec, &args));
    CHECK_EQ(y[0], -1);
    CHECK_EQ(y[1], 12);
    /* RMSNorm about zero point 4: -3 and -1, mean square 5: z = -3/sqrt 5, -1/sqrt 5; gain 1000 *
     * 2^-16: -1341.64 and -447.21, in s16. */
    int16_t wide[2];
    const int32_t g_wide[2] = {1000, 1000};
    const int64_t zeros[2] = {0, 0};
    args.rms = true;
    args.x_zero_point = 4;
    args.y_type = PQ_S16;
    args.y = wide;
    args.gain = g_wide;
    args.offset = zeros;
    args.out = (pq_clamp){0, -32768, 32767};
    CHECK_OK(pq_layernorm(&exec, &args));
    CHECK_EQ(wide[0], -1342);
    CHECK_EQ(wide[1], -447);
    /* LayerNorm of 0 1 with E = 2: V = 1, W = 3, z = -+65536 / sqrt 3 = -+37837.2: a floor square
     * root of W itself would have given -+65536. */
    const int8_t step[2] = {0, 1};
    args.rms = false;
    args.x = step;
    args.epsilon = 2;
    args.shift = 10;
    const int32_t unit[2] = {1 << 8, 1 << 8};
    args.gain = unit;
    CHECK_OK(pq_layernorm(&exec, &args));
    CHECK_EQ(wide[0], -9459); /* 37837 / 4 */
    CHECK_EQ(wide[1], 9459);
}

static void test_isqrt(void) {
    const uint64_t edges[] = {0,
                              1,
                              2,
                              3,
                              4,
                              15,
                              16,
                              17,
                              UINT64_MAX,
                              UINT64_C(1) << 62,
                              UINT64_C(0xfffffffe00000001),
                              UINT64_C(0xfffffffe00000000)};
    for (size_t i = 0; i < sizeof edges / sizeof edges[0] + 5000; i++) {
        const uint64_t n = i < sizeof edges / sizeof edges[0]
                               ? edges[i]
                               : check_random(&seed) >> check_random_in(&seed, 0, 63);
        const uint64_t r = pq_isqrt_u64(n);
        CHECK(r * r <= n && (r == UINT32_MAX || (r + 1) * (r + 1) > n));
    }
}

/* The quick root and quotient against the plain ones, around squares too. */
static void test_quick_row(void) {
    for (size_t i = 0; i < 200000; i++) {
        uint64_t n = check_random(&seed) | UINT64_C(1) << 62;
        if (i % 4 != 0) {
            const uint64_t r = n >> 32 | UINT64_C(1) << 31;
            n = i % 4 == 1 ? r * r : i % 4 == 2 ? r * r - 1 : r * r + 2 * r;
        }
        if (i < 2000) {
            n = i % 2 == 0 ? (UINT64_C(1) << 62) + i : UINT64_MAX - i;
        }
        n = n < UINT64_C(1) << 62 ? UINT64_C(1) << 62 : n;
        const int64_t near = pq_reciprocal_root(n);
        const uint64_t root = pq_isqrt_u64(n);
        CHECK_EQ(pq_root_near(n, near), root);
        CHECK_EQ(pq_quotient_near(root, near), (int64_t)((UINT64_C(1) << 62) / root));
    }
}

/* kind 0..8: uniform, all least, all greatest, one-hot, alternating ends, constant, two values side
 * by side, narrow noise around an end, small noise. */
static void fill(pq_dtype type, size_t n, int kind, int16_t *out) {
    const int32_t low = type == PQ_S8 ? -128 : -32768, high = -low - 1;
    const int32_t level = (int32_t)check_random_in(&seed, low + 1, high);
    for (size_t i = 0; i < n; i++) {
        switch (kind) {
        case 0: out[i] = (int16_t)check_random_in(&seed, low, high); break;
        case 1: out[i] = (int16_t)low; break;
        case 2: out[i] = (int16_t)high; break;
        case 3: out[i] = (int16_t)(i == n / 2 ? high : low); break;
        case 4: out[i] = (int16_t)(i % 2 == 0 ? low : high); break;
        case 5: out[i] = (int16_t)level; break;
        case 6: out[i] = (int16_t)(level - (i == 0)); break;
        case 7: out[i] = (int16_t)(high - check_random_in(&seed, 0, 3)); break;
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
#define FILL_KINDS 9

static size_t some_channels(void) {
    static const size_t edges[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 61, 127, 384, 1021};
    const size_t i = (size_t)check_random_in(&seed, 0, 15);
    return i < 14 ? edges[i] : (size_t)check_random_in(&seed, 1, 2000);
}

/* |z - exact| <= 1/2 + |z| * 2^-30: the root is floored in [2^31, 2^32), the quotient 2^62 / r in
 * [2^30, 2^31], each by less than 1 and in opposite directions. |z| < 2^24, so that is 1/2 + 2^-6
 * at worst and 1/2 + 2^-12 up to 4 deviations. */
static void test_z_error(void) {
    long double worst = 0;
    for (int round = 0; round < 4000; round++) {
        const size_t c = round % 500 == 0 ? INT16_MAX : some_channels();
        const pq_dtype type = round % 2 == 0 ? PQ_S8 : PQ_S16;
        fill(type, c, round % FILL_KINDS, x_data);
        const bool rms = round % 3 == 0;
        const int32_t z_x =
            rms ? element(NULL, x_data, type, (size_t)check_random_in(&seed, 0, (int64_t)c - 1))
                : 0;
        const uint64_t epsilon =
            round % 5 == 0 ? 0 : check_random(&seed) >> check_random_in(&seed, 3, 63);
        const pq_layernorm_args args = {
            .rows = 1, .channels = c, .rms = rms, .x_zero_point = z_x, .epsilon = epsilon};
        int64_t sum = 0, square_sum = 0, centred_sum = 0;
        for (size_t i = 0; i < c; i++) {
            const int64_t x = element(NULL, x_data, type, i);
            sum += x;
            square_sum += x * x;
            centred_sum += (x - z_x) * (x - z_x);
        }
        const pq_layernorm_row row = pq_layernorm_row_of(&args, sum, square_sum);
        CHECK(row.multiplier >= 1 << 30 && row.shift >= 15 && row.shift <= 46);
        /* The exact W is an integer below 2^63, which long double holds (64 bits on x86). */
        const int64_t v = rms ? (int64_t)c * centred_sum : (int64_t)c * square_sum - sum * sum;
        const uint64_t w = (uint64_t)v + epsilon;
        const long double root = sqrtl((long double)(w == 0 ? 1 : w));
        for (size_t i = 0; i < c; i += 1 + c / 50) {
            const int64_t x = element(NULL, x_data, type, i);
            const int64_t numerator = (int64_t)c * x - (rms ? (int64_t)c * z_x : sum);
            const int64_t z =
                pq_rnu((int64_t)row.channels * x - row.centre, row.multiplier, row.shift);
            const long double exact = (long double)numerator * 65536.0L / root;
            const long double error = fabsl((long double)z - exact);
            CHECK(error <= 0.5L + fabsl(exact) * 0x1p-30L + 1e-9L);
            CHECK(z > -(1 << 24) && z < 1 << 24);
            worst = error > worst ? error : worst;
        }
    }
    printf("layernorm: largest error of z %.6Lf units of 2^-16\n", worst);
}

/* y against gamma * (x - mean) / sqrt(var + eps) + beta in long double. Errors, in units of y: the
 * last rounding 1/2; z by (1/2 + 2^-6) * 2^-16 * |gamma| / s_y; gain by |z| / 2^(s+1); offset by
 * 2^-(s+1); the rounding of E moves z by less than |z| * 2^-1 / W. */
static void test_real_function(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    for (int round = 0; round < 300; round++) {
        const size_t c = some_channels();
        const pq_dtype type = round % 2 == 0 ? PQ_S8 : PQ_S16;
        const float s_x = ldexpf(1.0F + (float)(round % 7) / 8.0F, -round % 12), s_y = 1.0F / 300;
        const float beta_size = round % 4 == 0 ? 0.0F : 3.0F;
        const double epsilon = round % 3 == 0 ? 1e-5 : round % 3 == 1 ? 1e-12 : 0.5;
        float gamma[2000], beta[2000];
        for (size_t i = 0; i < c; i++) {
            gamma[i] = (float)check_random_in(&seed, -2000, 2000) / 1000.0F;
            beta[i] = beta_size * (float)check_random_in(&seed, -1000, 1000) / 1000.0F;
        }
        fill(type, c, round % FILL_KINDS, x_data);
        pq_layernorm_args args = {.rows = 1,
                                  .channels = c,
                                  .x_type = type,
                                  .y_type = PQ_S16,
                                  .x = x_data,
                                  .y = got,
                                  .gain = gain,
                                  .offset = offset,
                                  .out = {-7, -32768, 32767}};
        CHECK_OK(pq_derive_layernorm(&exec, c, gamma, beta, epsilon, s_x, s_y, &args.epsilon, gain,
                                     offset, &args.shift));
        CHECK_OK(pq_layernorm(&exec, &args));
        long double sum = 0, square_sum = 0;
        for (size_t i = 0; i < c; i++) {
            const long double x = element(NULL, x_data, type, i);
            sum += x;
            square_sum += x * x;
        }
        const long double n = (long double)c;
        const long double w = n * square_sum - sum * sum +
                              n * n * (long double)epsilon / ((long double)s_x * (long double)s_x);
        for (size_t i = 0; i < c; i++) {
            const long double numerator = n * element(NULL, x_data, type, i) - sum;
            const long double z = numerator == 0 ? 0 : numerator / sqrtl(w);
            const long double g = (long double)gamma[i] / (long double)s_y;
            const long double y = z * g + (long double)beta[i] / (long double)s_y - 7;
            const long double clamped = y < -32768 ? -32768 : y > 32767 ? 32767 : y;
            /* W of 1 unit (no variance to speak of) may be all rounding of E. */
            const long double e_error = w < 1 ? 1 : 0.5L / w;
            const long double tolerance = 0.5L +
                                          fabsl(g) * (0.52L * 0x1p-16L + fabsl(z) * e_error) +
                                          ldexpl(fabsl(z) * 65536 + 1, -args.shift - 1) + 1e-6L;
            CHECK(fabsl((long double)got[i] - clamped) <= tolerance);
        }
    }
}

static void random_constants(pq_layernorm_args *args, int kind) {
    /* Real constants, huge ones that only the reference holds, the extremes, and (4) the largest
     * that fast paths hold, about the shifts where these change. */
    args->shift = kind == 0   ? 30
                  : kind == 1 ? (int)check_random_in(&seed, 1, 62)
                  : kind == 2 ? 1
                  : kind == 3 ? 62
                              : (int)check_random_in(&seed, 25, 45);
    int64_t gain_max = kind == 0 ? 1 << 22 : INT32_MAX;
    int64_t offset_max = kind == 0 ? INT64_C(1) << 42 : (INT64_C(1) << 61) - 1;
    if (kind == 4) {
        gain_max >>= check_random_in(&seed, 0, 12);
        offset_max = (INT64_C(1) << (args->shift < 31 ? args->shift + 29 : 60)) >>
                     check_random_in(&seed, 1, 20);
    }
    for (size_t i = 0; i < args->channels; i++) {
        const bool symmetric = kind == 0 || kind == 4;
        gain[i] = (int32_t)check_random_in(&seed, symmetric ? -gain_max : INT32_MIN, gain_max);
        offset[i] = check_random_in(&seed, -offset_max, offset_max);
    }
    args->epsilon =
        kind == 3 ? UINT64_C(1) << 61 : check_random(&seed) >> check_random_in(&seed, 3, 63);
}

static void test_variants(void) {
    const struct pq_layernorm_kernel *ref = pq_kernel_find(PQ_KERNEL_OP_layernorm, PQ_ISA_REF);
    uint64_t split_state = 7;
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    for (int round = 0; round < 400; round++) {
        const size_t c = round % 100 == 99 ? INT16_MAX : some_channels();
        const size_t rows = c > 3000 ? 1 : (size_t)check_random_in(&seed, 0, 7);
        pq_layernorm_args args = {.rows = rows,
                                  .channels = c,
                                  .x_type = round % 2 == 0 ? PQ_S8 : PQ_S16,
                                  .y_type = round / 2 % 2 == 0 ? PQ_S8 : PQ_S16,
                                  .x = x_data,
                                  .y = want,
                                  .rms = round % 3 == 0,
                                  .gain = gain,
                                  .offset = offset,
                                  .out = {3, -100, 120}};
        args.x_zero_point = args.x_type == PQ_S8 ? -128 : round % 5 == 0 ? -32768 : 77;
        if (args.y_type == PQ_S16) {
            args.out = (pq_clamp){-300, -32768, 32767};
        }
        random_constants(&args, round % 8 < 3 ? 0 : round % 8 < 5 ? 4 : round % 8 - 4);
        fill(args.x_type, rows * c, round / 8 % FILL_KINDS, x_data);
        const size_t size = rows * c * pq_dtype_size(args.y_type);
        ref->rows(&args, 0, rows);
        args.y = got;
        for (pq_isa isa = PQ_ISA_AVX2; isa < PQ_ISA_COUNT; isa++) {
            const struct pq_layernorm_kernel *kernel = pq_kernel_find(PQ_KERNEL_OP_layernorm, isa);
            if (kernel == NULL || !pq_isa_eligible(isa, 0)) {
                continue;
            }
            memset(got, 0x55, size + 2);
            kernel->rows(&args, 0, rows);
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
    int32_t g[4] = {0};
    int64_t b[4] = {0};
    const pq_layernorm_args good = {.rows = 2,
                                    .channels = 4,
                                    .x_type = PQ_S8,
                                    .y_type = PQ_S8,
                                    .x = x,
                                    .y = y,
                                    .gain = g,
                                    .offset = b,
                                    .shift = 20,
                                    .out = {0, -128, 127}};
    pq_layernorm_args bad = good;
    CHECK_OK(pq_layernorm(&exec, &good));
#define BAD(field, value, status, text) \
    do { \
        bad = good; \
        bad.field = (value); \
        CHECK_STATUS(pq_layernorm(&exec, &bad), (status)); \
        CHECK_TEXT(message, "layernorm: expected "); \
        CHECK_TEXT(message, (text)); \
    } while (0)
    BAD(channels, 0, PQ_ERR_VALUE, "channels in [1, 32767], got 0");
    BAD(channels, 32768, PQ_ERR_VALUE, "got 32768");
    BAD(rows, SIZE_MAX / 2, PQ_ERR_OVERFLOW, "rows * channels");
    BAD(x_type, PQ_S32, PQ_ERR_VALUE, "x of type s8 or s16, got type 4");
    BAD(y_type, PQ_U8, PQ_ERR_VALUE, "y of type");
    BAD(shift, 0, PQ_ERR_VALUE, "shift in [1, 62], got 0");
    BAD(shift, 63, PQ_ERR_VALUE, "got 63");
    BAD(epsilon, (UINT64_C(1) << 61) + 1, PQ_ERR_VALUE, "epsilon <= 2^61, got 2305843009213693953");
    BAD(out, ((pq_clamp){0, -129, 127}), PQ_ERR_VALUE, "got -129, 0, 127");
    BAD(out, ((pq_clamp){9, -128, 8}), PQ_ERR_VALUE, "quant_min <= zero_point <= quant_max");
    BAD(y, x + 1, PQ_ERR_VALUE, "y not to overlap x unless they are the same");
    bad = good;
    bad.rms = true;
    bad.x_zero_point = 128;
    CHECK_STATUS(pq_layernorm(&exec, &bad), PQ_ERR_VALUE);
    CHECK_TEXT(message, "zero point of x in [-128, 127], got 128");
    b[3] = INT64_C(1) << 61;
    CHECK_STATUS(pq_layernorm(&exec, &good), PQ_ERR_VALUE);
    CHECK_TEXT(message, "|offset| < 2^61, got 2305843009213693952 at [3]");
}

int main(void) {
    test_by_hand();
    test_isqrt();
    test_quick_row();
    test_z_error();
    test_real_function();
    test_variants();
    test_messages();
    return check_finish("test_layernorm");
}
