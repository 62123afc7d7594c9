#include "pyquant/probe.h"

#include <stdatomic.h>
#include <string.h>

#include "core/clock.h"
#include "core/probe_kernel.h"

enum { ROUNDS = 6, TRIAL_NS = 200 * 1000, ROUND_NS = 3 * 1000 * 1000 };

static const pq_probe_kernel *const kernels[] = {&pq_probe_ref,
#if defined(__x86_64__)
                                                 &pq_probe_avx2, &pq_probe_avx512vnni,
#elif defined(__aarch64__)
                                                  &pq_probe_neondot,
#endif
                                                 NULL};

const pq_probe_kernel *const *pq_probe_kernels(void) {
    return kernels;
}

static const pq_probe_kernel *choose(void) {
    const pq_probe_kernel *best = kernels[0];
    for (int i = 1; kernels[i] != NULL; i++) {
        best = pq_isa_eligible(kernels[i]->isa, kernels[i]->needs) ? kernels[i] : best;
    }
    return best;
}

typedef struct probe_task {
    const pq_probe_kernel *kernel;
    const char *data; /* of a read: part_size bytes for each range; else NULL */
    char *fill;
    size_t part_size, times;
    atomic_uint sink; /* what was computed is used: no loop can be left out */
} probe_task;

static void run_parts(void *argument, size_t begin, size_t end, int slot) {
    probe_task *task = argument;
    (void)slot;
    for (size_t part = begin; part < end; part++) {
        uint32_t result = 0;
        if (task->fill != NULL) {
            memset(task->fill + part * task->part_size, (int)part + 1, task->part_size);
        } else if (task->data == NULL) {
            result = task->kernel->multiply_add(task->times);
        }
        for (size_t i = 0; task->data != NULL && i < task->times; i++) {
            result += task->kernel->read(task->data + part * task->part_size, task->part_size);
        }
        atomic_fetch_add_explicit(&task->sink, result, memory_order_relaxed);
    }
}

/* `times` of the work on every thread; nanoseconds, at least 1. */
static pq_status time_once(const pq_exec *exec, probe_task *task, size_t threads, size_t times,
                           uint64_t *nanoseconds) {
    task->times = times;
    const int64_t before = pq_clock_ns();
    const pq_status status = exec->parallel_for(exec, threads, 1, run_parts, task);
    const int64_t taken = pq_clock_ns() - before;
    *nanoseconds = taken < 1 ? 1 : (uint64_t)taken;
    return status;
}

static size_t thread_count(const pq_exec *exec) {
    return exec->num_threads < 1 ? 1 : (size_t)exec->num_threads;
}

/* The best of some rounds of about ROUND_NS; `unit` is the work of one time on all threads. */
static pq_status best_rate(const pq_exec *exec, probe_task *task, uint64_t unit,
                           pq_probe_rate *rate) {
    const size_t threads = thread_count(exec);
    size_t times = 1;
    uint64_t taken;
    pq_status status = time_once(exec, task, threads, times, &taken);
    while (status == PQ_OK && taken < TRIAL_NS && times < SIZE_MAX / 4 / unit) {
        times *= 2;
        status = time_once(exec, task, threads, times, &taken);
    }
    const uint64_t more = ROUND_NS / taken + 1;
    times = times < SIZE_MAX / more / unit ? times * more : times;
    uint64_t best = UINT64_MAX;
    for (int round = 0; round < ROUNDS && status == PQ_OK; round++) {
        status = time_once(exec, task, threads, times, &taken);
        best = taken < best ? taken : best;
    }
    *rate = (pq_probe_rate){unit * times, best};
    return status;
}

pq_status pq_probe_multiply_add(const pq_exec *exec, pq_isa *isa, pq_probe_rate *rate) {
    static const uint64_t macs[] = {
        [PQ_PROBE_S32] = 1, [PQ_PROBE_S16] = 2, [PQ_PROBE_U8S8] = 4, [PQ_PROBE_S8] = 4};
    const pq_probe_kernel *kernel = choose();
    probe_task task = {.kernel = kernel};
    atomic_init(&task.sink, 0);
    *isa = kernel->isa;
    const uint64_t unit = kernel->chains * kernel->lanes * macs[kernel->dot];
    return best_rate(exec, &task, unit * thread_count(exec), rate);
}

pq_status pq_probe_read(const pq_exec *exec, size_t bytes, pq_probe_rate *rate) {
    const size_t threads = thread_count(exec), pages = bytes / threads / PQ_PROBE_PAGE;
    const size_t part = (pages < 1 ? 1 : pages) * PQ_PROBE_PAGE;
    char *buffer = threads > SIZE_MAX / part ? NULL : pq_alloc(threads * part);
    if (buffer == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "probe: no memory to read %zu bytes", bytes);
    }
    /* Filled by threads as it is read by them, and for the sake of real pages behind it. */
    probe_task task = {.kernel = choose(), .fill = buffer, .part_size = part};
    atomic_init(&task.sink, 0);
    pq_status status = exec->parallel_for(exec, threads, 1, run_parts, &task);
    if (status == PQ_OK) {
        task.fill = NULL;
        task.data = buffer;
        status = best_rate(exec, &task, threads * part, rate);
    }
    pq_free(buffer);
    return status;
}
