/* What a variant of transpose is: one tile of pq_copy whose rows become columns. */
#ifndef PYQUANT_LAYOUT_TRANSPOSE_KERNEL_H
#define PYQUANT_LAYOUT_TRANSPOSE_KERNEL_H

#include <stddef.h>

struct pq_transpose_kernel {
    /* y[r][c] = x[c][r] of elements of `size` bytes (1, 2, 4 or 8), r < rows, c < columns. Elements
     * of a row follow each other in both; rows of x are x_step bytes apart (any sign), of y y_step.
     * Nothing is aligned, nothing overlaps. An element of y may be written twice. */
    void (*run)(size_t size, size_t rows, size_t columns, const char *x, ptrdiff_t x_step, char *y,
                ptrdiff_t y_step);
};

extern const struct pq_transpose_kernel pq_transpose_ref, pq_transpose_avx2, pq_transpose_avx512,
    pq_transpose_neon;

#endif
