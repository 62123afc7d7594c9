/* Ranges are handed out one by one through an atomic counter, not by an `omp for`: a range may be
 * skipped after a stop, and only the calling thread may poll. */
#define _POSIX_C_SOURCE 200809L /* pthread_atfork, nanosleep, sched_yield */

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/driver.h"

#if defined(_OPENMP)

#include <omp.h>
#include <pthread.h>
#include <sched.h>

/* libgomp keeps its sleeping workers in a pool that a fork copies without the threads: the
 * child's next parallel region would wait for them for ever. */
static atomic_bool forked;

static void in_child(void) {
    atomic_store(&forked, true);
}

#if defined(__linux__)
#define FORKED_WITHOUT_EXEC 0x40u /* PF_FORKNOEXEC of the kernel's task flags */

/* True in a process that was forked and has not called exec since: its parent may have filled the
 * pool before this library was loaded, when no handler could see it. Field 9 of /proc/self/stat
 * holds the flags; the name in field 2 may hold blanks and brackets, so counting starts behind it.
 */
static bool forked_before_load(void) {
    char line[1024];
    FILE *file = fopen("/proc/self/stat", "r");
    if (file == NULL) {
        return false;
    }
    const size_t length = fread(line, 1, sizeof line - 1, file);
    (void)fclose(file);
    line[length] = '\0';
    const char *behind_name = strrchr(line, ')');
    unsigned flags = 0;
    return behind_name != NULL &&
           sscanf(behind_name + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) == 1 &&
           (flags & FORKED_WITHOUT_EXEC) != 0;
}
#else
static bool forked_before_load(void) {
    return false;
}
#endif

/* At load, not at the first parallel region: torch may have filled the same pool before. If the
 * handler cannot be registered (no memory at load), the child is no worse off than with torch. */
__attribute__((constructor)) static void watch_forks(void) {
    atomic_store(&forked, forked_before_load());
    (void)pthread_atfork(NULL, NULL, in_child);
}

static bool must_be_serial(void) {
    /* Inside a caller's own region the processors are taken already. */
    return atomic_load_explicit(&forked, memory_order_relaxed) || omp_in_parallel();
}

/* The calling thread has run out of ranges before the others. It goes on asking, because theirs may
 * be long: the engine gives whole samples to a thread, whose loops inside look at `stop` through
 * the poll. Most waits are shorter than a range: they spin, as the end of the region would, and soon
 * let others have the processor; sleeping would add its own 60 us or more. */
static void poll_while_others_run(const pq_exec *exec, const atomic_int *finished, int others,
                                  atomic_bool *stop) {
    static const int64_t spin_ns = 50 * 1000, yield_ns = 2 * 1000 * 1000;
    static const struct timespec nap = {.tv_sec = 0, .tv_nsec = 200 * 1000};
    const int64_t begin = pq_clock_ns();
    while (atomic_load_explicit(finished, memory_order_relaxed) < others) {
        /* Once it said stop, the poll is not asked again: it may have raised an exception. */
        if (!atomic_load_explicit(stop, memory_order_relaxed) && pq_poll_throttled(exec)) {
            atomic_store_explicit(stop, true, memory_order_relaxed);
        }
        const int64_t waited = pq_clock_ns() - begin;
        if (waited > yield_ns) {
            (void)nanosleep(&nap, NULL);
        } else if (waited > spin_ns) {
            (void)sched_yield();
        }
    }
}

static pq_status openmp_for(const pq_exec *exec, size_t count, size_t grain, pq_range_fn body,
                            void *task) {
    assert(grain >= 1);
    const size_t ranges = pq_range_count(count, grain);
    if (exec->num_threads <= 1 || ranges <= 1 || must_be_serial()) {
        return pq_run_serial(exec, count, grain, body, task, pq_poll_throttled);
    }
    const int threads = ranges < (size_t)exec->num_threads ? (int)ranges : exec->num_threads;
    atomic_size_t next = 0;
    atomic_int finished = 0;
    atomic_bool stop = false;
#pragma omp parallel num_threads(threads) default(none) \
    shared(exec, count, grain, body, task, ranges, next, finished, stop)
    {
        const int slot = omp_get_thread_num(); /* 0 is the calling thread */
        for (;;) {
            if (slot == 0 && pq_poll_throttled(exec)) {
                atomic_store_explicit(&stop, true, memory_order_relaxed);
            }
            if (atomic_load_explicit(&stop, memory_order_relaxed)) {
                break;
            }
            const size_t range = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);
            if (range >= ranges) {
                break;
            }
            const size_t begin = range * grain;
            body(task, begin, pq_range_end(begin, count, grain), slot);
        }
        if (slot == 0 && exec->poll != NULL) {
            poll_while_others_run(exec, &finished, omp_get_num_threads() - 1, &stop);
        } else if (slot != 0) {
            atomic_fetch_add_explicit(&finished, 1, memory_order_relaxed);
        }
    }
    return stop ? pq_fail(exec, PQ_ERR_INTERRUPTED, "interrupted") : PQ_OK;
}

static int default_threads(void) {
    return must_be_serial() ? 1 : omp_get_max_threads();
}

#else

static pq_status openmp_for(const pq_exec *exec, size_t count, size_t grain, pq_range_fn body,
                            void *task) {
    return pq_run_serial(exec, count, grain, body, task, pq_poll_throttled);
}

static int default_threads(void) {
    return 1;
}

#endif

pq_exec pq_exec_openmp(int num_threads, char *message, size_t message_size) {
    pq_exec exec = pq_exec_serial(message, message_size);
    exec.parallel_for = openmp_for;
    exec.num_threads = num_threads < 1 ? default_threads() : num_threads;
    return exec;
}
