#ifndef PYQUANT_ELEMENTWISE_MEAN_KERNEL_H
#define PYQUANT_ELEMENTWISE_MEAN_KERNEL_H

#include "pyquant/elementwise.h"

struct pq_mean_kernel {
    /* Columns [inner_begin, inner_end) of outer index `outer`, of checked arguments. */
    void (*run)(const pq_mean_args *args, size_t outer, size_t inner_begin, size_t inner_end);
};

extern const struct pq_mean_kernel pq_mean_ref, pq_mean_avx2, pq_mean_avx512, pq_mean_neon;

#endif
