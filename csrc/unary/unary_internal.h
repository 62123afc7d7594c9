/* What the curves share: a bounded shift, and the split of an exponent. */
#ifndef PYQUANT_UNARY_INTERNAL_H
#define PYQUANT_UNARY_INTERNAL_H

#include <stdint.h>

#include "pyquant/unary.h"

static inline int64_t pq_least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* v << up by a multiplication: v may be negative. */
static inline int64_t pq_raised(int64_t v, int32_t up) {
    return v * (INT64_C(1) << up);
}

/* z * 2^shift for z >= 0, floored, at most 2^31 - 1. Any shift is allowed. */
static inline int64_t pq_scaled(int64_t z, int32_t shift) {
    if (shift <= 0) {
        return pq_least(z >> pq_least(-(int64_t)shift, 62), INT32_MAX);
    }
    return shift >= 31 || z > INT32_MAX >> shift ? (z == 0 ? 0 : INT32_MAX) : z << shift;
}

/* t = p - z * unit with p in (-unit, 0]: the whole powers of the base, and the rest. */
typedef struct pq_split {
    int64_t z, p;
} pq_split;

static inline pq_split pq_split_exponent(int64_t t, int64_t unit) {
    /* z = floor(-t / unit); C divides towards 0. */
    const int64_t z = t <= 0 ? -t / unit : -((t + unit - 1) / unit);
    return (pq_split){z, t + z * unit};
}

/* A shift count from `shift` - z, for any z: what passes 62 either way changes nothing. */
static inline int32_t pq_count(int32_t shift, int64_t z) {
    const int64_t count = shift - z;
    return (int32_t)(count < -62 ? -62 : count > 62 ? 62 : count);
}

#endif
