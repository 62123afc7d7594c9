/* What the drivers share: cutting a count into ranges, and asking the poll at a bounded rate. */
#ifndef PYQUANT_CORE_DRIVER_H
#define PYQUANT_CORE_DRIVER_H

#include "pyquant/exec.h"

/* True if the caller wants to stop. Asks at most every 5 ms on each thread, because a poll may
 * have to take an interpreter lock; the clock runs on from call to call, so that a model of many
 * short calls is interrupted as promptly as one long call. */
bool pq_poll_throttled(const pq_exec *exec);

/* All ranges on the calling thread, in order, slot 0. `poll` is asked before each range. */
pq_status pq_run_serial(const pq_exec *exec, size_t count, size_t grain, pq_range_fn body,
                        void *task, bool (*poll)(const pq_exec *exec));

/* Ranges of at most `grain` in [0, count). */
static inline size_t pq_range_count(size_t count, size_t grain) {
    return count / grain + (count % grain != 0);
}

static inline size_t pq_range_end(size_t begin, size_t count, size_t grain) {
    return count - begin < grain ? count : begin + grain;
}

#endif
