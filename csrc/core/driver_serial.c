#include <assert.h>
#include <stdint.h>

#include "core/clock.h"
#include "core/driver.h"

bool pq_poll_throttled(const pq_exec *exec) {
    static const int64_t interval_ns = 5 * 1000 * 1000;
    static _Thread_local int64_t last_ns;
    if (exec->poll == NULL) {
        return false;
    }
    const int64_t now_ns = pq_clock_ns();
    if (now_ns != 0 && now_ns - last_ns < interval_ns) {
        return false;
    }
    last_ns = now_ns;
    return exec->poll(exec->poll_arg);
}

pq_status pq_run_serial(const pq_exec *exec, size_t count, size_t grain, pq_range_fn body,
                        void *task, bool (*poll)(const pq_exec *exec)) {
    assert(grain >= 1);
    for (size_t begin = 0; begin < count;) {
        if (poll(exec)) {
            return pq_fail(exec, PQ_ERR_INTERRUPTED, "interrupted");
        }
        const size_t end = pq_range_end(begin, count, grain);
        body(task, begin, end, 0);
        begin = end;
    }
    return PQ_OK;
}

/* Before every range: tests that interrupt a call want to know at which one. */
static bool poll_always(const pq_exec *exec) {
    return exec->poll != NULL && exec->poll(exec->poll_arg);
}

static pq_status serial_for(const pq_exec *exec, size_t count, size_t grain, pq_range_fn body,
                            void *task) {
    return pq_run_serial(exec, count, grain, body, task, poll_always);
}

pq_exec pq_exec_serial(char *message, size_t message_size) {
    if (message != NULL && message_size > 0) {
        message[0] = '\0';
    }
    return (pq_exec){.parallel_for = serial_for,
                     .num_threads = 1,
                     .message = message,
                     .message_size = message_size};
}
