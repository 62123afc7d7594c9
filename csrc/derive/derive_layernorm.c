#include "derive/derive_internal.h"
#include "pyquant/derive.h"

#define EPSILON_MAX 0x1p61 /* layernorm.h */
#define OFFSET_LIMIT 0x1p61

/* Both halves of the affine part in units of y: (x[i] * factor) / scale. */
static double in_steps(const float *x, size_t i, double if_absent, double factor, float scale) {
    return ((x == NULL ? if_absent : (double)x[i]) * factor) / (double)scale;
}

static double largest(size_t n, const float *x, double if_absent, double factor, float scale) {
    double best = 0.0;
    for (size_t i = 0; i < (x == NULL ? 1 : n); i++) {
        const double magnitude = fabs(in_steps(x, i, if_absent, factor, scale));
        best = magnitude > best ? magnitude : best;
    }
    return best;
}

static pq_status check_layer(const pq_exec *exec, const char *op, size_t channels,
                             const float *gamma, const float *beta, double epsilon, float x_scale,
                             float y_scale) {
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
    return PQ_OK;
}

/* gain = rne(gamma * factor / s_y * 2^(s - bits)) and offset = rne(beta / s_y * 2^s) on the largest
 * s that holds all. */
static pq_status derive_affine(const pq_exec *exec, const char *op, size_t channels,
                               const float *gamma, const float *beta, double factor, int bits,
                               float y_scale, int32_t *gain, int64_t *offset, int32_t *shift) {
    const double gain_max = largest(channels, gamma, 1.0, factor, y_scale);
    const double offset_max = largest(channels, beta, 0.0, 1.0, y_scale);
    int s = 62; /* rounding is monotone: the largest magnitudes decide for all */
    while (s >= 1 && (rint(ldexp(gain_max, s - bits)) >= 0x1p31 ||
                      rint(ldexp(offset_max, s)) >= OFFSET_LIMIT)) {
        s--;
    }
    if (s < 1) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected |gamma|%s / y_scale < 2^%d and |beta| / y_scale < 2^60, got "
                       "%g and %g",
                       op, factor != 1.0 ? " * sqrt(channels)" : "", bits + 30, gain_max,
                       offset_max);
    }
    for (size_t i = 0; i < channels; i++) {
        gain[i] = (int32_t)rint(ldexp(in_steps(gamma, i, 1.0, factor, y_scale), s - bits));
        offset[i] = (int64_t)rint(ldexp(in_steps(beta, i, 0.0, 1.0, y_scale), s));
    }
    *shift = s;
    return PQ_OK;
}

pq_status pq_derive_layernorm(const pq_exec *exec, size_t channels, const float *gamma,
                              const float *beta, double epsilon, float x_scale, float y_scale,
                              uint64_t *epsilon_q, int32_t *gain, int64_t *offset, int32_t *shift) {
    static const char op[] = "derive_layernorm";
    const pq_status status =
        check_layer(exec, op, channels, gamma, beta, epsilon, x_scale, y_scale);
    if (status != PQ_OK) {
        return status;
    }
    const double c = (double)channels;
    const double e = rint(c * c * epsilon / ((double)x_scale * (double)x_scale));
    if (!(e <= EPSILON_MAX)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected channels^2 * epsilon / x_scale^2 <= 2^61, got %g", op, e);
    }
    *epsilon_q = (uint64_t)e;
    return derive_affine(exec, op, channels, gamma, beta, 1.0, 16, y_scale, gain, offset, shift);
}

/* ---- powers-of-two factors ---- */

/* The 8-bit grid that all channels share: scale s1, zero point, and how x comes to it. */
static pq_status derive_ptf_grid(const pq_exec *exec, const char *op, size_t channels,
                                 const float *x_range, float x_scale, pq_norm_constants *constants,
                                 double *s1) {
    double low = 0.0, high = 0.0;
    for (size_t i = 0; i < channels; i++) {
        const double least = (double)x_range[i], greatest = (double)x_range[channels + i];
        if (!isfinite(least) || !isfinite(greatest) || least > greatest) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: expected the range of each channel that calibration observes, got "
                           "[%g, %g] of channel %zu",
                           op, least, greatest, i);
        }
        low = least < low ? least : low;
        high = greatest > high ? greatest : high;
    }
    const double scale8 = fmax((high - low) / 255.0, ldexp((double)x_scale, -20));
    *s1 = scale8 / 8.0;
    constants->zero_point = (int32_t)pq_rne_clamp(-128.0 - rint(low / scale8), -128.0, 127.0);
    const pq_status status = pq_derive_dyadic(exec, (double)x_scale / *s1, &constants->requant);
    if (status == PQ_OK && constants->requant.shift > 62 - PQ_NORM_ALPHA_MAX) {
        /* 0 for every difference of s16, as it would be */
        constants->requant = (pq_dyadic){INT32_C(1) << 30, 62 - PQ_NORM_ALPHA_MAX};
    }
    return status;
}

static uint8_t choose_alpha(double least, double greatest, int32_t zero_point, double s1) {
    uint8_t alpha = 0;
    for (double scale = s1; alpha < PQ_NORM_ALPHA_MAX; alpha++, scale *= 2.0) {
        if (least >= (-128.5 - zero_point) * scale && greatest <= (127.5 - zero_point) * scale) {
            break;
        }
    }
    return alpha;
}

static pq_status derive_ptf(const pq_exec *exec, const char *op, size_t channels,
                            const float *gamma, const float *beta, float x_scale, float y_scale,
                            const float *x_range, pq_norm_constants *constants) {
    double s1 = 0.0;
    pq_status status = PQ_OK;
    if (x_range == NULL || constants->alpha == NULL || constants->exponent == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected the ranges of all channels with method ptf, got none", op);
    }
    if ((status = derive_ptf_grid(exec, op, channels, x_range, x_scale, constants, &s1)) != PQ_OK) {
        return status;
    }
    constants->shift = PQ_NORM_PTF_SHIFT;
    for (size_t i = 0; i < channels; i++) {
        const double g = in_steps(gamma, i, 1.0, (double)channels, y_scale);
        const double b = rint(ldexp(in_steps(beta, i, 0.0, 1.0, y_scale), PQ_NORM_PTF_SHIFT));
        if (fabs(g) >= 0x1p30 || fabs(b) >= OFFSET_LIMIT) {
            return pq_fail(exec, PQ_ERR_OVERFLOW,
                           "%s: expected |gamma| * channels / y_scale < 2^30 and |beta| / y_scale "
                           "< 2^29, got %g and %g",
                           op, fabs(g), ldexp(fabs(b), -PQ_NORM_PTF_SHIFT));
        }
        pq_dyadic size = {0, PQ_NORM_EXPONENT_MAX};
        if (fabs(g) >= 0x1p-6) {
            if ((status = pq_derive_dyadic(exec, fabs(g), &size)) != PQ_OK) {
                return status;
            }
        }
        constants->gain[i] = g < 0.0 ? -size.multiplier : size.multiplier;
        constants->exponent[i] = size.shift;
        constants->offset[i] = (int64_t)b;
        constants->alpha[i] = choose_alpha((double)x_range[i], (double)x_range[channels + i],
                                           constants->zero_point, s1);
    }
    return PQ_OK;
}

pq_status pq_derive_norm(const pq_exec *exec, const pq_method *method, size_t channels,
                         const float *gamma, const float *beta, double epsilon, float x_scale,
                         float y_scale, const float *x_range, pq_norm_constants *constants) {
    static const char op[] = "derive_layernorm";
    pq_status status = pq_method_check(exec, PQ_METHOD_NORM, method);
    if (status == PQ_OK) {
        status = check_layer(exec, op, channels, gamma, beta, epsilon, x_scale, y_scale);
    }
    if (status != PQ_OK) {
        return status;
    }
    constants->method = (pq_norm_method)method->code;
    constants->epsilon = 0;
    constants->iterations =
        constants->method == PQ_NORM_IVIT ? (int32_t)method->parameters[0] : 0;
    constants->zero_point = 0;
    constants->requant = (pq_dyadic){0, 0};
    if (constants->method == PQ_NORM_EXACT) {
        return pq_derive_layernorm(exec, channels, gamma, beta, epsilon, x_scale, y_scale,
                                   &constants->epsilon, constants->gain, constants->offset,
                                   &constants->shift);
    }
    if (constants->method == PQ_NORM_PTF) {
        return derive_ptf(exec, op, channels, gamma, beta, x_scale, y_scale, x_range, constants);
    }
    return derive_affine(exec, op, channels, gamma, beta, sqrt((double)channels), 30, y_scale,
                         constants->gain, constants->offset, &constants->shift);
}
