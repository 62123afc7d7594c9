#include "pyquant/attention.h"

#include "pyquant/layout.h"
#include "pyquant/quantize.h"
#include "pyquant/sim.h"
#include "sim/sim_internal.h"

static const char op[] = "sim_attention";

/* The strided float array `x` as a contiguous one. pq_copy moves 4-byte elements without looking
 * at them, so it may move floats as PQ_S32. */
static pq_status pack(const pq_exec *exec, const size_t dims[4], const ptrdiff_t strides[4],
                      const float *x, size_t count, void **packed) {
    pq_copy_args copy = {.type = PQ_S32, .ndim = 4, .x = x, .x_size = 1};
    for (int i = 0; i < 4; i++) {
        copy.dims[i] = dims[i];
        copy.strides[i] = strides[i];
        copy.x_size += (dims[i] - 1) * (size_t)(strides[i] < 0 ? 0 : strides[i]);
    }
    const pq_status status = pq_sim_alloc(exec, op, count, sizeof(float), packed);
    if (status != PQ_OK) {
        return status;
    }
    copy.y = *packed;
    return pq_copy(exec, &copy);
}

/* Whether the array fills its memory without a gap, in some order of its three outer axes:
 * what a transposed view of [batch, len, heads, d] does. */
static bool is_dense(const size_t dims[4], const ptrdiff_t strides[3]) {
    size_t expected = dims[3];
    bool done[3] = {dims[0] == 1, dims[1] == 1, dims[2] == 1};
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++) {
            if (!done[i] && strides[i] >= 0 && (size_t)strides[i] == expected) {
                done[i] = true;
                expected *= dims[i];
            }
        }
    }
    return done[0] && done[1] && done[2];
}

/* One operand as s8: *q (freed by the caller) and its strides. Dense memory is quantized as it
 * lies, without a copy; anything else is packed first. */
static pq_status recover(const pq_exec *exec, const size_t dims[4], const ptrdiff_t strides[3],
                         const float *x, pq_affine affine, void **q, pq_strides *q_strides) {
    size_t rows = 0, count = 0;
    pq_status status = pq_sim_count(exec, op, dims[0], dims[1], dims[2], &rows);
    if (status != PQ_OK || (status = pq_sim_count(exec, op, rows, dims[3], 1, &count)) != PQ_OK) {
        return status;
    }
    if (count == 0 || is_dense(dims, strides)) {
        *q_strides = (pq_strides){.batch = strides[0], .head = strides[1], .token = strides[2]};
        return pq_sim_recover(exec, op, count, x, affine, q);
    }
    void *packed = NULL;
    const ptrdiff_t all[4] = {strides[0], strides[1], strides[2], 1};
    status = pack(exec, dims, all, x, count, &packed);
    if (status == PQ_OK) {
        status = pq_sim_recover(exec, op, count, packed, affine, q);
        q_strides->token = (ptrdiff_t)dims[3];
        q_strides->head = (ptrdiff_t)(dims[2] * dims[3]);
        q_strides->batch = (ptrdiff_t)(dims[1] * dims[2] * dims[3]);
    }
    pq_free(packed);
    return status;
}

/* Fills the mask operands of `args` from the additive float mask. Broadcast axes (stride 0) stay
 * broadcast: only what is different is converted. */
static pq_status derive_masks(const pq_exec *exec, const pq_sim_attention_args *sim,
                              pq_attention_args *args, void **mask_add, void **keep) {
    const size_t full[4] = {sim->batch, sim->heads, sim->q_len, sim->k_len};
    size_t dims[4], count = 1;
    ptrdiff_t strides[4];
    for (int i = 3; i >= 0; i--) {
        dims[i] = sim->mask_strides[i] == 0 ? 1 : full[i];
        strides[i] = dims[i] == 1 ? 0 : (ptrdiff_t)count;
        if (!pq_mul_size(count, dims[i], &count)) {
            return pq_fail(exec, PQ_ERR_OVERFLOW, "%s: expected a mask that fits in memory", op);
        }
    }
    void *packed = NULL;
    bool any_add = false, any_excluded = false;
    pq_status status = pack(exec, dims, sim->mask_strides, sim->mask, count, &packed);
    if (status != PQ_OK ||
        (status = pq_sim_alloc(exec, op, count, sizeof(int32_t), mask_add)) != PQ_OK ||
        (status = pq_sim_alloc(exec, op, count, sizeof(uint8_t), keep)) != PQ_OK ||
        (status = pq_derive_mask(exec, count, packed, sim->q_q.scale, sim->k_q.scale,
                                 sim->softmax_scale, *mask_add, *keep, &any_add, &any_excluded)) !=
            PQ_OK) {
        goto done;
    }
    args->mask_add = any_add ? *mask_add : NULL;
    args->keep = any_excluded ? *keep : NULL;
    for (int i = 0; i < 4; i++) {
        args->mask_strides[i == 0 ? 0 : i + 1] = strides[i];
        args->keep_strides[i == 0 ? 0 : i + 1] = strides[i];
    }
done:
    pq_free(packed);
    return status;
}

pq_status pq_sim_attention(const pq_exec *exec, const pq_sim_attention_args *sim) {
    const size_t q_dims[4] = {sim->batch, sim->heads, sim->q_len, sim->head_dim};
    const size_t k_dims[4] = {sim->batch, sim->kv_heads, sim->k_len, sim->head_dim};
    void *q = NULL, *k = NULL, *v = NULL, *y = NULL, *mask_add = NULL, *keep = NULL;
    int32_t exponentials[PQ_SOFTMAX_ENTRIES_MAX];
    size_t rows = 0, count = 0;
    pq_attention_args args = {.batch = sim->batch,
                              .groups = 1,
                              .heads = sim->heads,
                              .kv_heads = sim->kv_heads,
                              .q_len = sim->q_len,
                              .k_len = sim->k_len,
                              .head_dim = sim->head_dim,
                              .q_zero_point = sim->q_q.zero_point,
                              .k_zero_point = sim->k_q.zero_point,
                              .v_zero_point = sim->v_q.zero_point,
                              .causal = sim->causal,
                              .out = pq_sim_clamp(sim->y_q)};
    /* pq_derive_attention checks the grids. The mask counts whatever is in it: the constants may
     * not depend on which samples share a batch. */
    pq_status status =
        pq_derive_attention(exec, &sim->method, sim->q_q, sim->k_q, sim->v_q, sim->y_q,
                            sim->softmax_scale, sim->head_dim, sim->k_len, sim->mask != NULL,
                            exponentials, &args.softmax, &args.requant);
    if (status == PQ_OK && sim->keep != NULL && sim->mask != NULL) {
        status = pq_fail(exec, PQ_ERR_VALUE, "%s: expected keep or mask, got both", op);
    }
    if (status != PQ_OK ||
        (status = pq_sim_count(exec, op, sim->batch, sim->heads, sim->q_len, &rows)) != PQ_OK ||
        (status = pq_sim_count(exec, op, rows, sim->head_dim, 1, &count)) != PQ_OK || count == 0) {
        goto done;
    }
    if ((status = recover(exec, q_dims, sim->q_strides, sim->q, sim->q_q, &q, &args.q_strides)) !=
            PQ_OK ||
        (status = recover(exec, k_dims, sim->k_strides, sim->k, sim->k_q, &k, &args.k_strides)) !=
            PQ_OK ||
        (status = recover(exec, k_dims, sim->v_strides, sim->v, sim->v_q, &v, &args.v_strides)) !=
            PQ_OK ||
        (status = pq_sim_alloc(exec, op, count, sizeof(int8_t), &y)) != PQ_OK) {
        goto done;
    }
    if (sim->keep != NULL) {
        args.keep = sim->keep;
        for (int i = 0; i < 4; i++) {
            args.keep_strides[i == 0 ? 0 : i + 1] = sim->keep_strides[i];
        }
    }
    if (sim->mask != NULL && sim->k_len != 0 &&
        (status = derive_masks(exec, sim, &args, &mask_add, &keep)) != PQ_OK) {
        goto done;
    }
    args.q = q;
    args.k = k;
    args.v = v;
    args.y = y;
    args.y_strides.token = (ptrdiff_t)sim->head_dim;
    args.y_strides.head = (ptrdiff_t)(sim->q_len * sim->head_dim);
    args.y_strides.batch = (ptrdiff_t)(sim->heads * sim->q_len * sim->head_dim);
    if ((status = pq_attention_s8(exec, &args)) == PQ_OK) {
        status = pq_sim_dequantize(exec, count, y, sim->y_q, sim->y);
    }
done:
    pq_free(keep);
    pq_free(mask_add);
    pq_free(y);
    pq_free(v);
    pq_free(k);
    pq_free(q);
    return status;
}
