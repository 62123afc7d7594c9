#include <math.h>

#include "derive/derive_internal.h"
#include "pyquant/derive.h"
#include "pyquant/quantize.h"

pq_status pq_affine_s8_check(const pq_exec *exec, const char *op, const char *operand,
                             pq_affine affine) {
    const pq_status status = pq_affine_check(exec, op, operand, affine);
    if (status != PQ_OK) {
        return status;
    }
    if (affine.quant_min < INT8_MIN || affine.quant_max > INT8_MAX) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected the range of %s inside [-128, 127], got [%d, %d]", op, operand,
                       affine.quant_min, affine.quant_max);
    }
    return PQ_OK;
}

pq_status pq_finite_check(const pq_exec *exec, const char *op, const char *operand, size_t n,
                          const float *x) {
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i])) {
            return pq_fail(exec, PQ_ERR_NAN, "%s: %s[%zu] is NaN", op, operand, i);
        }
        if (isinf(x[i])) {
            return pq_fail(exec, PQ_ERR_VALUE, "%s: expected finite %s, got infinity at [%zu]", op,
                           operand, i);
        }
    }
    return PQ_OK;
}

pq_status pq_derive_dyadic(const pq_exec *exec, double real, pq_dyadic *dyadic) {
    if (!(real > 0.0) || isinf(real)) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "derive_dyadic: expected a finite multiplier > 0, got %g", real);
    }
    int exponent = 0;
    const double fraction = frexp(real, &exponent);
    int64_t multiplier = (int64_t)rint(ldexp(fraction, 31));
    if (multiplier == INT64_C(1) << 31) {
        multiplier = INT64_C(1) << 30;
        exponent++;
    }
    int shift = 31 - exponent;
    if (shift < 1) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "derive_dyadic: expected a multiplier below 2^30, got %g", real);
    }
    if (shift > 62) {
        multiplier = INT64_C(1) << 30;
        shift = 62;
    }
    *dyadic = (pq_dyadic){.multiplier = (int32_t)multiplier, .shift = (uint8_t)shift};
    return PQ_OK;
}

pq_status pq_derive_add(const pq_exec *exec, float a_scale, float b_scale, float y_scale,
                        int32_t *a_multiplier, int32_t *b_multiplier, int32_t *shift) {
    static const char op[] = "derive_add";
    pq_status status = pq_scale_check(exec, op, "a_scale", a_scale);
    if (status == PQ_OK) {
        status = pq_scale_check(exec, op, "b_scale", b_scale);
    }
    if (status == PQ_OK) {
        status = pq_scale_check(exec, op, "y_scale", y_scale);
    }
    if (status != PQ_OK) {
        return status;
    }
    const double a = (double)a_scale / (double)y_scale, b = (double)b_scale / (double)y_scale;
    pq_dyadic larger;
    status = pq_derive_dyadic(exec, a >= b ? a : b, &larger);
    if (status != PQ_OK) {
        return status;
    }
    /* Rounding is monotone and both share one shift: the smaller stays <= the larger's. */
    const int32_t smaller = (int32_t)rint(ldexp(a >= b ? b : a, larger.shift));
    *a_multiplier = a >= b ? larger.multiplier : smaller;
    *b_multiplier = a >= b ? smaller : larger.multiplier;
    *shift = larger.shift;
    return PQ_OK;
}
