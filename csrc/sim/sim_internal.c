#include "sim/sim_internal.h"

#include "pyquant/quantize.h"

pq_status pq_sim_alloc(const pq_exec *exec, const char *op, size_t count, size_t size,
                       void **block) {
    size_t bytes = 0;
    *block = pq_mul_size(count, size, &bytes) ? pq_alloc(bytes) : NULL;
    if (*block == NULL) {
        return pq_fail(exec, PQ_ERR_NOMEM, "%s: no memory for %zu elements of %zu bytes", op, count,
                       size);
    }
    return PQ_OK;
}

static pq_quantize_args per_tensor(size_t n, const pq_affine *affine) {
    return (pq_quantize_args){.n = n,
                              .q_type = pq_sim_type(*affine),
                              .scale = &affine->scale,
                              .channels = 1,
                              .inner = 1,
                              .zero_point = affine->zero_point,
                              .quant_min = affine->quant_min,
                              .quant_max = affine->quant_max};
}

pq_status pq_sim_recover(const pq_exec *exec, const char *op, size_t n, const float *x,
                         pq_affine affine, void **q) {
    const pq_status status = pq_sim_alloc(exec, op, n, pq_dtype_size(pq_sim_type(affine)), q);
    if (status != PQ_OK) {
        return status;
    }
    const pq_quantize_args args = per_tensor(n, &affine);
    return pq_quantize_f32(exec, &args, x, *q);
}

pq_status pq_sim_dequantize(const pq_exec *exec, size_t n, const void *q, pq_affine affine,
                            float *x) {
    const pq_quantize_args args = per_tensor(n, &affine);
    return pq_dequantize_f32(exec, &args, q, x);
}

pq_status pq_sim_count(const pq_exec *exec, const char *op, size_t a, size_t b, size_t c,
                       size_t *count) {
    size_t ab = 0;
    if (!pq_mul_size(a, b, &ab) || !pq_mul_size(ab, c, count)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected %zu * %zu * %zu elements to fit in memory", op, a, b, c);
    }
    return PQ_OK;
}
