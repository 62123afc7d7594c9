/* Arithmetic on sizes that every entry needs. */
#ifndef PYQUANT_CORE_SIZES_H
#define PYQUANT_CORE_SIZES_H

#include <stddef.h>

static inline size_t pq_min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

static inline size_t pq_max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

/* d > 0 */
static inline size_t pq_ceil_div(size_t n, size_t d) {
    return n / d + (n % d != 0);
}

/* The next multiple of unit > 0; overflows only where that is no size_t. */
static inline size_t pq_round_up(size_t n, size_t unit) {
    return n % unit == 0 ? n : n + (unit - n % unit);
}

#endif
