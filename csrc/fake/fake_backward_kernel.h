/* Kernels of the sums of learned scales (pyquant/fake.h): one block. */
#ifndef PYQUANT_FAKE_FAKE_BACKWARD_KERNEL_H
#define PYQUANT_FAKE_FAKE_BACKWARD_KERNEL_H

#include "fake/fake_grid.h"
#include "pyquant/cpu.h"

enum { PQ_FAKE_LANES = 16 };

struct pq_fake_backward_kernel {
    /* n <= PQ_FAKE_BLOCK, one grid. sums: of g t, and of g outside. True if x holds NaN. */
    bool (*learned)(size_t n, const float *x, const float *g, pq_fake_grid grid, float *dx,
                    double sums[2]);
    /* rows <= PQ_FAKE_ROWS of `columns`, `stride` elements apart, a grid for each column.
     * steps and outside [columns]: the float32 lanes. */
    bool (*columns)(size_t rows, size_t columns, size_t stride, const float *x, const float *g,
                    pq_fake_grid grid, float *dx, float *steps, float *outside);
    /* n <= PQ_FAKE_BLOCK, one grid. */
    double (*edge)(size_t n, const float *g, const float *real, const float *y, pq_fake_grid grid,
                   float *dx);
    /* n <= PQ_FAKE_BLOCK, one grid. slope and step, which may be NULL, are indexed by k. */
    double (*lookup)(size_t n, const float *g, const float *x, pq_fake_grid grid,
                     const float *slope, const float *step, float *dx);
};

#endif
