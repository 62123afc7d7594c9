#include "derive/derive_unary_internal.h"

enum { POINTS = 256, STEPS = 16 /* to either side */ };

typedef struct points {
    int count;
    double t[POINTS], rest[POINTS]; /* target(t) - 1 */
} points;

static double fourth(double v) {
    return (v * v) * (v * v);
}

/* The best a for this beta, and the error it leaves. */
static double error_of(const points *on, double beta, double *a) {
    double ww = 0.0, rw = 0.0, error = 0.0;
    for (int i = 0; i < on->count; i++) {
        const double w = on->t[i] < beta ? fourth(beta - on->t[i]) : 0.0;
        ww += w * w;
        rw += on->rest[i] * w;
    }
    const double odd = -1.0 / fourth(beta);
    const double best = ww > 0.0 ? rw / ww : odd;
    *a = best < 1.25 * odd ? 1.25 * odd : best > 0.75 * odd ? 0.75 * odd : best;
    for (int i = 0; i < on->count; i++) {
        const double w = on->t[i] < beta ? fourth(beta - on->t[i]) : 0.0;
        const double off = *a * w - on->rest[i];
        error += off * off;
    }
    return error;
}

pq_poly_fit pq_fit_poly(double (*target)(double), double scale, pq_affine x) {
    points on = {0};
    for (int32_t q = x.quant_min; q <= x.quant_max; q++) {
        if (q != x.zero_point) { /* L(0) = 0 for any a and beta */
            on.t[on.count] = fabs((double)(q - x.zero_point)) * scale;
            on.rest[on.count] = target(on.t[on.count]) - 1.0;
            on.count++;
        }
    }
    pq_poly_fit fit = {0.0, 3.0};
    for (double step = 0x1p-4; step >= 0x1p-8; step *= 0x1p-4) {
        const double middle = fit.beta;
        double least = (double)INFINITY;
        for (int i = -STEPS; i <= STEPS; i++) {
            double a;
            const double beta = middle + i * step, error = error_of(&on, beta, &a);
            if (error < least) {
                least = error;
                fit = (pq_poly_fit){a, beta};
            }
        }
    }
    return fit;
}
