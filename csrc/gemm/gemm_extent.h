#ifndef PYQUANT_GEMM_GEMM_EXTENT_H
#define PYQUANT_GEMM_GEMM_EXTENT_H

#include "pyquant/exec.h"

/* Bytes from the first to behind the last element of a matrix of at least one row; false if that is
 * no valid size. */
static inline bool pq_gemm_extent(size_t rows, size_t columns, size_t ld, size_t element,
                                  size_t *bytes) {
    size_t count;
    return pq_mul_size(rows - 1, ld, &count) && count <= PTRDIFF_MAX &&
           columns <= PTRDIFF_MAX - count && pq_mul_size(count + columns, element, bytes) &&
           *bytes <= PTRDIFF_MAX;
}

#endif
