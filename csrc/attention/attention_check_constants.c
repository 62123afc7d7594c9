#include "attention/attention_check.h"

#include <inttypes.h>

#include "attention/attention_s8_kernel.h"
#include "core/operands.h"

/* P <= pmax follows from T[j] <= 2 * pmax, and L >= pmax from T[0] = 2 * pmax: a row that has a key
 * never divides by 0. */
static pq_status check_table(const pq_exec *exec, const pq_softmax *softmax) {
    int32_t limit;
    switch (softmax->method) {
    case PQ_SOFTMAX_TABLE16: limit = 16383; break;
    case PQ_SOFTMAX_TABLE8: limit = 255; break;
    default:
        return pq_fail(exec, PQ_ERR_VALUE, "attention_s8: expected a softmax method, got %d",
                       (int)softmax->method);
    }
    if (softmax->pmax < 1 || softmax->pmax > limit) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "attention_s8: expected 1 <= pmax <= %" PRId32 ", got %" PRId32, limit,
                       softmax->pmax);
    }
    if (softmax->table[0] != 2 * softmax->pmax) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "attention_s8: expected table[0] = 2 * pmax = %" PRId32 ", got %d",
                       2 * softmax->pmax, softmax->table[0]);
    }
    for (int j = 1; j < PQ_SOFTMAX_TABLE_SIZE; j++) {
        if (softmax->table[j] > softmax->table[j - 1]) {
            return pq_fail(exec, PQ_ERR_VALUE,
                           "attention_s8: expected a table that does not rise, got table[%d] = %d "
                           "after %d",
                           j, softmax->table[j], softmax->table[j - 1]);
        }
    }
    return PQ_OK;
}

static pq_status check_index(const pq_exec *exec, const pq_softmax *softmax) {
    if (softmax->shift < 1 || softmax->shift > 31) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "attention_s8: expected 1 <= softmax shift <= 31, got %" PRId32,
                       softmax->shift);
    }
    if (softmax->multiplier == 0 && softmax->delta_max != 0) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "attention_s8: expected delta_max = 0 for a softmax multiplier of 0, got "
                       "%" PRIu32,
                       softmax->delta_max);
    }
    const uint64_t product = (uint64_t)softmax->delta_max * softmax->multiplier;
    const uint64_t half = UINT64_C(1) << (softmax->shift - 1);
    if (product > UINT32_MAX - half) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "attention_s8: expected delta_max * multiplier + 2^(shift-1) < 2^32, got "
                       "%" PRIu32 " * %" PRIu32 " + 2^%" PRId32,
                       softmax->delta_max, softmax->multiplier, softmax->shift - 1);
    }
    return PQ_OK;
}

static pq_status check_accumulators(const pq_exec *exec, const pq_attention_args *args) {
    const int32_t above = 127 - args->v_zero_point, below = args->v_zero_point + 128;
    const uint64_t each = (uint64_t)(above > below ? above : below) * (uint64_t)args->softmax.pmax;
    if (args->k_len > (size_t)INT32_MAX / each) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "attention_s8: expected k_len * pmax * max|v - zero_point| < 2^31, got "
                       "%zu * %" PRId32 " * %" PRId32,
                       args->k_len, args->softmax.pmax, above > below ? above : below);
    }
    /* s_r grows with L; at L = 1 it is shift itself */
    const uint32_t most = (uint32_t)args->softmax.pmax * (uint32_t)args->k_len;
    const pq_dyadic last = pq_attention_normalizer(args->requant, most == 0 ? 1 : most);
    if (last.shift > 62) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "attention_s8: expected a requantization of at most 62 bits, got shift %d, "
                       "which is %d for a row sum of %" PRIu32,
                       args->requant.shift, last.shift, most);
    }
    return PQ_OK;
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
        status = check_table(exec, &args->softmax);
    }
    if (status == PQ_OK) {
        status = check_index(exec, &args->softmax);
    }
    return status == PQ_OK ? check_accumulators(exec, args) : status;
}
