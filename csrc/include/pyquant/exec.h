/* How an entry point runs: who parallelises, who may interrupt, where the message goes.
 *
 * One interface, three drivers: `pq_exec_serial` (C tests, sanitizers, fuzzers), `pq_exec_openmp`
 * (the NumPy module and the engine) and the torch shim's own, which calls torch's parallel_for so
 * that torch.set_num_threads holds. Kernels never see a pq_exec: they are pure range functions.
 */
#ifndef PYQUANT_EXEC_H
#define PYQUANT_EXEC_H

#include <stdbool.h>
#include <stddef.h>

#include "pyquant/status.h"

/* Does items [begin, end) of a task. `slot` is in [0, exec->num_threads), and no two calls that
 * run at the same time have the same slot: it selects a piece of workspace. */
typedef void (*pq_range_fn)(void *task, size_t begin, size_t end, int slot);

typedef struct pq_exec pq_exec;
struct pq_exec {
    /* Cuts [0, count) into ranges of at most `grain` items (grain >= 1) and runs them all, in any
     * order, on at most num_threads threads. Returns PQ_OK, or PQ_ERR_INTERRUPTED once `poll` has
     * said stop (ranges not begun are then skipped). An entry point picks `grain` so that one
     * range takes well under 10 ms: that bounds how late Ctrl-C is answered. */
    pq_status (*parallel_for)(const pq_exec *exec, size_t count, size_t grain, pq_range_fn body,
                              void *task);
    int num_threads; /* >= 1 */
    /* Called between ranges on the calling thread only; true = stop. May be NULL. */
    bool (*poll)(void *poll_arg);
    void *poll_arg;
    /* One sentence on failure; may be NULL / 0. */
    char *message;
    size_t message_size;
};

/* The calling thread does all ranges. message may be NULL. */
pq_exec pq_exec_serial(char *message, size_t message_size);

/* OpenMP; num_threads < 1 means the default (OMP_NUM_THREADS, else the processors of this process).
 * In a forked child it is serial for life: a child of a process that has used two libgomp threads
 * would hang. (Also where the library is loaded only in the child, which on Linux can be told.) */
pq_exec pq_exec_openmp(int num_threads, char *message, size_t message_size);

/* Writes the sentence and returns `status`: `return pq_fail(exec, PQ_ERR_VALUE, "op: ...", ...)`.
 */
PQ_NODISCARD pq_status pq_fail(const pq_exec *exec, pq_status status, const char *format, ...)
    PQ_PRINTF(3, 4);

/* Allocation for entry points and the engine (kernels never allocate): 64-byte aligned, NULL on
 * failure or size 0 overflow. Tests make the n-th call fail through pq_alloc_fail_after. */
void *pq_alloc(size_t size);
void pq_free(void *block);
/* Test hook: the next `calls` allocations succeed and the one after fails; < 0 turns it off. */
void pq_alloc_fail_after(long calls);
/* Test hook: blocks allocated and not freed. */
long pq_alloc_live(void);

/* a * b, or false where it does not fit in size_t. */
static inline bool pq_mul_size(size_t a, size_t b, size_t *product) {
    *product = a * b;
    return a == 0 || *product / a == b;
}

#endif
