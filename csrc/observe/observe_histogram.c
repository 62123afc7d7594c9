/* Growing e by d: floor(floor(v) / 2^d) = floor(v / 2^d), so bin k goes to k >> d (arithmetic),
 * which is what the values themselves would do at the new e. Hence the state depends on the
 * multiset of values only, and each thread may keep one of its own, at any e that holds what it
 * saw: they are merged at the end, when all values are known to be finite. */
#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/sizes.h"
#include "observe/observe_histogram_kernel.h"
#include "observe/observe_internal.h"

#define HALF PQ_HISTOGRAM_HALF
#define HALF_BITS PQ_HISTOGRAM_HALF_BITS
_Static_assert(HALF == 1 << HALF_BITS, "the bins of one sign are a power of two");

void pq_histogram_clear(pq_histogram *histogram) {
    memset(histogram, 0, sizeof *histogram);
    histogram->minimum = INFINITY;
    histogram->maximum = -INFINITY;
    histogram->exponent = PQ_HISTOGRAM_EMPTY;
}

/* Least e with |x| < 2^e, of finite x > 0 by its magnitude bits. */
static int32_t exponent_of(uint32_t bits) {
    int32_t e = (int32_t)(bits >> 23) - 126;
    if (e == -126) { /* subnormal: bits * 2^-149 */
        for (e = -149; bits > 0; bits >>= 1) {
            e++;
        }
    }
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

/* What one thread saw. */
typedef struct histogram_slot {
    pq_histogram seen;
    uint32_t largest; /* magnitude bits; what is not finite ends the call */
    uint32_t waiting; /* values in `tables` that are not in `seen.counts` yet */
    uint32_t tables[PQ_HISTOGRAM_TABLES][PQ_HISTOGRAM_ROW];
} histogram_slot;

typedef struct histogram_task {
    const float *x;
    const struct pq_observe_histogram_kernel *counting;
    const struct pq_observe_minmax_kernel *minmax;
    histogram_slot *slots; /* num_threads */
} histogram_task;

static void flush(histogram_slot *slot) {
    for (int b = 0; b < PQ_HISTOGRAM_BINS; b++) {
        int64_t sum = 0;
        for (int t = 0; t < PQ_HISTOGRAM_TABLES; t++) {
            sum += slot->tables[t][b];
        }
        slot->seen.counts[b] += sum;
    }
}

static void flush_and_clear(histogram_slot *slot) {
    if (slot->waiting > 0) {
        flush(slot);
        memset(slot->tables, 0, sizeof slot->tables);
        slot->waiting = 0;
    }
}

/* The exponent that holds a piece; false if the piece is not finite. Integers only: where the CPU
 * takes subnormals for zeros, comparing floats would find a smaller one than `count` asks for. */
static bool widen(histogram_slot *slot, size_t n, const float *x) {
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = pq_magnitude_bits(x[i]);
        largest = bits > largest ? bits : largest;
    }
    if (largest >= PQ_INFINITY_BITS) {
        return false;
    }
    if (largest > 0) {
        flush_and_clear(slot);
        grow(&slot->seen, exponent_of(largest));
    }
    return true;
}

static void run_range(void *argument, size_t begin, size_t end, int number) {
    const histogram_task *task = argument;
    histogram_slot *slot = &task->slots[number];
    pq_histogram *seen = &slot->seen;
    assert(end - begin <= PQ_OBSERVE_RANGE);
    if (slot->waiting > UINT32_MAX - PQ_OBSERVE_RANGE) {
        flush_and_clear(slot);
    }
    for (size_t i = begin; i < end;) {
        const size_t piece = pq_min_size(end - i, PQ_HISTOGRAM_PIECE);
        size_t done = 0;
        if (seen->exponent != PQ_HISTOGRAM_EMPTY) {
            done = task->counting->count(end - i, task->x + i, seen->exponent, slot->tables,
                                         &seen->minimum, &seen->maximum);
            slot->waiting += (uint32_t)done;
        }
        if (done == 0 && !widen(slot, piece, task->x + i)) {
            float minimum = INFINITY, maximum = -INFINITY; /* NaN decides the status, if any is */
            const uint32_t rest = task->minmax->run(end - i, task->x + i, &minimum, &maximum);
            slot->largest = rest > slot->largest ? rest : slot->largest;
            return;
        }
        if (done == 0 && seen->exponent == PQ_HISTOGRAM_EMPTY) { /* zeros, which wait in total */
            seen->minimum = seen->maximum = 0.0F;
            done = piece;
        }
        seen->total += (int64_t)done;
        i += done;
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

static void add(pq_histogram *into, pq_histogram *from) {
    grow(into, from->exponent);
    grow(from, into->exponent);
    for (int b = 0; b < PQ_HISTOGRAM_BINS; b++) {
        into->counts[b] += from->counts[b];
    }
    into->total += from->total;
    into->minimum = from->minimum < into->minimum ? from->minimum : into->minimum;
    into->maximum = from->maximum > into->maximum ? from->maximum : into->maximum;
}

pq_status pq_observe_histogram(const pq_exec *exec, size_t n, const float *x,
                               pq_histogram *histogram) {
    static const char op[] = "observe_histogram";
    pq_status status = state_check(exec, op, histogram);
    if (status == PQ_OK && (n > PTRDIFF_MAX / sizeof(float) ||
                            (int64_t)n > INT64_MAX - histogram->total)) {
        status = pq_fail(exec, PQ_ERR_OVERFLOW, "%s: expected fewer than 2^63 elements", op);
    }
    if (status != PQ_OK || n == 0) {
        return status;
    }
    const size_t slots = (size_t)exec->num_threads;
    size_t bytes = 0;
    histogram_slot *slot = pq_mul_size(slots, sizeof *slot, &bytes) ? pq_alloc(bytes) : NULL;
    if (slot == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "%s: out of memory for %zu histograms", op, slots);
    }
    for (size_t s = 0; s < slots; s++) {
        pq_histogram_clear(&slot[s].seen);
        memset(slot[s].tables, 0, sizeof slot[s].tables);
        slot[s].largest = slot[s].waiting = 0;
        slot[s].seen.exponent = histogram->exponent; /* which a later batch rarely exceeds */
    }
    histogram_task task = {.x = x,
                           .counting = pq_kernel_choose(PQ_KERNEL_OP_observe_histogram),
                           .minmax = pq_kernel_choose(PQ_KERNEL_OP_observe_minmax),
                           .slots = slot};
    status = exec->parallel_for(exec, n, PQ_OBSERVE_RANGE, run_range, &task);
    uint32_t largest = 0;
    for (size_t s = 0; s < slots; s++) {
        largest = slot[s].largest > largest ? slot[s].largest : largest;
    }
    if (status == PQ_OK && largest >= PQ_INFINITY_BITS) {
        status = pq_observe_not_finite(exec, op, largest, n, x);
    }
    for (size_t s = 0; status == PQ_OK && s < slots; s++) {
        if (slot[s].seen.total > 0) {
            flush(&slot[s]);
            add(histogram, &slot[s].seen);
        }
    }
    if (status == PQ_OK) {
        histogram->minimum = pq_positive_zero(histogram->minimum);
        histogram->maximum = pq_positive_zero(histogram->maximum);
    }
    pq_free(slot);
    return status;
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
    add(into, &other);
    return PQ_OK;
}
