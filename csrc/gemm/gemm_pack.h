/* What packing is for every type of weights: the memory, and the constants of a column.
 *
 * A packing function checks its arguments, allocates, calls pq_gemm_pack_column for each column,
 * and fills the panels in its own layout. */
#ifndef PYQUANT_GEMM_GEMM_PACK_H
#define PYQUANT_GEMM_GEMM_PACK_H

#include "gemm/gemm_s8s8_kernel.h"

/* One zeroed block (padding is columns and k of zeros) with everything that the struct points to,
 * each 64-byte aligned: ceil(n / column_tile) panels of panel_size bytes, extra_size bytes for what
 * the kernel wants besides, and the arrays of columns. Of args it reads n, k, x_zero_point, y_type
 * and out. NULL if it does not fit in memory. */
pq_gemm_weights *pq_gemm_allocate(const struct pq_gemm_s8s8_kernel *kernel,
                                  const pq_gemm_pack_args *args, size_t panel_size,
                                  size_t extra_size);

/* Bias, compensation and requantization of column j; weight_sum is the sum of its weights, as the
 * accumulator counts them. Of args it reads bias, multiplier, shift, x_zero_point and y_type. */
void pq_gemm_pack_column(pq_gemm_weights *weights, const pq_gemm_pack_args *args, size_t j,
                         int64_t weight_sum);
/* All columns of s8 weights. */
void pq_gemm_pack_columns(pq_gemm_weights *weights, const pq_gemm_pack_args *args);

/* The rules that do not depend on the type of weights. Of args they read n, bias, multiplier,
 * shift, x_zero_point, y_type and out; `op` begins the sentence. */
PQ_NODISCARD pq_status pq_gemm_check_constants(const pq_exec *exec, const char *op,
                                               const pq_gemm_pack_args *args);
/* That no accumulator of column j can leave int32; weight_size is the sum of |w|, below 2^55. */
PQ_NODISCARD pq_status pq_gemm_check_accumulator(const pq_exec *exec, const char *op,
                                                 const pq_gemm_pack_args *args, size_t j,
                                                 uint64_t weight_size);

#endif
