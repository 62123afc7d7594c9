/* What the two observers share. */
#ifndef PYQUANT_OBSERVE_INTERNAL_H
#define PYQUANT_OBSERVE_INTERNAL_H

#include "pyquant/observe.h"

/* A float costs 0.6 ns in the slower of the two loops: a sixth of a millisecond. */
#define PQ_OBSERVE_RANGE 262144

/* Min and max of n floats over `channels`, into `minimum` and `maximum` which it sets (+inf, -inf
 * where a channel has no element). Zeros come back as +0. The statuses of observe.h. */
PQ_NODISCARD pq_status pq_observe_range(const pq_exec *exec, const char *op, size_t n,
                                        size_t channels, size_t inner, const float *x,
                                        float *minimum, float *maximum);

/* The status and the message for n floats of which `largest`, as magnitude bits, is not finite. */
PQ_NODISCARD pq_status pq_observe_not_finite(const pq_exec *exec, const char *op, uint32_t largest,
                                             size_t n, const float *x);

/* -0 becomes +0: which of the two min and max keep depends on the order. */
static inline float pq_positive_zero(float v) {
    return v == 0.0F ? 0.0F : v;
}

#endif
