/* GEMM: the weights are packed once, when the program is made. */
#include "engine/op_gemm.h"
#include "engine/attrs.h"
#include "pyquant/gemm.h"

static const pq_engine_range ranges[PQ_GEMM_ATTRS] = {
    [PQ_GEMM_N] = PQ_ENGINE_RANGE_COUNT,         [PQ_GEMM_K] = PQ_ENGINE_RANGE_COUNT,
    [PQ_GEMM_X_ZERO_POINT] = PQ_ENGINE_RANGE_S8, [PQ_GEMM_ZERO_POINT] = PQ_ENGINE_RANGE_S16,
    [PQ_GEMM_QUANT_MIN] = PQ_ENGINE_RANGE_S16,   [PQ_GEMM_QUANT_MAX] = PQ_ENGINE_RANGE_S16,
};

static pq_gemm_pack_args pack_args(const pq_engine_check *check) {
    const int64_t *attrs = check->instruction->attrs;
    return (pq_gemm_pack_args){
        .n = (size_t)attrs[PQ_GEMM_N],
        .k = (size_t)attrs[PQ_GEMM_K],
        .w = pq_engine_constant(check, GEMM_W),
        .bias = pq_engine_constant(check, GEMM_BIAS),
        .multiplier = pq_engine_constant(check, GEMM_MULTIPLIER),
        .shift = pq_engine_constant(check, GEMM_SHIFT),
        .x_zero_point = (int32_t)attrs[PQ_GEMM_X_ZERO_POINT],
        .y_type = (pq_dtype)pq_engine_output(check)->dtype,
        .out = pq_engine_clamp(&attrs[PQ_GEMM_ZERO_POINT]),
    };
}

pq_status pq_engine_gemm_validate(const pq_engine_check *check, int64_t row_size) {
    const int64_t *attrs = check->instruction->attrs;
    const int64_t n = attrs[PQ_GEMM_N], k = attrs[PQ_GEMM_K];
    const int64_t x_size = pq_engine_input(check, GEMM_X)->size;
    int64_t size;
    if (!pq_engine_multiply(n, k, &size)) {
        return pq_engine_reject(check, "n * k is too large");
    }
    pq_status status = pq_engine_expect_size(check, GEMM_W, n * row_size);
    if (status) {
        return status;
    }
    for (int slot = GEMM_BIAS; slot <= GEMM_SHIFT; slot++) {
        if (pq_engine_input(check, slot) != NULL) {
            status = pq_engine_expect_size(check, slot, n);
            if (status) {
                return status;
            }
        }
    }
    if (x_size % k != 0) {
        return pq_engine_reject(check, "expected input 0 of rows x %lld elements, got %lld",
                                (long long)k, (long long)x_size);
    }
    if (!pq_engine_multiply(x_size / k, n, &size)) {
        return pq_engine_reject(check, "rows * n is too large");
    }
    status = pq_engine_expect_output(check, size);
    if (status) {
        return status;
    }
    const bool raw = pq_engine_output(check)->dtype == PQ_S32;
    if ((pq_engine_input(check, GEMM_MULTIPLIER) == NULL) != raw ||
        (pq_engine_input(check, GEMM_SHIFT) == NULL) != raw) {
        return pq_engine_reject(check, "multiplier and shift go with an s8 or s16 output, and an "
                                       "s32 output has neither");
    }
    if (raw &&
        (attrs[PQ_GEMM_ZERO_POINT] || attrs[PQ_GEMM_QUANT_MIN] || attrs[PQ_GEMM_QUANT_MAX])) {
        return pq_engine_reject(check,
                                "zero_point, quant_min and quant_max must be 0 with an s32 output");
    }
    return PQ_OK;
}

static pq_status validate(const pq_engine_check *check) {
    const pq_status status = pq_engine_gemm_validate(check, check->instruction->attrs[PQ_GEMM_K]);
    if (status) {
        return status;
    }
    pq_engine_probe probe;
    pq_engine_probe_init(&probe);
    const pq_gemm_pack_args args = pack_args(check);
    return pq_engine_adopt(check, &probe, pq_gemm_s8s8_check(&probe.exec, &args));
}

static pq_status prepare(const pq_engine_check *check, void **prepared) {
    const pq_gemm_pack_args args = pack_args(check);
    pq_gemm_weights *weights = NULL;
    const pq_status status = pq_gemm_s8s8_pack(check->exec, &args, &weights);
    *prepared = weights;
    return status;
}

void pq_engine_gemm_release(void *prepared) {
    pq_gemm_weights_free(prepared);
}

size_t pq_engine_gemm_workspace(const pq_engine_step *step) {
    return pq_gemm_workspace(step->exec, step->prepared);
}

pq_status pq_engine_gemm_execute(const pq_engine_step *step) {
    const size_t n = (size_t)step->instruction->attrs[PQ_GEMM_N];
    const size_t k = (size_t)step->instruction->attrs[PQ_GEMM_K];
    const pq_value *x = &step->values[step->instruction->inputs[GEMM_X]];
    return pq_gemm_s8s8_in(step->exec, pq_engine_elements(x, step->batch) / k, step->inputs[GEMM_X],
                           k, step->prepared, step->output, n, step->workspace,
                           step->workspace_size);
}

void pq_engine_gemm_work(const pq_engine_step *step, pq_engine_work *work) {
    const pq_value *y = &step->values[step->instruction->output];
    work->macs = pq_engine_elements(y, step->batch) * (uint64_t)step->instruction->attrs[PQ_GEMM_K];
}

const pq_engine_op pq_engine_gemm = {
    .ranges = ranges,
    .range_count = PQ_GEMM_ATTRS,
    .inputs = {{PQ_ENGINE_S8, false},
               {PQ_ENGINE_S8, true},
               {PQ_ENGINE_S32, true},
               {PQ_ENGINE_S32, true},
               {PQ_ENGINE_U8, true}},
    .output = {PQ_ENGINE_S8_S16 | PQ_ENGINE_S32, false},
    .packed = 1u << GEMM_W | 1u << GEMM_BIAS | 1u << GEMM_MULTIPLIER | 1u << GEMM_SHIFT,
    .validate = validate,
    .execute = pq_engine_gemm_execute,
    .prepare = prepare,
    .release = pq_engine_gemm_release,
    .workspace = pq_engine_gemm_workspace,
    .work = pq_engine_gemm_work,
    .fusions = pq_engine_gemm_fusions,
    .fusion_count = PQ_GEMM_FUSIONS,
};
