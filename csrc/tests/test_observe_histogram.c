/* The kernels of observe_histogram against the definition, floor by long double, where they could
 * go wrong: at every exponent, beside every kind of bin edge, and where a piece does not fit. */
#include <math.h>

#include "check.h"
#include "core/dispatch.h"
#include "observe/observe_histogram_kernel.h"
#include "split_exec.h"

#define MOST (5 * PQ_HISTOGRAM_PIECE + 77)

typedef uint32_t tables[PQ_HISTOGRAM_TABLES][PQ_HISTOGRAM_ROW];

static float x_data[MOST];
static char message[256];
static uint64_t seed = 31, split_state = 37;
static tables counted;

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A value of |x| < 2^e: an edge of a bin, or a float beside one; a float of any size; a subnormal;
 * a zero of either sign; the largest. */
static float random_below(int e) {
    const float sign = check_random(&seed) % 2 == 0 ? 1.0F : -1.0F;
    const uint32_t limit = pq_histogram_limit(e);
    float x;
    switch (check_random(&seed) % 8) {
    case 0: /* a multiple of 2^-149 near it, where the edge is none */
    case 1:
    case 2: x = ldexpf((float)check_random_in(&seed, 0, 1023), e - 10); break;
    case 3: x = from_bits((uint32_t)(check_random(&seed) % limit)); break;
    case 4: x = from_bits((uint32_t)(check_random(&seed) % (1U << 23))); break;
    case 5: x = 0.0F; break;
    case 6: x = from_bits((uint32_t)(check_random(&seed) % 3 % limit)); break;
    default: x = from_bits(limit - 1); break;
    }
    const int beside = (int)(check_random(&seed) % 3);
    const float moved = beside == 0 ? x : nextafterf(x, beside == 1 ? INFINITY : -INFINITY);
    return sign * (pq_magnitude_bits(moved) < limit ? moved : from_bits(limit - 1));
}

static void count_want(size_t n, int e, int64_t *want, float *low, float *high) {
    memset(want, 0, PQ_HISTOGRAM_BINS * sizeof *want);
    *low = 0.5F; /* what they are merged into */
    *high = -0.5F;
    for (size_t i = 0; i < n; i++) {
        want[PQ_HISTOGRAM_HALF + (int)floorl(ldexpl((long double)x_data[i], 10 - e))]++;
        *low = fminf(*low, x_data[i]);
        *high = fmaxf(*high, x_data[i]);
    }
}

static void count_with(const struct pq_observe_histogram_kernel *kernel, size_t n, int e,
                       size_t taken) {
    int64_t want[PQ_HISTOGRAM_BINS];
    float low_want, high_want, low = 0.5F, high = -0.5F;
    count_want(taken, e, want, &low_want, &high_want);
    memset(counted, 0, sizeof counted);
    CHECK_EQ(kernel->count(n, x_data, e, counted, &low, &high), taken);
    for (int b = 0; b < PQ_HISTOGRAM_BINS; b++) {
        int64_t got = 0;
        for (int t = 0; t < PQ_HISTOGRAM_TABLES; t++) {
            got += counted[t][b];
        }
        CHECK_EQ(got, want[b]);
    }
    CHECK(low == low_want && high == high_want);
}

/* The kernels of every ISA that is here, the reference first. */
static void count_all(size_t n, int e, size_t taken) {
    for (pq_isa isa = PQ_ISA_REF; isa < PQ_ISA_COUNT; isa++) {
        const struct pq_observe_histogram_kernel *kernel =
            pq_kernel_present(PQ_KERNEL_OP_observe_histogram, isa);
        if (kernel != NULL) {
            count_with(kernel, n, e, taken);
        }
    }
}

static void test_every_exponent(void) {
    for (int e = -148; e <= 128; e++) {
        const size_t n = 2 * PQ_HISTOGRAM_PIECE + (size_t)check_random_in(&seed, 0, 40);
        for (size_t i = 0; i < n; i++) {
            x_data[i] = random_below(e);
        }
        count_all(n, e, n);
    }
}

static void test_every_edge(void) {
    static const int exponents[] = {-148, -139, -118, -117, -116, -1, 0, 10, 11, 12, 40, 128};
    for (size_t at = 0; at < sizeof exponents / sizeof *exponents; at++) {
        const int e = exponents[at];
        for (int first = -1024; first < 1024; first += 256) {
            size_t n = 0;
            for (int k = first; k < first + 256; k++) {
                const float edge = ldexpf((float)k, e - 10);
                x_data[n++] = k == -1024 ? 0.0F : edge;
                x_data[n++] = k == -1024 ? -0.0F : nextafterf(edge, -INFINITY);
                x_data[n++] = nextafterf(edge, INFINITY);
                for (size_t i = n - 3; i < n; i++) { /* at the far ends, |x| = 2^e */
                    x_data[i] = fabsf(x_data[i]) < ldexp(1.0, e) ? x_data[i] : 0.0F;
                }
            }
            count_all(n, e, n);
        }
    }
}

/* Nothing of the piece that holds it is counted, wherever it is. */
static void test_what_does_not_fit(void) {
    static const int exponents[] = {-148, -130, -118, -117, 0, 11, 127, 128};
    for (int round = 0; round < 200; round++) {
        const int e = exponents[round % 8];
        const size_t n = (size_t)check_random_in(&seed, 1, MOST);
        for (size_t i = 0; i < n; i++) {
            x_data[i] = random_below(e);
        }
        const size_t at = (size_t)check_random_in(&seed, 0, (int64_t)n - 1);
        const uint32_t bits = round % 3 == 0   ? pq_histogram_limit(e) /* 2^e itself; infinity */
                              : round % 3 == 1 ? PQ_INFINITY_BITS
                                               : PQ_INFINITY_BITS + 1;
        x_data[at] = from_bits(bits | (round % 2 == 0 ? 0x80000000 : 0));
        count_all(n, e, at - at % PQ_HISTOGRAM_PIECE);
    }
}

/* Ever larger values, and zeros before them: each piece is counted at the exponent of its time. */
static void test_growth_inside_a_call(void) {
    const pq_exec split = split_exec(&split_state, message, sizeof message);
    for (int round = 0; round < 40; round++) {
        const size_t n = (size_t)check_random_in(&seed, 1, MOST);
        const int first = (int)check_random_in(&seed, -148, 100);
        const size_t zeros = round % 4 == 0 ? n / 2 : 0;
        for (size_t i = 0; i < n; i++) {
            const int more = (int)((uint64_t)i * 28 / n); /* or ever smaller ones */
            x_data[i] = i < zeros ? 0.0F : random_below(first + (round % 2 == 0 ? more : 28 - more));
        }
        pq_histogram got, want;
        pq_histogram_clear(&got);
        pq_histogram_clear(&want);
        float largest = 0.0F;
        for (size_t i = 0; i < n; i++) {
            largest = fmaxf(largest, fabsf(x_data[i]));
            want.minimum = fminf(want.minimum, x_data[i]) + 0.0F;
            want.maximum = fmaxf(want.maximum, x_data[i]) + 0.0F;
        }
        want.total = (int64_t)n;
        if (largest > 0.0F) {
            int e;
            (void)frexp((double)largest, &e);
            want.exponent = e;
            float low, high;
            count_want(n, e, want.counts, &low, &high);
        }
        CHECK_OK(pq_observe_histogram(&split, n, x_data, &got));
        CHECK_SAME(&got, &want, sizeof want);
    }
}

/* The NaN is named, though an infinity comes first, also where pieces before were counted. */
static void test_not_finite_late(void) {
    pq_exec exec = pq_exec_serial(message, sizeof message);
    for (size_t i = 0; i < MOST; i++) {
        x_data[i] = 1.0F;
    }
    pq_histogram h, before;
    pq_histogram_clear(&h);
    CHECK_OK(pq_observe_histogram(&exec, 1000, x_data, &h));
    before = h;
    x_data[1500] = INFINITY;
    CHECK_STATUS(pq_observe_histogram(&exec, MOST, x_data, &h), PQ_ERR_VALUE);
    CHECK_TEXT(message, "got infinity at [1500]");
    x_data[2600] = NAN;
    CHECK_STATUS(pq_observe_histogram(&exec, MOST, x_data, &h), PQ_ERR_NAN);
    CHECK_TEXT(message, "x[2600] is NaN");
    CHECK_SAME(&h, &before, sizeof h);
    CHECK_EQ(pq_alloc_live(), 0);
}

int main(void) {
    test_every_exponent();
    test_every_edge();
    test_what_does_not_fit();
    test_growth_inside_a_call();
    test_not_finite_late();
    return check_finish("test_observe_histogram");
}
