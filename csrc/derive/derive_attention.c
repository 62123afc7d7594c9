#include <stdatomic.h>

#include "derive/derive_internal.h"
#include "pyquant/derive.h"
#include "softmax/softmax_method.h"

#define HEAD_DIM_MAX 32767
/* Below this an additive float mask means "excluded": -inf, and what frameworks write for it. */
#define MASK_EXCLUDED (-1e30)
#define MASK_RANGE 65536

pq_status pq_derive_attention(const pq_exec *exec, const pq_method *method, pq_affine q,
                              pq_affine k, pq_affine v, pq_affine y, double softmax_scale,
                              size_t head_dim, size_t keys, bool has_mask, int32_t *exponentials,
                              pq_softmax *softmax, pq_dyadic *requant) {
    static const char op[] = "derive_attention";
    static const char *const names[] = {"q", "k", "v", "y"};
    const pq_affine grids[] = {q, k, v, y};
    for (int i = 0; i < 4; i++) {
        const pq_status status = pq_affine_s8_check(exec, op, names[i], grids[i]);
        if (status != PQ_OK) {
            return status;
        }
    }
    if (!(softmax_scale > 0.0) || isinf(softmax_scale)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected a finite softmax_scale > 0, got %g", op,
                       softmax_scale);
    }
    if (head_dim > HEAD_DIM_MAX) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected head_dim <= %d, got %zu", op, HEAD_DIM_MAX,
                       head_dim);
    }
    pq_softmax out;
    const double unit = (double)q.scale * (double)k.scale * softmax_scale;
    const uint64_t delta_bound =
        UINT64_C(2) * 255 * 128 * head_dim + (has_mask ? UINT64_C(2) * PQ_MASK_ADD_LIMIT : 0);
    const size_t key_count = keys == 0 ? 1 : keys;
    const int above = 127 - v.zero_point, below = v.zero_point + 128;
    const int vmax = above > below ? above : below; /* over int8: at least 128 */
    pq_status status = pq_derive_softmax(exec, op, method, unit, delta_bound, key_count, vmax,
                                         exponentials, &out);
    if (status != PQ_OK) {
        return status;
    }
    pq_dyadic ratio;
    status = pq_derive_dyadic(exec, (double)v.scale / (double)y.scale, &ratio);
    if (status != PQ_OK) {
        return status;
    }
    /* The longest row decides the largest shift of the normalisation; attention.h wants <= 62. */
    const pq_dyadic last =
        pq_softmax_normalizer(ratio, (uint32_t)pq_softmax_divisor_most(&out, key_count));
    if (last.shift > 62) {
        return pq_fail(exec, PQ_ERR_OVERFLOW,
                       "%s: expected v_scale / y_scale of at least 2^%d for %zu keys, got %g", op,
                       last.shift - ratio.shift - 32, keys,
                       (double)v.scale / (double)y.scale);
    }
    *softmax = out;
    *requant = ratio;
    return PQ_OK;
}

enum { FOUND_ADD = 1, FOUND_EXCLUDED = 2, FOUND_NAN = 4 };

typedef struct mask_task {
    const float *mask;
    double alpha;
    int32_t *mask_add;
    uint8_t *keep;
    atomic_uint found; /* an or of what the ranges found: the same in any order */
} mask_task;

static void mask_values(void *argument, size_t begin, size_t end, int slot) {
    mask_task *task = argument;
    unsigned found = 0;
    (void)slot;
    for (size_t i = begin; i < end; i++) {
        const double value = (double)task->mask[i];
        const bool keep = value > MASK_EXCLUDED; /* false for NaN */
        const double add = keep ? value / task->alpha : 0.0;
        task->keep[i] = keep;
        task->mask_add[i] = (int32_t)pq_rne_clamp(add, -PQ_MASK_ADD_LIMIT, PQ_MASK_ADD_LIMIT);
        found |= (task->mask_add[i] != 0 ? FOUND_ADD : 0U) | (keep ? 0U : FOUND_EXCLUDED) |
                 (isnan(value) ? FOUND_NAN : 0U);
    }
    atomic_fetch_or(&task->found, found);
}

pq_status pq_derive_mask(const pq_exec *exec, size_t n, const float *mask, float q_scale,
                         float k_scale, double softmax_scale, int32_t *mask_add, uint8_t *keep,
                         bool *any_add, bool *any_excluded) {
    static const char op[] = "derive_mask";
    pq_status status = pq_scale_check(exec, op, "q_scale", q_scale);
    if (status == PQ_OK) {
        status = pq_scale_check(exec, op, "k_scale", k_scale);
    }
    if (status != PQ_OK) {
        return status;
    }
    if (!(softmax_scale > 0.0) || isinf(softmax_scale)) {
        return pq_fail(exec, PQ_ERR_VALUE, "%s: expected a finite softmax_scale > 0, got %g", op,
                       softmax_scale);
    }
    mask_task task = {.mask = mask,
                      .alpha = (double)q_scale * (double)k_scale * softmax_scale,
                      .mask_add = mask_add,
                      .keep = keep};
    atomic_init(&task.found, 0);
    if (!(task.alpha > 0.0)) {
        return pq_fail(exec, PQ_ERR_VALUE,
                       "%s: expected q_scale * k_scale * softmax_scale > 0, got %g", op,
                       task.alpha);
    }
    status = exec->parallel_for(exec, n, MASK_RANGE, mask_values, &task);
    if (status != PQ_OK) {
        return status;
    }
    const unsigned found = atomic_load(&task.found);
    if (found & FOUND_NAN) {
        size_t i = 0;
        while (!isnan(mask[i])) {
            i++;
        }
        return pq_fail(exec, PQ_ERR_NAN, "%s: mask[%zu] is NaN", op, i);
    }
    *any_add = (found & FOUND_ADD) != 0;
    *any_excluded = (found & FOUND_EXCLUDED) != 0;
    return PQ_OK;
}
