#ifndef PYQUANT_ELEMENTWISE_TABLE_S8_KERNEL_H
#define PYQUANT_ELEMENTWISE_TABLE_S8_KERNEL_H

#include <stddef.h>
#include <stdint.h>

struct pq_table_s8_kernel {
    /* n elements; y may be x. */
    void (*run)(size_t n, const int8_t *x, const int8_t table[256], int8_t *y);
};

extern const struct pq_table_s8_kernel pq_table_s8_ref, pq_table_s8_avx2, pq_table_s8_avx512,
    pq_table_s8_neon;

#endif
