/* How a product is cut: from cache sizes when weights are packed, from m and the threads in a call.
 * The cut never shows in the result. */
#ifndef PYQUANT_GEMM_GEMM_PLAN_H
#define PYQUANT_GEMM_GEMM_PLAN_H

#include "gemm/gemm_s8s8_kernel.h"

/* The largest blocks of `kernel` for weights of n x k on this machine. */
pq_gemm_blocking pq_gemm_blocking_of(const struct pq_gemm_s8s8_kernel *kernel, size_t n, size_t k);

typedef struct pq_gemm_plan {
    size_t rows, columns; /* of a block */
    size_t row_blocks, column_blocks;
    size_t grain; /* blocks worth handing to a thread */
} pq_gemm_plan;

/* For m > 0 and n > 0. max_columns >= column_tile: a bound on the columns of a block besides that
 * of the blocking. */
pq_gemm_plan pq_gemm_plan_of(const pq_gemm_weights *weights, size_t m, size_t max_columns,
                             int threads);

#endif
