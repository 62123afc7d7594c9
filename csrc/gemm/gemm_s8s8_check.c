/* The rules that the constants of a gemm must keep. */
#include <inttypes.h>

#include "core/byte_sums.h"
#include "gemm/gemm_pack.h"

#define ACC_MAX INT64_C(2147483647)

static pq_status check_clamp(const pq_exec *exec, const char *op, const pq_gemm_pack_args *args) {
    const int32_t low = args->y_type == PQ_S8 ? INT8_MIN : INT16_MIN;
    const int32_t high = args->y_type == PQ_S8 ? INT8_MAX : INT16_MAX;
    const pq_clamp out = args->out;
    if (out.quant_min < low || out.quant_max > high) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected quant_min and quant_max in [%" PRId32 ", %" PRId32
                       "], got %" PRId32 " and %" PRId32,
                       op, low, high, out.quant_min, out.quant_max);
    }
    if (out.zero_point < out.quant_min || out.zero_point > out.quant_max) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected quant_min <= zero_point <= quant_max, got %" PRId32
                       " <= %" PRId32 " <= %" PRId32,
                       op, out.quant_min, out.zero_point, out.quant_max);
    }
    return PQ_OK;
}

static pq_status check_requantization(const pq_exec *exec, const char *op,
                                      const pq_gemm_pack_args *args) {
    if (args->n > 0 && (args->multiplier == NULL || args->shift == NULL)) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: multiplier and shift may be absent for s32 output only", op);
    }
    for (size_t j = 0; j < args->n; j++) {
        if (args->multiplier[j] < INT32_C(1) << 30) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "%s: column %zu: expected multiplier in [2^30, 2^31), got %" PRId32, op,
                           j, args->multiplier[j]);
        }
        if (args->shift[j] < 1 || args->shift[j] > 62) {
            return pq_fail(exec, PQ_ERR_VALUE, "%s: column %zu: expected shift in [1, 62], got %d",
                           op, j, args->shift[j]);
        }
    }
    return check_clamp(exec, op, args);
}

pq_status pq_gemm_check_constants(const pq_exec *exec, const char *op,
                                  const pq_gemm_pack_args *args) {
    if (args->y_type != PQ_S8 && args->y_type != PQ_S16 && args->y_type != PQ_S32) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected an output of s8, s16 or s32, got type %d",
                       op, (int)args->y_type);
    }
    if (args->x_zero_point < INT8_MIN || args->x_zero_point > INT8_MAX) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected x_zero_point in [-128, 127], got %" PRId32, op,
                       args->x_zero_point);
    }
    return args->y_type == PQ_S32 ? PQ_OK : check_requantization(exec, op, args);
}

pq_status pq_gemm_check_accumulator(const pq_exec *exec, const char *op,
                                    const pq_gemm_pack_args *args, size_t j,
                                    uint64_t weight_size) {
    const int64_t bias = args->bias == NULL ? 0 : args->bias[j];
    const uint64_t bound = (uint64_t)(bias < 0 ? -bias : bias) + 255 * weight_size;
    if (bound > ACC_MAX) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: column %zu: expected |bias| + 255 * sum |w| <= 2^31 - 1, got %" PRIu64,
                       op, j, bound);
    }
    return PQ_OK;
}

/* With k = 0 the array may be NULL, to which not even 0 may be added. */
static const int8_t *row_of(const pq_gemm_pack_args *args, size_t j) {
    return args->k == 0 ? NULL : args->w + j * args->k;
}

/* In uint64: |w| <= 128 and k < 2^54 keep 255 * sum below 2^63, and there is no more memory. */
static pq_status check_accumulators(const pq_exec *exec, const char *op,
                                    const pq_gemm_pack_args *args) {
    for (size_t j = 0; j < args->n; j++) {
        uint64_t size;
        (void)pq_byte_sums(args->k, row_of(args, j), &size);
        const pq_status status = pq_gemm_check_accumulator(exec, op, args, j, size);
        if (status != PQ_OK) {
            return status;
        }
    }
    return PQ_OK;
}

pq_status pq_gemm_s8s8_check(const pq_exec *exec, const pq_gemm_pack_args *args) {
    static const char op[] = "gemm_s8s8";
    size_t size;
    if (!pq_mul_size(args->n, args->k, &size) || size > PTRDIFF_MAX) {
        return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: n * k = %zu * %zu is too large", op, args->n,
                       args->k);
    }
    if (size > 0 && args->w == NULL) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: w is NULL", op);
    }
    const pq_status status = pq_gemm_check_constants(exec, op, args);
    return status != PQ_OK ? status : check_accumulators(exec, op, args);
}
