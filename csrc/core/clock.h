#ifndef PYQUANT_CORE_CLOCK_H
#define PYQUANT_CORE_CLOCK_H

#include <stdint.h>

/* Nanoseconds of a clock that never goes back; 0 where the system has none. */
int64_t pq_clock_ns(void);

#endif
