/* Kernels of the elementwise passes: contiguous runs. Every variant returns the bits of `ref`. */
#ifndef PYQUANT_FAKE_FAKE_FORWARD_KERNEL_H
#define PYQUANT_FAKE_FAKE_FORWARD_KERNEL_H

#include "fake/fake_grid.h"
#include "pyquant/cpu.h"

struct pq_fake_forward_kernel {
    /* bits [ceil(n / 8)], the last ones filled up with 0; or NULL. True if x holds NaN. */
    bool (*forward)(size_t n, const float *x, pq_fake_grid grid, float *x_hat, uint8_t *bits);
    void (*apply)(size_t n, const float *g, const uint8_t *bits, float *dx);
    /* dx = g where low < y < high; these two are products with the scale. */
    void (*edge)(size_t n, const float *g, const float *y, float low, float high, float *dx);
};

#endif
