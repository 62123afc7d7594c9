/* What follows a product on each block of it (pq_gemm_epilogue), with its rules checked and its
 * kernels chosen. */
#ifndef PYQUANT_GEMM_GEMM_EPILOGUE_H
#define PYQUANT_GEMM_GEMM_EPILOGUE_H

#include "elementwise/add_kernel.h"
#include "elementwise/table_s8_kernel.h"
#include "gemm/gemm_s8s8_kernel.h"

typedef struct pq_gemm_finish {
    const pq_gemm_epilogue *epilogue; /* NULL: nothing follows */
    const struct pq_table_s8_kernel *table;
    const struct pq_add_kernel *add;
    pq_dtype y_type;
} pq_gemm_finish;

/* Checks the epilogue (NULL allowed) on y of m x n and its operands. */
PQ_NODISCARD pq_status pq_gemm_epilogue_check(const pq_exec *exec, const pq_gemm_weights *weights,
                                              const pq_gemm_epilogue *epilogue, size_t m,
                                              const void *y, size_t ldy);

pq_gemm_finish pq_gemm_finish_of(const pq_gemm_weights *weights, const pq_gemm_epilogue *epilogue);

/* Bytes of one thread's product block; 0 where the product is made in y. */
size_t pq_gemm_product_size(const pq_gemm_weights *weights, const pq_gemm_epilogue *epilogue);

/* Runs the product and what follows on the block of y at (row, block->column_begin): `block` holds
 * x, sizes and where y begins. */
void pq_gemm_finish_run(const pq_gemm_finish *finish, const pq_gemm_weights *weights,
                        const pq_gemm_block *block, size_t row, void *workspace, void *product);

#endif
