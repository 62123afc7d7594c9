#ifndef PYQUANT_ELEMENTWISE_ADD_KERNEL_H
#define PYQUANT_ELEMENTWISE_ADD_KERNEL_H

#include "pyquant/elementwise.h"

struct pq_add_kernel {
    /* n contiguous elements of each operand: the constants come from args, the data does not. y may
     * be a or b where the types agree. */
    void (*run)(const pq_add_args *args, size_t n, const void *a, const void *b, void *y);
};

extern const struct pq_add_kernel pq_add_ref, pq_add_avx2, pq_add_avx512, pq_add_neon;

#endif
