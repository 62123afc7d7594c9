/* The definition as loops: all of `ref`. */
#ifndef PYQUANT_FAKE_FAKE_FORWARD_LOOP_H
#define PYQUANT_FAKE_FAKE_FORWARD_LOOP_H

#include <string.h>

#include "fake/fake_forward_kernel.h"

/* What is clamped before it is rounded lies a step beyond the grid, so that the mask can be read
 * off the integer: the bounds are integers, and rounding does not cross one. */
static inline bool pq_fake_forward_loop(size_t n, const float *x, pq_fake_grid grid, float *x_hat,
                                        uint8_t *bits) {
    bool nan = false;
    if (bits != NULL) {
        memset(bits, 0, (n + 7) / 8);
    }
    for (size_t i = 0; i < n; i++) {
        const size_t e = i * grid.step;
        const float low = grid.low[e], high = grid.high[e], value = x[i];
        const float k =
            pq_fake_round(pq_fake_clamp(value / grid.scale[e], low - 1.0f, high + 1.0f));
        nan |= value != value;
        if (bits != NULL && k >= low && k <= high) {
            bits[i / 8] = (uint8_t)(bits[i / 8] | 1u << i % 8);
        }
        x_hat[i] = pq_fake_clamp(k, low, high) * grid.scale[e];
    }
    return nan;
}

static inline void pq_fake_apply_loop(size_t begin, size_t n, const float *g, const uint8_t *bits,
                                      float *dx) {
    for (size_t i = begin; i < n; i++) {
        dx[i] = (bits[i / 8] >> i % 8 & 1) != 0 ? g[i] : 0.0f;
    }
}

static inline void pq_fake_edge_loop(size_t begin, size_t n, const float *g, const float *y,
                                     float low, float high, float *dx) {
    for (size_t i = begin; i < n; i++) {
        dx[i] = y[i] > low && y[i] < high ? g[i] : 0.0f;
    }
}

#endif
