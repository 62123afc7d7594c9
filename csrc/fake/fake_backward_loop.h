/* The definition of one element, and of columns one by one: all of `ref`, and what is left behind
 * whole vectors. */
#ifndef PYQUANT_FAKE_FAKE_BACKWARD_LOOP_H
#define PYQUANT_FAKE_FAKE_BACKWARD_LOOP_H

#include "fake/fake_backward_kernel.h"

/* t of the learned backward; dx and the part of g that lies outside go to *in and *out. */
static inline float pq_fake_learned_step(float x, float g, float scale, float low, float high,
                                         float *in, float *out) {
    const float v = x / scale;
    const bool inside = v > low && v < high;
    *in = inside ? g : 0.0f;
    *out = inside ? 0.0f : g;
    return pq_fake_round(pq_fake_clamp(v, low, high)) - (inside ? v : 0.0f);
}

static inline float pq_fake_edge_step(float real, float y, const pq_fake_grid *grid, bool *inside) {
    const float v = real / *grid->scale, low = *grid->low, high = *grid->high;
    *inside = v > low && v < high;
    if (*inside) {
        return pq_fake_round(pq_fake_clamp(y * *grid->reciprocal, low, high)) - v;
    }
    return v != v ? v : pq_fake_clamp(v, low, high);
}

/* Elements begin to n; the lanes go on from what they hold. */
static inline void pq_fake_lookup_loop(size_t begin, size_t n, const float *g, const float *x,
                                       const pq_fake_grid *grid, const float *slope,
                                       const float *step, float *dx, float lanes[PQ_FAKE_LANES]) {
    for (size_t i = begin; i < n; i++) {
        const float gradient = g[i];
        const float v = pq_fake_clamp(x[i] * *grid->reciprocal, *grid->low, *grid->high);
        const ptrdiff_t k = (ptrdiff_t)pq_fake_round(v);
        if (step != NULL) {
            lanes[i % PQ_FAKE_LANES] += gradient * step[k];
        }
        dx[i] = gradient * slope[k];
    }
}

static inline double pq_fake_add_lanes(const float lanes[PQ_FAKE_LANES]) {
    double sum[PQ_FAKE_LANES];
    for (int i = 0; i < PQ_FAKE_LANES; i++) {
        sum[i] = (double)lanes[i];
    }
    for (int half = PQ_FAKE_LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            sum[i] += sum[i + half];
        }
    }
    return sum[0];
}

static inline bool pq_fake_columns_loop(size_t begin, size_t rows, size_t n, size_t stride,
                                        const float *x, const float *g, pq_fake_grid grid,
                                        float *dx, float *steps, float *outside) {
    bool nan = false;
    for (size_t j = begin; j < n; j++) {
        float sum = 0.0f, rest = 0.0f;
        for (size_t row = 0; row < rows; row++) {
            const size_t i = row * stride + j;
            const float value = x[i], gradient = g[i];
            float in, out;
            const float t = pq_fake_learned_step(value, gradient, grid.scale[j], grid.low[j],
                                                 grid.high[j], &in, &out);
            nan |= value != value;
            sum += gradient * t;
            rest += out;
            dx[i] = in;
        }
        steps[j] = sum;
        outside[j] = rest;
    }
    return nan;
}

#endif
