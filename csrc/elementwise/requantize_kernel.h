#ifndef PYQUANT_ELEMENTWISE_REQUANTIZE_KERNEL_H
#define PYQUANT_ELEMENTWISE_REQUANTIZE_KERNEL_H

#include "pyquant/elementwise.h"

struct pq_requantize_kernel {
    /* Elements [begin, end) of checked arguments; y may be x where the types agree. */
    void (*run)(const pq_requantize_args *args, size_t begin, size_t end);
};

extern const struct pq_requantize_kernel pq_requantize_ref, pq_requantize_avx2,
    pq_requantize_avx512, pq_requantize_neon;

#endif
