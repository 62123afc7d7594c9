#define _POSIX_C_SOURCE 200809L /* clock_gettime */

#include "core/clock.h"

#include <time.h>

int64_t pq_clock_ns(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) {
        return 0;
    }
    return (int64_t)now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}
