/* A copy in normal form, and the loops that do ranges of it. */
#ifndef PYQUANT_LAYOUT_COPY_WALK_H
#define PYQUANT_LAYOUT_COPY_WALK_H

#include "layout/transpose_kernel.h"
#include "pyquant/layout.h"

/* Greatest side of a tile of a transpose: 64 rows of 64 bytes are 64 cache lines, well inside L1.
 */
#define PQ_COPY_TILE 64

/* Dimensions of size 1 are gone, and neighbours that one stride walks are one. Strides in elements;
 * ndim >= 1. y is contiguous. */
typedef struct pq_copy_plan {
    int ndim;
    size_t dims[PQ_MAX_DIMS];
    ptrdiff_t strides[PQ_MAX_DIMS];
    const char *x; /* element (0, .., 0) */
    char *y;
    size_t element_size;
    size_t elements;
    /* >= 0: dimension `transposed` has stride 1, the last one has not, and tiles pay. */
    int transposed;
    const struct pq_transpose_kernel *kernel; /* for tiles */
} pq_copy_plan;

/* args->dims has no 0 and args has passed pq_copy_check. */
pq_copy_plan pq_copy_plan_of(const pq_copy_args *args);

/* Elements [begin, end) of y, in its order. For plans with transposed < 0. */
void pq_copy_elements(const pq_copy_plan *plan, size_t begin, size_t end);

/* Number of tiles, and tiles [begin, end). For plans with transposed >= 0 and a kernel. */
size_t pq_copy_tile_count(const pq_copy_plan *plan);
void pq_copy_tiles(const pq_copy_plan *plan, size_t begin, size_t end);

#endif
