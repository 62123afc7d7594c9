/* What the drivers share: cutting a count into ranges, and asking the poll at a bounded rate. */
#ifndef PYQUANT_CORE_DRIVER_H
#define PYQUANT_CORE_DRIVER_H

#include <stdatomic.h>

#include "pyquant/exec.h"

/* True if the caller wants to stop. Asks at most every 5 ms on each thread, because a poll may
 * have to take an interpreter lock; the clock runs on from call to call, so that a model of many
 * short calls is interrupted as promptly as one long call. */
bool pq_poll_throttled(const pq_exec *exec);

/* All ranges on the calling thread, in order, slot 0. `poll` is asked before each range. */
pq_status pq_run_serial(const pq_exec *exec, size_t count, size_t grain, pq_range_fn body,
                        void *task, bool (*poll)(const pq_exec *exec));

/* Long ranges that themselves call entry points, each range serial on its thread: one loop of the
 * outer driver, run with `leader`, whose ranges make a `member` each. A stop that the outer poll
 * gives reaches the loops inside all of them; the loop's caller asks pq_team_stopped at the end. */
typedef struct pq_team {
    pq_exec leader;
    const pq_exec *outer;
    const void *caller; /* an address that only the calling thread has */
    atomic_bool stop;
} pq_team;

void pq_team_begin(pq_team *team, const pq_exec *outer);
/* For use inside a range. A member on the calling thread asks the poll, the others look. */
pq_exec pq_team_member(pq_team *team, char *message, size_t message_size);
bool pq_team_stopped(const pq_team *team);

/* Ranges of at most `grain` in [0, count). */
static inline size_t pq_range_count(size_t count, size_t grain) {
    return count / grain + (count % grain != 0);
}

static inline size_t pq_range_end(size_t begin, size_t count, size_t grain) {
    return count - begin < grain ? count : begin + grain;
}

#endif
