/* What the reference kernels share: the end of a column, and that they need no workspace. */
#ifndef PYQUANT_GEMM_GEMM_REF_H
#define PYQUANT_GEMM_GEMM_REF_H

#include "gemm/gemm_s8s8_kernel.h"
#include "pyquant/rnu.h"

/* Accumulator acc, bias included, of row i of the block and column j, to y. */
static inline void pq_gemm_ref_finish(const pq_gemm_weights *weights, const pq_gemm_block *block,
                                      size_t i, size_t j, int64_t acc) {
    const size_t index = i * block->ldy + j - block->column_begin;
    if (weights->y_type == PQ_S32) {
        ((int32_t *)block->y)[index] = (int32_t)acc;
        return;
    }
    const int32_t value =
        pq_requantize(acc, weights->plain_multiplier[j], weights->plain_shift[j], weights->out);
    if (weights->y_type == PQ_S8) {
        ((int8_t *)block->y)[index] = (int8_t)value;
    } else {
        ((int16_t *)block->y)[index] = (int16_t)value;
    }
}

static inline size_t pq_gemm_ref_workspace(const pq_gemm_blocking *blocking) {
    (void)blocking;
    return 0;
}

#endif
