/* How many items make a range: the one place that weighs work against what a thread costs.
 *
 * A parallel region of two threads costs 1 to 2 us while the threads still spin from the last one,
 * and 30 to 60 us where they must be woken, so that a range of less than 20 us is not worth a
 * thread. A range of the fastest kernel takes at most 500 us: with the reference, some ten times
 * slower, still under the 10 ms of exec.h. Between the two, four ranges a thread, or else a
 * multiple of the threads: equal threads end together, and unequal ones need not wait long.
 */
#ifndef PYQUANT_CORE_GRAIN_H
#define PYQUANT_CORE_GRAIN_H

#include <stdint.h>

#include "pyquant/exec.h"

#define PQ_RANGE_LEAST_PS UINT64_C(20000000)
#define PQ_RANGE_MOST_PS UINT64_C(500000000)
enum { PQ_RANGES_A_THREAD = 4 };

/* Grain for `count` items of about `item_ps` picoseconds each (with the fastest kernel; a factor
 * of two does not matter), a multiple of `unit`. Work too small for two threads is one range, for
 * which no driver opens a parallel region. */
static inline size_t pq_grain(const pq_exec *exec, size_t count, size_t unit, uint64_t item_ps) {
    const uint64_t cost = item_ps < 1 ? 1 : item_ps;
    const uint64_t least = PQ_RANGE_LEAST_PS / cost + 1, most = PQ_RANGE_MOST_PS / cost + 1;
    const uint64_t threads = exec->num_threads < 1 ? 1 : (uint64_t)exec->num_threads;
    const uint64_t limit = threads == 1 ? 1 : threads * PQ_RANGES_A_THREAD;
    uint64_t ranges = count / least < limit ? count / least : limit;
    ranges = ranges < 1 ? 1 : ranges < threads ? ranges : ranges - ranges % threads;
    uint64_t grain = count / ranges + (count % ranges != 0 || count == 0);
    grain = grain < most ? grain : most;
    return (size_t)((grain + unit - 1) / unit * unit);
}

#endif
