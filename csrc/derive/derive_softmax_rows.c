#include "derive/derive_internal.h"
#include "pyquant/derive.h"
#include "pyquant/quantize.h"
#include "softmax/softmax_method.h"

#define DELTA_MOST UINT64_C(65535) /* of two s16 */

pq_status pq_derive_softmax_rows(const pq_exec *exec, const pq_method *method, pq_affine x,
                                 pq_affine y, size_t n, int32_t *exponentials, pq_softmax *softmax,
                                 pq_dyadic *requant) {
    static const char op[] = "derive_softmax";
    pq_softmax out;
    pq_dyadic ratio;
    const size_t keys = n == 0 ? 1 : n;
    pq_status status = pq_affine_check(exec, op, "x", x);
    if (status == PQ_OK) {
        status = pq_affine_check(exec, op, "y", y);
    }
    if (status == PQ_OK) {
        status = pq_derive_softmax(exec, op, method, (double)x.scale, DELTA_MOST, keys, 1,
                                   exponentials, &out);
    }
    if (status == PQ_OK) {
        status = pq_derive_dyadic(exec, 1.0 / (double)y.scale, &ratio);
    }
    if (status != PQ_OK) {
        return status;
    }
    /* The longest row decides the largest shift; softmax_rows.h wants <= 62. */
    const pq_dyadic last =
        pq_softmax_normalizer(ratio, (uint32_t)pq_softmax_divisor_most(&out, keys));
    if (last.shift > 62) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected y_scale of at most 2^%d for rows of %zu, got %g", op,
                       32 - (last.shift - ratio.shift), n, (double)y.scale);
    }
    *softmax = out;
    *requant = ratio;
    return PQ_OK;
}
