#include "attention/attention_check.h"

#include <inttypes.h>

#include "core/operands.h"
#include "softmax/softmax_method.h"

static pq_status check_accumulators(const pq_exec *exec, const pq_attention_args *args) {
    const pq_softmax *softmax = &args->softmax;
    const size_t keys = args->k_len == 0 ? 1 : args->k_len;
    const int32_t above = 127 - args->v_zero_point, below = args->v_zero_point + 128;
    const int32_t vmax = above > below ? above : below;
    if (args->k_len != 0 &&
        pq_softmax_weights_most(softmax, keys) > (uint64_t)(INT32_MAX / vmax)) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "attention_s8: expected (sum of weights) * max|v - zero_point| < 2^31, got "
                       "up to %" PRIu64 " * %" PRId32 " for k_len = %zu and pmax = %" PRId32,
                       pq_softmax_weights_most(softmax, keys), vmax, args->k_len, softmax->pmax);
    }
    const uint32_t most = args->k_len == 0 ? 1 : (uint32_t)pq_softmax_divisor_most(softmax, keys);
    return pq_softmax_check_requant(exec, "attention_s8", args->requant, most);
}

pq_status pq_attention_check_constants(const pq_exec *exec, const pq_attention_args *args) {
    static const char op[] = "attention_s8";
    const char *const operands[] = {"q", "k", "v"};
    const int32_t zero_points[] = {args->q_zero_point, args->k_zero_point, args->v_zero_point};
    pq_status status = PQ_OK;
    for (int i = 0; i < 3 && status == PQ_OK; i++) {
        status = pq_zero_point_check(exec, op, operands[i], PQ_S8, zero_points[i]);
    }
    if (status == PQ_OK) {
        status = pq_dyadic_check(exec, op, args->requant);
    }
    if (status == PQ_OK) {
        status = pq_clamp_check(exec, op, PQ_S8, args->out);
    }
    if (status == PQ_OK) {
        status = pq_softmax_check(exec, op, &args->softmax, args->k_len);
    }
    return status == PQ_OK ? check_accumulators(exec, args) : status;
}
