/* Data movement: no arithmetic, any element type.
 *
 * copy    y[i0][i1].. = x[offset + i0 * stride0 + i1 * stride1 ..]   y contiguous; transpose, slice,
 *         permute, flip (negative strides), expand (zero strides), im2col of non-overlapping patches
 * concat  y[o] = x_0[o] ++ x_1[o] ++ ...      each x_t [outer or 1, inner_t], y [outer, sum inner_t]
 * gather  y[i] = table[index[i]]              rows of `inner` elements; PQ_ERR_INDEX outside [0, rows)
 *
 * y may not overlap an input. Sizes of 0 are no-ops. Strides are in elements.
 * Bounds: copy checks that every element read lies in [0, x_size); products are checked for size_t.
 */
#ifndef PYQUANT_LAYOUT_H
#define PYQUANT_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "pyquant/exec.h"
#include "pyquant/types.h"

#define PQ_MAX_DIMS 8
#define PQ_MAX_CONCAT 8

typedef struct pq_copy_args {
    pq_dtype type;
    int ndim; /* 0..PQ_MAX_DIMS, 0 copies one element */
    size_t dims[PQ_MAX_DIMS];
    ptrdiff_t strides[PQ_MAX_DIMS];
    ptrdiff_t offset;
    const void *x;
    size_t x_size; /* elements */
    void *y;
} pq_copy_args;

PQ_NODISCARD pq_status pq_copy_check(const pq_exec *exec, const pq_copy_args *args);
PQ_NODISCARD pq_status pq_copy(const pq_exec *exec, const pq_copy_args *args);

typedef struct pq_concat_args {
    pq_dtype type;
    int count; /* 1..PQ_MAX_CONCAT */
    size_t outer;
    size_t inner[PQ_MAX_CONCAT];
    ptrdiff_t outer_stride[PQ_MAX_CONCAT]; /* inner[t], or 0 to repeat one row for every o */
    const void *x[PQ_MAX_CONCAT];
    void *y;
} pq_concat_args;

PQ_NODISCARD pq_status pq_concat(const pq_exec *exec, const pq_concat_args *args);

typedef struct pq_gather_args {
    pq_dtype type;
    size_t rows, inner, count;
    const void *table; /* rows, inner */
    const int32_t *index; /* count */
    void *y;              /* count, inner */
} pq_gather_args;

PQ_NODISCARD pq_status pq_gather(const pq_exec *exec, const pq_gather_args *args);

#endif
