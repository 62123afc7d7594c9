/* The grids of a call as kernels read them, and the arithmetic of one element. */
#ifndef PYQUANT_FAKE_FAKE_GRID_H
#define PYQUANT_FAKE_FAKE_GRID_H

#include <stdbool.h>
#include <stddef.h>

#include "pyquant/fake.h"

#define PQ_FAKE_MAGIC 12582912.0f /* 1.5 * 2^23 */

/* Element i of a run uses entry i * step: 0 is one grid for the run, 1 one for each element. */
typedef struct pq_fake_grid {
    const float *scale, *reciprocal; /* fl(1 / scale) */
    const float *low, *high;         /* integers, of magnitude below 2^16 */
    size_t step;
    bool near; /* every |low| and |high| is at most 256 */
} pq_fake_grid;

static inline pq_fake_grid pq_fake_grid_from(pq_fake_grid grid, size_t entry) {
    grid.scale += entry;
    grid.reciprocal += entry;
    grid.low += entry;
    grid.high += entry;
    return grid;
}

/* NaN becomes `low`, as vmaxps(v, low) makes it. */
static inline float pq_fake_clamp(float v, float low, float high) {
    v = v > low ? v : low;
    return v < high ? v : high;
}

/* |v| < 2^22; never -0. */
static inline float pq_fake_round(float v) {
    return (v + PQ_FAKE_MAGIC) - PQ_FAKE_MAGIC;
}

#endif
