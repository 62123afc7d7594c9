/* Helpers of the derive family only. All arithmetic here is float64 in the default rounding mode.
 */
#ifndef PYQUANT_DERIVE_INTERNAL_H
#define PYQUANT_DERIVE_INTERNAL_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "pyquant/exec.h"
#include "pyquant/types.h"

/* A scale must lie in [2^-100, 2^100]; NaN does not. */
static inline bool pq_scale_valid(float scale) {
    return scale >= 0x1p-100F && scale <= 0x1p100F;
}

PQ_NODISCARD static inline pq_status pq_scale_check(const pq_exec *exec, const char *op,
                                                    const char *name, float scale) {
    if (!pq_scale_valid(scale)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected %s in [2^-100, 2^100], got %g", op, name,
                       (double)scale);
    }
    return PQ_OK;
}

/* An affine whose range lies inside int8 (pq_affine_check has looked at the rest). */
PQ_NODISCARD pq_status pq_affine_s8_check(const pq_exec *exec, const char *op, const char *operand,
                                          pq_affine affine);

/* The float operands of one op: PQ_ERR_NAN for a NaN, PQ_ERR_VALUE for an infinity. */
PQ_NODISCARD pq_status pq_finite_check(const pq_exec *exec, const char *op, const char *operand,
                                       size_t n, const float *x);

/* Round half to even, clamped in float64 before the conversion; v is not NaN, low and high are
 * integers that float64 holds. */
static inline int64_t pq_rne_clamp(double v, double low, double high) {
    v = v < low ? low : v > high ? high : v;
    return (int64_t)rint(v);
}

#endif
