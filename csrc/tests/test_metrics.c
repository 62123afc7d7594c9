/* metrics: sums by hand and against long double, one definition for every split and instruction
 * set, what float32 cannot hold, and errors. */
#include <math.h>

#include "check.h"
#include "core/dispatch.h"
#include "metrics/metrics_sums_kernel.h"
#include "pyquant/metrics.h"
#include "split_exec.h"

#define MAX_ELEMENTS (3 * PQ_METRICS_CHUNK + 77)

static float x_data[MAX_ELEMENTS], y_data[MAX_ELEMENTS], x_moved[MAX_ELEMENTS],
    y_moved[MAX_ELEMENTS];
static int16_t q_data[MAX_ELEMENTS];
static char message[256];
static uint64_t seed = 31, split_state = 37;

#define BAD(call, status, text) \
    do { \
        CHECK_STATUS((call), (status)); \
        CHECK_TEXT(message, (text)); \
    } while (0)

static float random_float(int exponent) {
    return ldexpf((float)check_random_in(&seed, -1000000, 1000000), exponent - 20);
}

static void fill(size_t n, int x_exponent, int error_exponent) {
    for (size_t i = 0; i < n; i++) {
        x_data[i] = random_float(x_exponent);
        y_data[i] = x_data[i] + random_float(error_exponent);
    }
}

static pq_metrics_y floats(const float *y) {
    return (pq_metrics_y){.values = y};
}

static void test_by_hand(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    /* [2, 1, 2, 2]: rows (3, 4), (0, 0), (1, 2), (5, 5). */
    const float x[8] = {3, 4, 0, 0, 1, 2, 5, 5}, y[8] = {3, 2, 1, 0, 1, 2, 5, 5.5F};
    const pq_metrics_y operand = floats(y);
    const pq_metrics_shape shape = {2, 1, 2, 2};
    pq_metrics_sums sums[4];
    CHECK_OK(pq_metrics_rows(&exec, &shape, x, &operand, sums));
    const pq_metrics_sums want[4] = {{25, 13, 17, 4, 2, 2},
                                     {0, 1, 0, 1, 1, 2},
                                     {5, 5, 5, 0, 0, 2},
                                     {50, 55.25, 52.5, 0.25, 0.5, 2}};
    CHECK_SAME(sums, want, sizeof want);
    pq_metrics_state states[2] = {0};
    CHECK_OK(pq_metrics_update(&exec, &shape, x, &operand, states));
    CHECK(states[0].samples == 2 && states[0].exact == 1 && states[0].ratios == 2.5);
    CHECK(states[1].samples == 2 && states[1].exact == 0 && states[1].ratios == sqrt(200.0));
    CHECK(states[0].total.xx == 30 && states[0].total.count == 4 && states[0].total.largest == 2);
    const int8_t q[8] = {4, 3, 2, 1, 2, 3, 6, 6}; /* (q - 1) * 1: 3 2 1 0 1 2 5 5 */
    const pq_metrics_y stored = {.integers = q, .type = PQ_S8, .scale = 1, .zero_point = 1};
    CHECK_OK(pq_metrics_rows(&exec, &shape, x, &stored, sums));
    CHECK_SAME(sums, want, 3 * sizeof want[0]);
    CHECK(sums[3].dd == 0);
    /* Channels last, [1, 2, 2, 2]: group 0 holds elements 0 1 4 5. */
    const pq_metrics_shape strided = {1, 2, 2, 2};
    CHECK_OK(pq_metrics_rows(&exec, &strided, x, &operand, sums));
    CHECK(sums[0].xx == 30 && sums[0].dd == 4 && sums[1].xx == 50 && sums[1].dd == 1.25);
}

static void test_against_long_double(void) {
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    static const size_t sizes[] = {
        1, 15, 16, 17, 2047, 2048, 2049, PQ_METRICS_CHUNK - 1, PQ_METRICS_CHUNK + 1, MAX_ELEMENTS};
    for (int round = 0; round < 40; round++) {
        const size_t n = sizes[round % 10];
        fill(n, round % 3 == 0 ? 110 : round % 3 == 1 ? -110 : 2, round % 2 == 0 ? -5 : -120);
        long double xx = 0, yy = 0, xy = 0, dd = 0, size_of_xy = 0, largest = 0;
        for (size_t i = 0; i < n; i++) {
            const long double a = (long double)x_data[i], b = (long double)y_data[i], d = a - b;
            xx += a * a, yy += b * b, xy += a * b, dd += d * d, size_of_xy += fabsl(a * b);
            largest = fmaxl(largest, fabsl(d));
        }
        const pq_metrics_shape shape = {1, 1, 1, n};
        const pq_metrics_y operand = floats(y_data);
        pq_metrics_sums sums;
        CHECK_OK(pq_metrics_rows(&split, &shape, x_data, &operand, &sums));
        CHECK_EQ(sums.count, n);
        CHECK(fabsl((long double)sums.xx - xx) <= 8e-6L * xx);
        CHECK(fabsl((long double)sums.yy - yy) <= 8e-6L * yy);
        CHECK(fabsl((long double)sums.xy - xy) <= 8e-6L * size_of_xy);
        CHECK(fabsl((long double)sums.dd - dd) <= 8e-6L * dd);
        CHECK(fabsl((long double)sums.largest - largest) <= 0x1p-23L * largest);
        CHECK((sums.dd > 0) == (dd > 0));
    }
}

/* Strides, types and splits change nothing: rows of any layout have the bits of the row alone. */
static void test_layouts(void) {
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    pq_exec serial = pq_exec_serial(message, sizeof message);
    static const pq_metrics_shape shapes[] = {
        {3, 1, 1, 100}, {2, 5, 3, 7},   {1, 4100, 2, 1}, {2, 3, 2, 2048}, {1, 2, 2, 70000},
        {2, 0, 3, 5},   {2, 900, 1, 3}, {2, 3, 5, 0},    {1, 1, 1, 1},    {1, 140000, 2, 1}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        const pq_metrics_shape shape = shapes[s],
                               row_shape = {1, 1, 1, shape.pieces * shape.length};
        const size_t n = shape.samples * shape.groups * row_shape.length;
        fill(n, 3, -3);
        for (size_t i = 0; i < n; i++) {
            q_data[i] = (int16_t)check_random_in(&seed, -128, 127);
        }
        static int8_t q8[MAX_ELEMENTS];
        for (int type = 0; type < 3; type++) {
            for (size_t i = 0; i < n && type > 0; i++) {
                q8[i] = (int8_t)q_data[i];
                y_data[i] = (float)(q_data[i] + 5) * 0.037F;
            }
            const pq_metrics_y operand = {.values = type == 0 ? y_data : NULL,
                                          .integers = type == 1 ? (const void *)q8 : q_data,
                                          .type = type == 1 ? PQ_S8 : PQ_S16,
                                          .scale = 0.037F,
                                          .zero_point = -5};
            pq_metrics_sums sums[10], alone;
            CHECK_OK(pq_metrics_rows(&split, &shape, x_data, &operand, sums));
            for (size_t row = 0; row < shape.samples * shape.groups; row++) {
                size_t k = 0;
                const size_t sample = row / shape.groups, g = row % shape.groups;
                for (size_t p = 0; p < shape.pieces; p++) {
                    for (size_t i = 0; i < shape.length; i++, k++) {
                        const size_t at =
                            ((sample * shape.pieces + p) * shape.groups + g) * shape.length + i;
                        x_moved[k] = x_data[at];
                        y_moved[k] = y_data[at];
                    }
                }
                const pq_metrics_y moved = floats(y_moved);
                CHECK_OK(pq_metrics_rows(&serial, &row_shape, x_moved, &moved, &alone));
                CHECK_SAME(&sums[row], &alone, sizeof alone);
            }
        }
    }
}

static void test_variants(void) {
    const struct pq_metrics_sums_kernel *ref =
        pq_kernel_find(PQ_KERNEL_OP_metrics_sums, PQ_ISA_REF);
    static const size_t long_sizes[] = {2031, 2032, 2033, 2047, 2048};
    for (size_t round = 0; round < 240; round++) {
        const size_t n = round < 70 ? round : long_sizes[round % 5], offset = round % 7;
        fill(n + offset, round % 3 == 0 ? 127 : round % 3 == 1 ? -130 : 1, (int)(round % 40) - 30);
        const float *x = x_data + offset, *y = y_data + offset;
        int8_t q8[2048];
        for (size_t i = 0; i < n; i++) {
            q_data[i] = (int16_t)check_random(&seed);
            q8[i] = (int8_t)q_data[i];
        }
        pq_metrics_lanes want;
        static float y8_want[2048], y16_want[2048], y8[2048], y16[2048];
        ref->block(n, x, y, &want);
        ref->from_s8(n, q8, -7, 0.3F, y8_want);
        ref->from_s16(n, q_data, 32767, 0x1.fffp-100F, y16_want);
        for (pq_isa isa = PQ_ISA_AVX2; isa < PQ_ISA_COUNT; isa++) {
            const struct pq_metrics_sums_kernel *kernel =
                pq_kernel_present(PQ_KERNEL_OP_metrics_sums, isa);
            if (kernel == NULL) {
                continue;
            }
            pq_metrics_lanes lanes;
            memset(&lanes, 0xff, sizeof lanes);
            kernel->block(n, x, y, &lanes);
            CHECK_SAME(&lanes, &want, sizeof want);
            kernel->from_s8(n, q8, -7, 0.3F, y8);
            CHECK_SAME(y8, y8_want, n * sizeof(float));
            kernel->from_s16(n, q_data, 32767, 0x1.fffp-100F, y16);
            CHECK_SAME(y16, y16_want, n * sizeof(float));
        }
    }
}

/* Every instruction set sees NaN and infinity at every place, in either operand. */
static void test_not_finite(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    for (pq_isa isa = PQ_ISA_REF; isa < PQ_ISA_COUNT; isa++) {
        if (pq_kernel_present(PQ_KERNEL_OP_metrics_sums, isa) == NULL || !pq_isa_eligible(isa, 0) ||
            pq_isa_limit(pq_isa_name(isa)) != PQ_OK) {
            continue;
        }
        for (size_t n = 1; n < 40; n++) {
            for (size_t at = 0; at < n; at++) {
                fill(n, 1, -9);
                float *bad = at % 2 == 0 ? x_data : y_data;
                bad[at] = n % 3 == 0 ? NAN : n % 3 == 1 ? INFINITY : -INFINITY;
                const pq_metrics_shape shape = {1, 1, 1, n};
                const pq_metrics_y operand = floats(y_data);
                pq_metrics_sums sums;
                char text[100];
                snprintf(text, sizeof text,
                         n % 3 == 0 ? "metrics_rows: %s[%zu] is NaN"
                                    : "finite %s, got infinity at [%zu]",
                         at % 2 == 0 ? "x" : "y", at);
                BAD(pq_metrics_rows(&exec, &shape, x_data, &operand, &sums),
                    n % 3 == 0 ? PQ_ERR_NAN : PQ_ERR_VALUE, text);
            }
        }
    }
    CHECK_OK(pq_isa_limit(NULL));
}

static void test_states(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    fill(50 * 33, 2, -6);
    for (size_t i = 0; i < 33; i++) {
        y_data[7 * 33 + i] = x_data[7 * 33 + i];
    }
    const pq_metrics_y all = floats(y_data);
    const pq_metrics_shape shape = {50, 1, 3, 11};
    pq_metrics_state whole[3] = {0}, batches[3] = {0}, a[3] = {0}, b[3] = {0}, ab[3], ba[3];
    CHECK_OK(pq_metrics_update(&exec, &shape, x_data, &all, whole));
    for (size_t begin = 0; begin < 50;) {
        const size_t n = (size_t)check_random_in(&seed, 1, (int64_t)(50 - begin));
        const pq_metrics_y part = floats(y_data + begin * 33);
        const pq_metrics_shape part_shape = {n, 1, 3, 11};
        CHECK_OK(pq_metrics_update(&exec, &part_shape, x_data + begin * 33, &part, batches));
        CHECK_OK(
            pq_metrics_update(&exec, &part_shape, x_data + begin * 33, &part, begin < 25 ? a : b));
        begin += n;
    }
    CHECK_SAME(batches, whole, sizeof whole);
    CHECK(whole[0].exact == 1 && whole[0].samples == 50 && whole[2].total.count == 550);
    memcpy(ab, a, sizeof a);
    memcpy(ba, b, sizeof b);
    CHECK_OK(pq_metrics_merge(&exec, 3, ab, b));
    CHECK_OK(pq_metrics_merge(&exec, 3, ba, a));
    CHECK_SAME(ab, ba, sizeof ab);
    CHECK(ab[1].samples == 50 && ab[1].total.largest == whole[1].total.largest);
    CHECK(fabs(ab[1].ratios - whole[1].ratios) <= 1e-12 * whole[1].ratios);
    const pq_metrics_shape none = {4, 1, 3, 0};
    CHECK_OK(pq_metrics_update(&exec, &none, x_data, &all, batches));
    CHECK_SAME(batches, whole, sizeof whole);
}

static void test_kl(void) {
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    for (size_t n = 1; n < 80; n++) {
        const size_t rows = 1 + n % 5;
        fill(rows * n, n % 7 == 0 ? 12 : (int)(n % 5), n % 2 == 0 ? 1 : -8);
        double kl[5];
        CHECK_OK(pq_metrics_kl(&split, rows, n, x_data, y_data, kl));
        for (size_t row = 0; row < rows; row++) {
            const float *x = x_data + row * n, *y = y_data + row * n;
            long double a_sum = 0, b_sum = 0, want = 0, most = 0;
            float x_top = x[0], y_top = y[0];
            for (size_t i = 0; i < n; i++) {
                x_top = fmaxf(x_top, x[i]);
                y_top = fmaxf(y_top, y[i]);
            }
            for (size_t i = 0; i < n; i++) {
                a_sum += expl((long double)x[i] - (long double)x_top);
                b_sum += expl((long double)y[i] - (long double)y_top);
            }
            for (size_t i = 0; i < n; i++) {
                const long double a = (long double)x[i] - (long double)x_top,
                                  b = (long double)y[i] - (long double)y_top;
                want += expl(a) / a_sum * ((a - logl(a_sum)) - (b - logl(b_sum)));
                most = fmaxl(most, fabsl(a - b));
            }
            const long double bound = (6.0L * (long double)n + 40) * 0x1p-53L * (2 + most);
            CHECK(kl[row] >= 0 && fabsl((long double)kl[row] - want) <= bound);
        }
    }
    double same;
    CHECK_OK(pq_metrics_kl(&split, 1, 64, x_data, x_data, &same));
    CHECK(same == 0);
    const float far_x[2] = {3e38F, -3e38F}, far_y[2] = {-3e38F, 3e38F};
    CHECK_OK(pq_metrics_kl(&split, 1, 2, far_x, far_y, &same));
    CHECK(fabs(same / 6e38 - 1) < 1e-6);
}

static void test_errors(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    fill(64, 1, -4);
    pq_metrics_y operand = floats(y_data);
    pq_metrics_shape shape = {2, 1, 2, 16};
    pq_metrics_state states[2] = {0}, before[2];
    CHECK_OK(pq_metrics_update(&exec, &shape, x_data, &operand, states));
    memcpy(before, states, sizeof states);
    y_data[33] = NAN;
    BAD(pq_metrics_update(&exec, &shape, x_data, &operand, states), PQ_ERR_NAN,
        "metrics_update: y[33] is NaN");
    y_data[33] = 0;
    pq_alloc_fail_after(0);
    BAD(pq_metrics_update(&exec, &shape, x_data, &operand, states), PQ_ERR_NOMEM, "out of memory");
    pq_alloc_fail_after(-1);
    long calls = 1;
    const pq_exec stopping = stopping_exec(&calls, message, sizeof message);
    CHECK_STATUS(pq_metrics_update(&stopping, &shape, x_data, &operand, states),
                 PQ_ERR_INTERRUPTED);
    shape.samples = SIZE_MAX / 8;
    BAD(pq_metrics_update(&exec, &shape, x_data, &operand, states), PQ_ERR_OVERFLOW,
        "fit in memory");
    shape.samples = 2;
    operand = (pq_metrics_y){.integers = q_data, .type = PQ_S32, .scale = 1};
    BAD(pq_metrics_update(&exec, &shape, x_data, &operand, states), PQ_ERR_VALUE, "int8 or int16");
    operand.type = PQ_S16;
    operand.scale = NAN;
    BAD(pq_metrics_update(&exec, &shape, x_data, &operand, states), PQ_ERR_VALUE, "scale <= 2^100");
    operand.scale = 1;
    operand.zero_point = 32768;
    BAD(pq_metrics_update(&exec, &shape, x_data, &operand, states), PQ_ERR_VALUE, "got 32768");
    pq_metrics_state wrong[2] = {{.samples = 1, .exact = 2, .total.count = 9}};
    BAD(pq_metrics_merge(&exec, 2, states, wrong), PQ_ERR_VALUE, "in state 0");
    wrong[0] = (pq_metrics_state){0};
    wrong[1].total.dd = NAN;
    BAD(pq_metrics_merge(&exec, 2, states, wrong), PQ_ERR_VALUE, "in state 1");
    CHECK_SAME(states, before, sizeof states);
    double kl;
    BAD(pq_metrics_kl(&exec, 1, 0, x_data, y_data, &kl), PQ_ERR_VALUE, "n >= 1");
    y_data[5] = INFINITY;
    BAD(pq_metrics_kl(&exec, 1, 9, x_data, y_data, &kl), PQ_ERR_VALUE,
        "finite y, got infinity at [5]");
    BAD(pq_metrics_kl(&exec, SIZE_MAX, 2, x_data, y_data, &kl), PQ_ERR_OVERFLOW, "fit in memory");
    CHECK_EQ(pq_alloc_live(), 0);
}

int main(void) {
    test_by_hand();
    test_against_long_double();
    test_layouts();
    test_variants();
    test_not_finite();
    test_states();
    test_kl();
    test_errors();
    return check_finish("test_metrics");
}
