/* Each slot keeps its own minima and maxima; they are merged at the end, in any order, since min
 * and max commute. Nothing of the caller's is touched before all values are known to be finite. */
#include <math.h>

#include "core/dispatch.h"
#include "observe/observe_internal.h"
#include "observe/observe_minmax_kernel.h"

typedef struct minmax_task {
    const float *x;
    size_t channels, inner;
    const struct pq_observe_minmax_kernel *kernel;
    float *minimum, *maximum; /* num_threads, channels */
    uint32_t *largest;        /* num_threads */
} minmax_task;

static void run_range(void *argument, size_t begin, size_t end, int slot) {
    const minmax_task *task = argument;
    const size_t channels = task->channels, inner = task->inner;
    float *minimum = task->minimum + (size_t)slot * channels;
    float *maximum = task->maximum + (size_t)slot * channels;
    uint32_t largest = task->largest[slot];
    for (size_t i = begin; i < end;) {
        const size_t channel = channels == 1 ? 0 : i / inner % channels;
        size_t left; /* up to where the same call can go on */
        uint32_t bits;
        if (channels == 1) {
            left = end - i;
        } else if (inner == 1) {
            left = channels - channel;
        } else {
            left = inner - i % inner;
        }
        const size_t n = end - i < left ? end - i : left;
        if (channels > 1 && inner == 1) {
            bits = task->kernel->each(n, task->x + i, minimum + channel, maximum + channel);
        } else {
            bits = task->kernel->run(n, task->x + i, minimum + channel, maximum + channel);
        }
        largest = bits > largest ? bits : largest;
        i += n;
    }
    task->largest[slot] = largest;
}

pq_status pq_observe_not_finite(const pq_exec *exec, const char *op, uint32_t largest, size_t n,
                                const float *x) {
    size_t i = 0; /* the first of the kind that decides the status */
    while (i < n && pq_magnitude_bits(x[i]) < PQ_INFINITY_BITS + (largest > PQ_INFINITY_BITS)) {
        i++;
    }
    return largest > PQ_INFINITY_BITS
               ? pq_fail(exec, PQ_ERR_NAN, "%s: x[%zu] is NaN", op, i)
               : pq_fail(exec, PQ_ERR_VALUE, "%s: expected finite x, got infinity at [%zu]", op, i);
}

pq_status pq_observe_range(const pq_exec *exec, const char *op, size_t n, size_t channels,
                           size_t inner, const float *x, float *minimum, float *maximum) {
    if (channels == 0 || inner == 0) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected channels, inner >= 1, got %zu, %zu", op,
                       channels, inner);
    }
    const size_t slots = (size_t)exec->num_threads;
    size_t cells = 0, bytes = 0;
    if (n > PTRDIFF_MAX / sizeof(float) || !pq_mul_size(slots, channels, &cells) ||
        !pq_mul_size(cells, 2 * sizeof(float), &bytes) ||
        bytes > PTRDIFF_MAX - slots * sizeof(uint32_t)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected n = %zu, channels = %zu to fit in memory", op, n, channels);
    }
    float *block = pq_alloc(bytes + slots * sizeof(uint32_t));
    if (block == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "%s: out of memory for %zu channels", op, channels);
    }
    minmax_task task = {.x = x,
                        .channels = channels,
                        .inner = inner,
                        .kernel = pq_kernel_choose(PQ_KERNEL_OP_observe_minmax),
                        .minimum = block,
                        .maximum = block + cells,
                        .largest = (uint32_t *)(void *)(block + 2 * cells)};
    for (size_t i = 0; i < cells; i++) {
        task.minimum[i] = INFINITY;
        task.maximum[i] = -INFINITY;
    }
    memset(task.largest, 0, slots * sizeof(uint32_t));
    pq_status status = exec->parallel_for(exec, n, PQ_OBSERVE_RANGE, run_range, &task);
    uint32_t largest = 0;
    for (size_t s = 0; s < slots; s++) {
        largest = task.largest[s] > largest ? task.largest[s] : largest;
    }
    if (status == PQ_OK && largest >= PQ_INFINITY_BITS) {
        status = pq_observe_not_finite(exec, op, largest, n, x);
    }
    if (status != PQ_OK) {
        goto done;
    }
    for (size_t c = 0; c < channels; c++) {
        float low = INFINITY, high = -INFINITY;
        for (size_t i = c; i < cells; i += channels) {
            low = task.minimum[i] < low ? task.minimum[i] : low;
            high = task.maximum[i] > high ? task.maximum[i] : high;
        }
        minimum[c] = pq_positive_zero(low);
        maximum[c] = pq_positive_zero(high);
    }
done:
    pq_free(block);
    return status;
}

pq_status pq_observe_minmax(const pq_exec *exec, size_t n, size_t channels, size_t inner,
                            const float *x, float *minimum, float *maximum) {
    static const char op[] = "observe_minmax";
    if (channels == 0 || channels > PTRDIFF_MAX / (2 * sizeof(float))) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected channels >= 1 that fit in memory, got %zu",
                       op, channels);
    }
    float *seen = pq_alloc(channels * 2 * sizeof(float));
    if (seen == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "%s: out of memory for %zu channels", op, channels);
    }
    const pq_status status =
        pq_observe_range(exec, op, n, channels, inner, x, seen, seen + channels);
    if (status == PQ_OK) {
        for (size_t c = 0; c < channels; c++) {
            const float low = seen[c], high = seen[channels + c];
            minimum[c] = pq_positive_zero(low < minimum[c] ? low : minimum[c]);
            maximum[c] = pq_positive_zero(high > maximum[c] ? high : maximum[c]);
        }
    }
    pq_free(seen);
    return status;
}
