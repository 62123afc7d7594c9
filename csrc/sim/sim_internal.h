/* The two crossings that every sim function makes, with their scratch memory. */
#ifndef PYQUANT_SIM_INTERNAL_H
#define PYQUANT_SIM_INTERNAL_H

#include "pyquant/exec.h"
#include "pyquant/types.h"

static inline pq_dtype pq_sim_type(pq_affine affine) {
    return affine.quant_min >= INT8_MIN && affine.quant_max <= INT8_MAX ? PQ_S8 : PQ_S16;
}

static inline pq_clamp pq_sim_clamp(pq_affine affine) {
    return (pq_clamp){affine.zero_point, affine.quant_min, affine.quant_max};
}

/* *block of count * size bytes; PQ_ERR_NOMEM also where the product does not fit. */
PQ_NODISCARD pq_status pq_sim_alloc(const pq_exec *exec, const char *op, size_t count, size_t size,
                                    void **block);

/* Allocates *q and quantizes n values into it; the caller frees *q on every path. */
PQ_NODISCARD pq_status pq_sim_recover(const pq_exec *exec, const char *op, size_t n, const float *x,
                                      pq_affine affine, void **q);

PQ_NODISCARD pq_status pq_sim_dequantize(const pq_exec *exec, size_t n, const void *q,
                                         pq_affine affine, float *x);

/* The product of sizes, or PQ_ERR_OVERFLOW. */
PQ_NODISCARD pq_status pq_sim_count(const pq_exec *exec, const char *op, size_t a, size_t b,
                                    size_t c, size_t *count);

#endif
