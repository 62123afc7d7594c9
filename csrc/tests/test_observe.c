/* observe: counts by hand, against exact integer bins, and that the state depends on the values
 * only. */
#include <math.h>

#include "check.h"
#include "core/dispatch.h"
#include "observe/observe_minmax_kernel.h"
#include "pyquant/observe.h"
#include "split_exec.h"

#define MAX_ELEMENTS 60000

static float x_data[MAX_ELEMENTS];
static char message[256];
static uint64_t seed = 23, split_state = 29;

#define BAD(call, status, text) \
    do { \
        CHECK_STATUS((call), (status)); \
        CHECK_TEXT(message, (text)); \
    } while (0)

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Any finite float: every exponent, subnormals and both zeros included; or a range of sizes. */
static float random_float(bool any) {
    if (any) {
        for (;;) {
            const float x = from_bits((uint32_t)check_random(&seed));
            if (isfinite(x)) {
                return x;
            }
        }
    }
    const float x = (float)check_random_in(&seed, -1000, 1000) / 64.0F;
    return ldexpf(x, (int)check_random_in(&seed, -3, 3));
}

static void test_minmax_by_hand(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    /* [2, 3, 2]: channel 1 holds 3 4 9 -1. */
    const float x[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, -1, 0, 0.5F};
    float low[3] = {INFINITY, INFINITY, INFINITY}, high[3] = {-INFINITY, -INFINITY, -INFINITY};
    CHECK_OK(pq_observe_minmax(&exec, 12, 3, 2, x, low, high));
    CHECK(low[0] == 1 && high[0] == 8 && low[1] == -1 && high[1] == 9 && low[2] == 0 &&
          high[2] == 6);
    const float more[3] = {10, -20, 0};
    CHECK_OK(pq_observe_minmax(&exec, 3, 3, 1, more, low, high)); /* merges */
    CHECK(low[0] == 1 && high[0] == 10 && low[1] == -20 && high[1] == 9);
    CHECK_OK(pq_observe_minmax(&exec, 0, 3, 1, NULL, low, high));
    CHECK(low[0] == 1 && high[0] == 10);
    float zero_low = INFINITY, zero_high = -INFINITY;
    const float zeros[2] = {-0.0F, 0.0F};
    CHECK_OK(pq_observe_minmax(&exec, 2, 1, 1, zeros, &zero_low, &zero_high));
    CHECK(zero_low == 0 && !signbit(zero_low) && !signbit(zero_high));
}

static void test_minmax_random(void) {
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    static const size_t sizes[] = {1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 997, 20011};
    static const size_t channel_counts[] = {1, 1, 2, 3, 8, 17, 64};
    static const size_t inners[] = {1, 1, 2, 7, 33};
    for (int round = 0; round < 300; round++) {
        const size_t n = sizes[round % 14], channels = channel_counts[round % 7],
                     inner = inners[round % 5];
        for (size_t i = 0; i < n; i++) {
            x_data[i] = random_float(round % 2 == 0);
        }
        float low[64], high[64], low_want[64], high_want[64];
        for (size_t c = 0; c < channels; c++) {
            low[c] = low_want[c] = INFINITY;
            high[c] = high_want[c] = -INFINITY;
        }
        for (size_t i = 0; i < n; i++) {
            const size_t c = i / inner % channels;
            low_want[c] = fminf(low_want[c], x_data[i]) + 0.0F;
            high_want[c] = fmaxf(high_want[c], x_data[i]) + 0.0F;
        }
        CHECK_OK(pq_observe_minmax(&split, n, channels, inner, x_data, low, high));
        CHECK_SAME(low, low_want, channels * sizeof(float));
        CHECK_SAME(high, high_want, channels * sizeof(float));
    }
}

static void test_minmax_variants(void) {
    const struct pq_observe_minmax_kernel *ref =
        pq_kernel_find(PQ_KERNEL_OP_observe_minmax, PQ_ISA_REF);
    for (size_t n = 0; n < 100; n++) { /* vectors of 4 to 64, and what is left behind them */
        float low_start[100], high_start[100], low_want[100], high_want[100];
        for (size_t i = 0; i < n; i++) {
            x_data[i] = random_float(n % 4 < 2);
            low_start[i] = low_want[i] = random_float(false);
            high_start[i] = high_want[i] = random_float(false);
        }
        float one_low_want = 0.5F, one_high_want = 0.5F;
        if (n > 0 && n % 3 == 0) { /* what is found wrong is found at every place */
            x_data[(size_t)check_random_in(&seed, 0, (int64_t)n - 1)] =
                from_bits(n % 2 == 0 ? 0xff800000 : 0xffc00001);
        }
        const uint32_t each_want = ref->each(n, x_data, low_want, high_want);
        const uint32_t run_want = ref->run(n, x_data, &one_low_want, &one_high_want);
        CHECK_EQ(each_want, run_want);
        CHECK(n == 0 || n % 3 != 0 || run_want >= PQ_INFINITY_BITS);
        for (pq_isa isa = PQ_ISA_AVX2; isa < PQ_ISA_COUNT; isa++) {
            const struct pq_observe_minmax_kernel *kernel =
                pq_kernel_present(PQ_KERNEL_OP_observe_minmax, isa);
            if (kernel == NULL) {
                continue;
            }
            float low[100], high[100], one_low = 0.5F, one_high = 0.5F;
            memcpy(low, low_start, n * sizeof(float));
            memcpy(high, high_start, n * sizeof(float));
            CHECK_EQ(kernel->each(n, x_data, low, high), each_want);
            CHECK_EQ(kernel->run(n, x_data, &one_low, &one_high), run_want);
            if (run_want < PQ_INFINITY_BITS) {
                CHECK_SAME(low, low_want, n * sizeof(float));
                CHECK_SAME(high, high_want, n * sizeof(float));
                CHECK_SAME(&one_low, &one_low_want, sizeof(float));
                CHECK_SAME(&one_high, &one_high_want, sizeof(float));
            }
        }
    }
}

static void test_histogram_by_hand(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    pq_histogram h;
    pq_histogram_clear(&h);
    CHECK_EQ(h.exponent, PQ_HISTOGRAM_EMPTY);
    const float zeros[3] = {0.0F, -0.0F, 0.0F};
    CHECK_OK(pq_observe_histogram(&exec, 3, zeros, &h));
    CHECK_EQ(h.exponent, PQ_HISTOGRAM_EMPTY);
    CHECK_EQ(h.total, 3);
    CHECK_EQ(h.counts[1024], 0);
    CHECK(h.minimum == 0 && h.maximum == 0);
    /* e = 0, bins of 2^-10: 0.5 -> 512, -0.5 -> -512, -2^-149 -> -1, just below 1 -> 1023. */
    const float x[4] = {0.5F, -0.5F, -0x1p-149F, 0x1.fffffep-1F};
    CHECK_OK(pq_observe_histogram(&exec, 4, x, &h));
    CHECK_EQ(h.exponent, 0);
    CHECK_EQ(h.total, 7);
    CHECK_EQ(h.counts[1024], 3);
    CHECK_EQ(h.counts[1024 + 512], 1);
    CHECK_EQ(h.counts[1024 - 512], 1);
    CHECK_EQ(h.counts[1023], 1);
    CHECK_EQ(h.counts[2047], 1);
    /* -1 does not lie in [-1, 1) by our rule |x| < 2^e: e = 1, bins of 2^-9, pairs merge. */
    const float one[1] = {-1.0F};
    CHECK_OK(pq_observe_histogram(&exec, 1, one, &h));
    CHECK_EQ(h.exponent, 1);
    CHECK_EQ(h.counts[1024 - 512], 1); /* -1 */
    CHECK_EQ(h.counts[1024 - 256], 1); /* -0.5 */
    CHECK_EQ(h.counts[1024 + 256], 1);
    CHECK_EQ(h.counts[1024 + 511], 1);
    CHECK_EQ(h.counts[1024], 3);
    CHECK_EQ(h.counts[1023], 1);
    CHECK_EQ(h.total, 8);
    /* 30 powers of two at once: all that was lands beside 0. */
    const float far[1] = {0x1p30F};
    CHECK_OK(pq_observe_histogram(&exec, 1, far, &h));
    CHECK_EQ(h.exponent, 31);
    CHECK_EQ(h.counts[1024], 5);
    CHECK_EQ(h.counts[1023], 3);
    CHECK_EQ(h.counts[1024 + 512], 1);
    CHECK(h.minimum == -1.0F && h.maximum == 0x1p30F);
}

/* The definition, by long double floor, of all n values at once. */
static void histogram_want(size_t n, const float *x, pq_histogram *h) {
    pq_histogram_clear(h);
    float largest = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fmaxf(largest, fabsf(x[i]));
        h->minimum = fminf(h->minimum, x[i]) + 0.0F;
        h->maximum = fmaxf(h->maximum, x[i]) + 0.0F;
    }
    h->total = (int64_t)n;
    if (largest == 0) {
        return;
    }
    h->exponent = -160;
    while (largest >= ldexp(1.0, h->exponent)) {
        h->exponent++;
    }
    for (size_t i = 0; i < n; i++) {
        h->counts[1024 + (int)floorl(ldexpl((long double)x[i], 10 - h->exponent))]++;
    }
}

static void test_histogram_random(void) {
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    for (int round = 0; round < 60; round++) {
        const size_t n = (size_t)check_random_in(&seed, 1, round % 10 == 0 ? 50000 : 300);
        const int kind = round % 4;
        for (size_t i = 0; i < n; i++) {
            x_data[i] = kind == 0   ? random_float(true)
                        : kind == 1 ? random_float(false)
                        : kind == 2
                            ? from_bits((uint32_t)check_random(&seed) & 0x807fffff) /* subnormal */
                        : i < n / 2 ? 0.0F
                                    : ldexpf(random_float(false), (int)(i % 40) - 20);
        }
        pq_histogram want, all, batches, parts[3], merged;
        histogram_want(n, x_data, &want);
        pq_histogram_clear(&all);
        pq_histogram_clear(&batches);
        pq_histogram_clear(&merged);
        CHECK_OK(pq_observe_histogram(&split, n, x_data, &all));
        CHECK_SAME(&all, &want, sizeof want);
        for (int p = 0; p < 3; p++) {
            pq_histogram_clear(&parts[p]);
        }
        for (size_t begin = 0; begin < n;) { /* in batches, and spread over three states */
            const size_t left = n - begin, most = left < 5000 ? left : 5000;
            const size_t count = (size_t)check_random_in(&seed, 1, (int64_t)most);
            CHECK_OK(pq_observe_histogram(&split, count, x_data + begin, &batches));
            CHECK_OK(pq_observe_histogram(&split, count, x_data + begin, &parts[begin % 3]));
            begin += count;
        }
        CHECK_SAME(&batches, &want, sizeof want);
        for (int p = 0; p < 3; p++) {
            CHECK_OK(pq_histogram_merge(&split, &merged, &parts[2 - p]));
        }
        CHECK_SAME(&merged, &want, sizeof want);
    }
}

static void test_errors(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    for (size_t i = 0; i < 100; i++) {
        x_data[i] = 1.0F;
    }
    pq_histogram h, before;
    pq_histogram_clear(&h);
    CHECK_OK(pq_observe_histogram(&exec, 100, x_data, &h));
    before = h;
    float low = 0.5F, high = 0.75F;
    x_data[60] = INFINITY;
    BAD(pq_observe_minmax(&exec, 100, 1, 1, x_data, &low, &high), PQ_ERR_VALUE,
        "observe_minmax: expected finite x, got infinity at [60]");
    BAD(pq_observe_histogram(&exec, 100, x_data, &h), PQ_ERR_VALUE,
        "observe_histogram: expected finite x");
    x_data[99] = NAN;
    BAD(pq_observe_minmax(&exec, 100, 1, 1, x_data, &low, &high), PQ_ERR_NAN,
        "observe_minmax: x[99] is NaN");
    BAD(pq_observe_histogram(&exec, 100, x_data, &h), PQ_ERR_NAN,
        "observe_histogram: x[99] is NaN");
    CHECK(low == 0.5F && high == 0.75F);
    CHECK_SAME(&h, &before, sizeof h);
    x_data[60] = x_data[99] = 1.0F;
    BAD(pq_observe_minmax(&exec, 100, 0, 1, x_data, &low, &high), PQ_ERR_VALUE, "channels >= 1");
    BAD(pq_observe_minmax(&exec, 100, 1, 0, x_data, &low, &high), PQ_ERR_VALUE,
        "inner >= 1, got 1, 0");
    BAD(pq_observe_minmax(&exec, SIZE_MAX, 1, 1, x_data, &low, &high), PQ_ERR_OVERFLOW,
        "to fit in memory");
    BAD(pq_observe_histogram(&exec, SIZE_MAX, x_data, &h), PQ_ERR_OVERFLOW, "fewer than 2^63");
    for (long calls = 0; calls < 2; calls++) {
        pq_alloc_fail_after(calls);
        BAD(pq_observe_minmax(&exec, 100, 1, 1, x_data, &low, &high), PQ_ERR_NOMEM,
            "out of memory");
        pq_alloc_fail_after(-1);
    }
    pq_alloc_fail_after(0);
    BAD(pq_observe_histogram(&exec, 100, x_data, &h), PQ_ERR_NOMEM, "out of memory");
    pq_alloc_fail_after(-1);
    CHECK(low == 0.5F && high == 0.75F);
    CHECK_SAME(&h, &before, sizeof h);
    long first = 1;
    const pq_exec at_once = stopping_exec(&first, message, sizeof message);
    CHECK_STATUS(pq_observe_minmax(&at_once, 100, 1, 1, x_data, &low, &high), PQ_ERR_INTERRUPTED);
    first = 1;
    CHECK_STATUS(pq_observe_histogram(&at_once, 100, x_data, &h), PQ_ERR_INTERRUPTED);
    CHECK(low == 0.5F && high == 0.75F);
    CHECK_SAME(&h, &before, sizeof h);
    pq_histogram bad = before;
    bad.counts[7] = -1;
    BAD(pq_histogram_merge(&exec, &h, &bad), PQ_ERR_VALUE, "histogram_merge: expected counts >= 0");
    bad = before;
    bad.total++;
    BAD(pq_histogram_merge(&exec, &h, &bad), PQ_ERR_VALUE,
        "expected the counts to add up to 101, got 100");
    bad = before;
    bad.exponent = 129;
    BAD(pq_observe_histogram(&exec, 1, x_data, &bad), PQ_ERR_VALUE,
        "exponent in [-148, 128], got 129");
    bad = before;
    bad.exponent = PQ_HISTOGRAM_EMPTY;
    BAD(pq_histogram_merge(&exec, &bad, &h), PQ_ERR_VALUE,
        "expected the counts to add up to 0, got 100");
    CHECK_OK(pq_observe_histogram(&exec, 0, NULL, &h));
    CHECK_SAME(&h, &before, sizeof h);
    CHECK_OK(pq_histogram_merge(&exec, &h, &h)); /* with itself: twice everything */
    CHECK_EQ(h.total, 200);
    CHECK_EQ(h.counts[1024 + 512], 200);
    CHECK_EQ(pq_alloc_live(), 0);
}

int main(void) {
    test_minmax_by_hand();
    test_minmax_random();
    test_minmax_variants();
    test_histogram_by_hand();
    test_histogram_random();
    test_errors();
    return check_finish("test_observe");
}
