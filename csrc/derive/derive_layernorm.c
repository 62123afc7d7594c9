#include "derive/derive_internal.h"
#include "pyquant/derive.h"

#define EPSILON_MAX 0x1p61 /* layernorm.h */

static double largest(size_t n, const float *x, float scale, double if_absent) {
    if (x == NULL) {
        return if_absent / (double)scale;
    }
    double best = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double magnitude = fabs((double)x[i] / (double)scale);
        best = magnitude > best ? magnitude : best;
    }
    return best;
}

pq_status pq_derive_layernorm(const pq_exec *exec, size_t channels, const float *gamma,
                              const float *beta, double epsilon, float x_scale, float y_scale,
                              uint64_t *epsilon_q, int32_t *gain, int64_t *offset, int32_t *shift) {
    static const char op[] = "derive_layernorm";
    pq_status status = pq_scale_check(exec, op, "x_scale", x_scale);
    if (status == PQ_OK) {
        status = pq_scale_check(exec, op, "y_scale", y_scale);
    }
    if (status == PQ_OK && gamma != NULL) {
        status = pq_finite_check(exec, op, "gamma", channels, gamma);
    }
    if (status == PQ_OK && beta != NULL) {
        status = pq_finite_check(exec, op, "beta", channels, beta);
    }
    if (status != PQ_OK) {
        return status;
    }
    if (channels < 1 || channels > INT16_MAX) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected channels in [1, 32767], got %zu", op,
                       channels);
    }
    if (!(epsilon >= 0.0) || isinf(epsilon)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected a finite epsilon >= 0, got %g", op,
                       epsilon);
    }
    const double c = (double)channels;
    const double e = rint(c * c * epsilon / ((double)x_scale * (double)x_scale));
    if (!(e <= EPSILON_MAX)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected channels^2 * epsilon / x_scale^2 <= 2^61, got %g", op, e);
    }
    const double gain_max = largest(channels, gamma, y_scale, 1.0);
    const double offset_max = largest(channels, beta, y_scale, 0.0);
    int s = 62; /* rounding is monotone: the largest magnitudes decide for all */
    while (s >= 1 &&
           (rint(ldexp(gain_max, s - 16)) >= 0x1p31 || rint(ldexp(offset_max, s)) >= 0x1p61)) {
        s--;
    }
    if (s < 1) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected |gamma| / y_scale < 2^46 and |beta| / y_scale < 2^60, got %g "
                       "and %g",
                       op, gain_max, offset_max);
    }
    for (size_t i = 0; i < channels; i++) {
        const double g = (gamma == NULL ? 1.0 : (double)gamma[i]) / (double)y_scale;
        const double b = (beta == NULL ? 0.0 : (double)beta[i]) / (double)y_scale;
        gain[i] = (int32_t)rint(ldexp(g, s - 16));
        offset[i] = (int64_t)rint(ldexp(b, s));
    }
    *epsilon_q = (uint64_t)e;
    *shift = s;
    return PQ_OK;
}
