/* Bins are floor(x * 2^(10 - e)) = k in [-1024, 1024), at index k + 1024. Exact in float64: a float
 * times 2^-118 .. 2^158 neither rounds nor leaves the normal range.
 *
 * Growing e by d: floor(floor(v) / 2^d) = floor(v / 2^d), so bin k goes to k >> d (arithmetic),
 * which is what the values themselves would do at the new e. Hence the state depends on the
 * multiset of values only. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "observe/observe_internal.h"

#define HALF (PQ_HISTOGRAM_BINS / 2)
#define HALF_BITS 10
_Static_assert(HALF == 1 << HALF_BITS, "the bins of one sign are a power of two");

void pq_histogram_clear(pq_histogram *histogram) {
    memset(histogram, 0, sizeof *histogram);
    histogram->minimum = INFINITY;
    histogram->maximum = -INFINITY;
    histogram->exponent = PQ_HISTOGRAM_EMPTY;
}

/* Least e with |x| < 2^e for all values seen; EMPTY if they are all 0. */
static int32_t exponent_of(float minimum, float maximum) {
    const float magnitude = -minimum > maximum ? -minimum : maximum;
    if (!(magnitude > 0.0F)) {
        return PQ_HISTOGRAM_EMPTY;
    }
    int e = 0;
    (void)frexp((double)magnitude, &e); /* magnitude = f * 2^e, f in [1/2, 1) */
    return e;
}

static void grow(pq_histogram *histogram, int32_t exponent) {
    if (exponent == PQ_HISTOGRAM_EMPTY || exponent <= histogram->exponent) {
        return;
    }
    if (histogram->exponent == PQ_HISTOGRAM_EMPTY) {
        histogram->counts[HALF] = histogram->total; /* the zeros that waited */
        histogram->exponent = exponent;
        return;
    }
    /* From HALF_BITS on, every bin has reached 0 or -1. */
    const int64_t wanted = (int64_t)exponent - histogram->exponent;
    const int shift = wanted > HALF_BITS ? HALF_BITS : (int)wanted;
    /* From the middle outwards: a bin is read before anything further out is added to it. */
    for (int k = 0; k < HALF; k++) {
        const int64_t above = histogram->counts[HALF + k], below = histogram->counts[HALF - 1 - k];
        histogram->counts[HALF + k] = histogram->counts[HALF - 1 - k] = 0;
        histogram->counts[HALF + (k >> shift)] += above;
        histogram->counts[HALF - 1 - (k >> shift)] += below;
    }
    histogram->exponent = exponent;
}

typedef struct histogram_task {
    const float *x;
    double scale;    /* 2^(10 - e) */
    int64_t *counts; /* num_threads, PQ_HISTOGRAM_BINS */
} histogram_task;

static int bin(float x, double scale) {
    const double v = (double)x * scale;
    const int k = (int)v; /* towards zero: one too high where v is negative and no integer */
    return k - (v < k) + HALF;
}

/* Two tables by turns: equal neighbours would wait for each other's store. */
static void run_range(void *argument, size_t begin, size_t end, int slot) {
    const histogram_task *task = argument;
    const float *x = task->x;
    const double scale = task->scale;
    int64_t *counts = task->counts + (size_t)slot * PQ_HISTOGRAM_BINS;
    uint32_t even[PQ_HISTOGRAM_BINS] = {0}, odd[PQ_HISTOGRAM_BINS] = {0};
    assert(end - begin <= UINT32_MAX);
    size_t i = begin;
    for (; i + 2 <= end; i += 2) {
        even[bin(x[i], scale)]++;
        odd[bin(x[i + 1], scale)]++;
    }
    if (i < end) {
        even[bin(x[i], scale)]++;
    }
    for (int b = 0; b < PQ_HISTOGRAM_BINS; b++) {
        counts[b] += (int64_t)even[b] + odd[b];
    }
}

/* A state that came from elsewhere (a file, another process). */
static pq_status state_check(const pq_exec *exec, const char *op, const pq_histogram *histogram) {
    int64_t sum = 0;
    for (int b = 0; b < PQ_HISTOGRAM_BINS; b++) {
        if (histogram->counts[b] < 0 || histogram->counts[b] > INT64_MAX - sum) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: expected counts >= 0 of a sum below 2^63, got "
                           "%lld in bin %d",
                           op, (long long)histogram->counts[b], b);
        }
        sum += histogram->counts[b];
    }
    const bool empty = histogram->exponent == PQ_HISTOGRAM_EMPTY;
    if (!empty && (histogram->exponent < -148 || histogram->exponent > 128)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected an exponent in [-148, 128], got %d", op,
                       histogram->exponent);
    }
    if (histogram->total < 0 || sum != (empty ? 0 : histogram->total)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected the counts to add up to %lld, got %lld",
                       op, (long long)(empty ? 0 : histogram->total), (long long)sum);
    }
    return PQ_OK;
}

pq_status pq_observe_histogram(const pq_exec *exec, size_t n, const float *x,
                               pq_histogram *histogram) {
    static const char op[] = "observe_histogram";
    float minimum, maximum;
    pq_status status = state_check(exec, op, histogram);
    if (status == PQ_OK && n > (size_t)(INT64_MAX - histogram->total)) {
        status = pq_fail(exec, PQ_ERR_OVERFLOW, "%s: expected fewer than 2^63 elements", op);
    }
    if (status == PQ_OK) {
        status = pq_observe_range(exec, op, n, 1, 1, x, &minimum, &maximum);
    }
    if (status != PQ_OK || n == 0) {
        return status;
    }
    /* All values are finite from here on. */
    const int32_t needed = exponent_of(minimum, maximum);
    const int32_t exponent = needed > histogram->exponent ? needed : histogram->exponent;
    int64_t *counts = NULL;
    if (exponent != PQ_HISTOGRAM_EMPTY) {
        const size_t slots = (size_t)exec->num_threads;
        size_t bytes = 0;
        counts = pq_mul_size(slots, sizeof histogram->counts, &bytes) ? pq_alloc(bytes) : NULL;
        if (counts == NULL) {
            return pq_fail(exec, PQ_ERR_NOMEM, "%s: out of memory for %zu histograms", op, slots);
        }
        memset(counts, 0, bytes);
        histogram_task task = {.x = x, .scale = ldexp(1.0, HALF_BITS - exponent), .counts = counts};
        status = exec->parallel_for(exec, n, PQ_OBSERVE_RANGE, run_range, &task);
        if (status != PQ_OK) {
            pq_free(counts);
            return status;
        }
        grow(histogram, exponent);
        for (size_t i = 0; i < slots * PQ_HISTOGRAM_BINS; i++) {
            histogram->counts[i % PQ_HISTOGRAM_BINS] += counts[i];
        }
        pq_free(counts);
    }
    histogram->total += (int64_t)n;
    histogram->minimum = minimum < histogram->minimum ? minimum : histogram->minimum;
    histogram->maximum = maximum > histogram->maximum ? maximum : histogram->maximum;
    return PQ_OK;
}

pq_status pq_histogram_merge(const pq_exec *exec, pq_histogram *into, const pq_histogram *from) {
    static const char op[] = "histogram_merge";
    pq_status status = state_check(exec, op, into);
    if (status == PQ_OK) {
        status = state_check(exec, op, from);
    }
    if (status == PQ_OK && from->total > INT64_MAX - into->total) {
        status = pq_fail(exec, PQ_ERR_OVERFLOW, "%s: expected fewer than 2^63 elements", op);
    }
    if (status != PQ_OK) {
        return status;
    }
    pq_histogram other = *from; /* also right where the two are one */
    grow(into, other.exponent);
    grow(&other, into->exponent);
    for (int b = 0; b < PQ_HISTOGRAM_BINS; b++) {
        into->counts[b] += other.counts[b];
    }
    into->total += other.total;
    into->minimum = other.minimum < into->minimum ? other.minimum : into->minimum;
    into->maximum = other.maximum > into->maximum ? other.maximum : into->maximum;
    return PQ_OK;
}
