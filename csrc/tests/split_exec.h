/* A driver that cuts unevenly, runs backwards and changes slots: a result that depends on how an
 * entry point's work is split shows here, without threads. */
#ifndef PYQUANT_TESTS_SPLIT_EXEC_H
#define PYQUANT_TESTS_SPLIT_EXEC_H

#include "check.h"
#include "pyquant/exec.h"

#define SPLIT_SLOTS 3

static inline pq_status split_parallel_for(const pq_exec *exec, size_t count, size_t grain,
                                           pq_range_fn body, void *task) {
    uint64_t *state = exec->poll_arg;
    while (count > 0) {
        const size_t most = count < grain ? count : grain;
        /* Short ranges at first, so that odd beginnings occur, then what the grain allows. */
        const size_t short_most = most < 37 ? most : 37;
        const bool be_short = check_random_in(state, 0, 1) == 0;
        const size_t n = (size_t)check_random_in(state, 1, (int64_t)(be_short ? short_most : most));
        body(task, count - n, count, (int)check_random_in(state, 0, exec->num_threads - 1));
        count -= n;
    }
    return PQ_OK;
}

static inline pq_exec split_exec(uint64_t *state, char *message, size_t message_size) {
    return (pq_exec){.parallel_for = split_parallel_for,
                     .num_threads = SPLIT_SLOTS,
                     .poll_arg = state,
                     .message = message,
                     .message_size = message_size};
}

/* A driver that is told to stop in its `calls`-th loop (counted down in *calls), before any range.
 */
static inline pq_status stopping_parallel_for(const pq_exec *exec, size_t count, size_t grain,
                                              pq_range_fn body, void *task) {
    long *calls = exec->poll_arg;
    (void)grain;
    if (--*calls == 0) {
        return PQ_ERR_INTERRUPTED;
    }
    if (count > 0) {
        body(task, 0, count, 0);
    }
    return PQ_OK;
}

static inline pq_exec stopping_exec(long *calls, char *message, size_t message_size) {
    return (pq_exec){.parallel_for = stopping_parallel_for,
                     .num_threads = 1,
                     .poll_arg = calls,
                     .message = message,
                     .message_size = message_size};
}

#endif
