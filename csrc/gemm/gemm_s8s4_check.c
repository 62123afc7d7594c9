/* The rules that the constants of a gemm with s4 weights must keep. */
#include "gemm/gemm_pack.h"
#include "gemm/gemm_s8s4_kernel.h"

static const char op[] = "gemm_s8s4";

static pq_status check_sizes(const pq_exec *exec, const pq_gemm_s8s4_pack_args *args) {
    size_t size;
    if (!pq_mul_size(args->n, args->k, &size) || size > PTRDIFF_MAX) {
        return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: n * k = %zu * %zu is too large", op, args->n,
                       args->k);
    }
    if (size > 0 && args->w == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: w is NULL", op);
    }
    if (args->group_size % 4 != 0) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected group_size to be 0 or a multiple of 4, got %zu", op,
                       args->group_size);
    }
    if (args->group_size == 0 ? args->group_multiplier != NULL
                              : args->group_multiplier == NULL && size > 0) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: group_multiplier goes with a group_size, and is absent without", op);
    }
    return PQ_OK;
}

/* In uint64: 255 * 255 * 8 * k stays below 2^63 for k < 2^43, and there is no more memory. */
static pq_status check_column(const pq_exec *exec, const pq_gemm_s8s4_pack_args *args,
                              const pq_gemm_pack_args *common, size_t j) {
    const size_t k = args->k;
    const uint8_t *row = args->w + j * pq_s4_row_size(k);
    if (k % 2 != 0 && row[k / 2] >> 4 != 0) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: column %zu: expected 0 in the half byte behind the last weight, got %d",
                       op, j, row[k / 2] >> 4);
    }
    const size_t groups = args->group_size == 0 ? 1 : pq_s4_groups(k, args->group_size);
    uint64_t size = 0;
    for (size_t g = 0; g < groups; g++) {
        const size_t begin = g * args->group_size;
        const size_t end =
            args->group_size == 0 || k - begin < args->group_size ? k : begin + args->group_size;
        const uint64_t factor = args->group_size == 0 ? 1 : args->group_multiplier[j * groups + g];
        if (factor == 0) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: column %zu: expected group_multiplier in [1, 255], got 0", op, j);
        }
        uint64_t sum = 0;
        for (size_t p = begin; p < end; p++) {
            const int w = pq_s4_get(row, p);
            sum += (uint64_t)(w < 0 ? -w : w);
        }
        size += factor * sum;
    }
    return pq_gemm_check_accumulator(exec, op, common, j, size);
}

pq_gemm_pack_args pq_gemm_s8s4_common(const pq_gemm_s8s4_pack_args *args) {
    return (pq_gemm_pack_args){.n = args->n,
                               .k = args->k,
                               .bias = args->bias,
                               .multiplier = args->multiplier,
                               .shift = args->shift,
                               .x_zero_point = args->x_zero_point,
                               .y_type = args->y_type,
                               .out = args->out};
}

pq_status pq_gemm_s8s4_check(const pq_exec *exec, const pq_gemm_s8s4_pack_args *args) {
    const pq_gemm_pack_args common = pq_gemm_s8s4_common(args);
    pq_status status = check_sizes(exec, args);
    if (status == PQ_OK) {
        status = pq_gemm_check_constants(exec, op, &common);
    }
    if (args->k == 0) { /* there is no w to look at, only the bias */
        for (size_t j = 0; status == PQ_OK && j < args->n; j++) {
            status = pq_gemm_check_accumulator(exec, op, &common, j, 0);
        }
        return status;
    }
    for (size_t j = 0; status == PQ_OK && j < args->n; j++) {
        status = check_column(exec, args, &common, j);
    }
    return status;
}
